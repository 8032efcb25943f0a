"""oneDNN, TensorFlow's faster kernels on processors, which it leaves off on some of them.

TensorFlow reads the environment variable once, when it is imported. The kernels round otherwise
than TensorFlow's own, so nothing that compares numbers may mix the two: a process that another one
starts takes over what that one has.
"""

import logging
import os
import sys

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

_said = False


def prefer_onednn() -> None:
    """Turn oneDNN on for a TensorFlow that is not imported yet, unless the user has chosen."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(VARIABLE, "1")


def uses_onednn() -> bool:
    """Whether this process's TensorFlow computes with oneDNN, as TensorFlow itself says."""
    # TensorFlow has no public question for this; its own tests ask so.
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()


def say_if_off() -> None:
    """Say once in a process that training on this processor could be faster, and how.

    Nothing is said on a GPU, where oneDNN is on, where the user has chosen, and on machines whose
    TensorFlow has no such kernels.
    """
    global _said
    if _said or VARIABLE in os.environ or not _could_be_on() or uses_onednn():
        return
    _said = True
    logging.getLogger("keras_amalgam").warning(
        "TensorFlow leaves oneDNN off on this processor; training is often 1.5 to 3 times as fast "
        "with it. Set the environment variable %s=1 before TensorFlow is imported, or %s=0 to "
        "leave it so without this line. It rounds differently, so change it between experiments "
        "only.",
        VARIABLE,
        VARIABLE,
    )


def _could_be_on() -> bool:
    import tensorflow as tf
    from tensorflow.python.util import _pywrap_util_port

    on_linux = sys.platform == "linux" and _pywrap_util_port.IsX86Available()
    return on_linux and not tf.config.list_physical_devices("GPU")
