"""What the library advises, as the flags of `keras-amalgam convert` say it."""

import re

_AS_FLAGS = (
    (r" To convert it without comparing, pass `verify=False`\.", ""),  # The command compares.
    (r"`?\binput_shape=\(height, width, channels\)`?", "--input_shape=HEIGHT,WIDTH,CHANNELS"),
    (r"`verify=False`", "--allow_difference"),
    (r"`(tolerance|input_shape|architecture|output)=?`", r"--\1"),
    (r"`output_name=`", "--output"),
    (r"(?:preprocessing\.|(?<=Set ))size=\((\d+), (\d+)\)", r"--size=\1,\2"),
    (r"\boutputs='(\w+)'", r"--outputs=\1"),
    (r"keras_amalgam\.taps\.candidates\(model\)", "keras-amalgam inspect FILE"),
)


def in_flags(message: str) -> str:
    """An error's text with the arguments of functions as flags.

    Args:
        message: Of an error of the library.
    """
    for pattern, flag in _AS_FLAGS:
        message = re.sub(pattern, flag, message)
    return message
