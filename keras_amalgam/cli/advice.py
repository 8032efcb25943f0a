"""What the library advises, as the flags of a command say it."""

import re

Table = tuple[tuple[str, str], ...]

CONVERT: Table = (
    (r" To convert it without comparing, pass `verify=False`\.", ""),  # The command compares.
    (r"`?\binput_shape=\(height, width, channels\)`?", "--input_shape=HEIGHT,WIDTH,CHANNELS"),
    (r"`verify=False`", "--allow_difference"),
    (r"`(tolerance|input_shape|architecture|output)=?`", r"--\1"),
    (r"`output_name=`", "--output"),
    (r"(?:preprocessing\.|(?<=Set ))size=\((\d+), (\d+)\)", r"--size=\1,\2"),
    (r"\boutputs='(\w+)'", r"--outputs=\1"),
    (
        r"Pass Preprocessing\(…[^)]*\) without [^.]*\.",
        "Leave out --scale, --mean and --std: the network's own numbers tell what it takes.",
    ),
    (r"Leave `channels` out\.", "Leave --channels out."),
    (r"Pass Preprocessing\(…, channels='bgr'\)", "Pass --channels=bgr"),
    (r"\bchannels='(rgb|bgr)'", r"--channels=\1"),
    (r"see from_torch", "make a teacher of them in Python, with teachers.from_torch"),
    (r"keras_amalgam\.taps\.candidates\(model\)", "keras-amalgam inspect FILE"),
)


EXPORT: Table = (
    (r"`tolerance=?`", "--max_error"),
    (r"`image_shape=(\(height, width\))?`", "--size=HEIGHT,WIDTH"),
    (r"`(images|calibration|canvas|min_agreement|precision|top_k|joint|layout|opset)=?`", r"--\1"),
    (r"`class_names(=[^`]*)?`", "--classes TASK=FILE"),
)


PREDICT: Table = (
    (r"`artifact=`", "--artifact"),
    (r"`images(=)?`", "IMAGES"),
    (r"\bartifact='([^']*)'", r"--artifact=\1"),
    (r"`class_names=`", "--classes TASK=FILE"),
    (
        r"Where you would run the file as a program, pass safe_mode=False, or load the model "
        r"yourself and pass it\.",
        "Where you would run the file as a program, load the model in Python and pass it to "
        "keras_amalgam.export.predict.",
    ),
)


AMALGAMATE: Table = (
    (r"`canvas=\((\d+), (\d+), \d, '(\w+)'\)`", r"--canvas=\1,\2,\3"),
    (r"`canvas=\(height, width, channels, method\)`", "--canvas=HEIGHT,WIDTH,METHOD"),
    (r"`size=\((\d+), (\d+)\)`", r"--size=\1,\2"),
    (r"`(student|weights|ownership|dtype_policy)='([^']*)'`", r"--\1=\2"),
    (r"`batch_size(=\d+)?`", r"--batch_size\1"),
    (r"`(temperature|common_features)=([^`]*)`", r"--\1=\2"),
    (r"`method='(\w+)'`", r"--method=\1"),
    (r"`(method|ownership|temperature|common_features)`", r"--\1"),
)


RUN: Table = (
    (r"begin anew in another folder", "begin anew with --restart or in another --out"),
    (r"\banother folder\b", "another --out"),
    (r"`restart=True`", "--restart"),
    (r"`only`", "--only"),
)


def in_flags(message: str, table: Table = CONVERT) -> str:
    """An error's text with the arguments of functions as flags.

    Args:
        message: Of an error of the library.
        table: Patterns of arguments and the command's flags for them.
    """
    for pattern, flag in table:
        message = re.sub(pattern, flag, message)
    return message
