"""Keras' global settings, put aside while layers of our own are built, converted or exported."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

FLOAT, LAYOUT = "float32", "channels_last"


@contextmanager
def keras_defaults(keep_policy: bool = False) -> Iterator[None]:
    """The settings of an untouched Keras, and afterwards the user's again.

    A layer that is not told otherwise takes its type, its layout and its input's type from what was
    last set for the whole process, in code or in `keras.json`. What this package builds must not
    depend on that, so every function that converts, reads or exports a network is decorated with
    this. Float type and layout are those of the process, not of a thread: another thread that
    builds layers meanwhile sees them, too.

    Args:
        keep_policy: Whether the dtype policy stays the user's. A student may be trained in mixed
            precision; a teacher is never rounded by it.

    Example:
    ```python
    @keras_defaults()
    def from_onnx(path): ...
    ```
    """
    # Read first: a policy that was never set is made from the float type when it is first read.
    policy = keras.config.dtype_policy()
    floatx, layout = keras.config.floatx(), keras.config.image_data_format()
    keras.config.set_floatx(FLOAT)
    keras.config.set_image_data_format(LAYOUT)
    keras.config.set_dtype_policy(policy if keep_policy else FLOAT)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(layout)
        keras.config.set_dtype_policy(policy)
