"""From a batch of encoded images to the student's logits, inside the graph."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_amalgam.export.signatures import Signature, describe, outputs_of, serving_function

MAX_PIXELS = 2**26
"""Largest image that is decoded: a few kilobytes can unfold to gigabytes."""

GREY, RGB, CMYK = 1, 3, 4  # Components of a pixel.

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 24  # The signature, and the first chunk as far as width and height.


def encoded_function(
    model: keras.Model, signature: Signature, resized_to: tuple[int, int] | None
) -> Callable[[Any], dict[str, Any]]:
    """The function from JPEG or PNG bytes, shape `(batch,)`, to `{head: float32 tensor}`.

    Images of different sizes can stand in one batch: each is decoded and brought to one size by
    the model's own resizing, and only then are they stacked. A model of fixed size has no resizing;
    for it images of another size are resized bilinearly. What is no image, or is corrupt, or has
    more than `MAX_PIXELS`, is an `InvalidArgumentError`.

    Args:
        model: A model that computes in float32.
        signature: Its interface.
        resized_to: `(height, width)` that images are brought to; `None` for a model that
            `resizes_itself`.
    """
    import tensorflow as tf

    if resized_to is None:
        front, rest, shape = _split(model)
    else:
        resize = keras.layers.Resizing(*resized_to, interpolation="bilinear", dtype="float32")
        front = functools.partial(resize, training=False)
        rest, shape = model, (*resized_to, signature.image_shape[2])
    serve = serving_function(rest, signature)

    def one(content: Any) -> Any:
        image = _decode(content, signature.image_shape[2])
        return front(tf.cast(image, tf.float32)[tf.newaxis])[0]

    def encoded(image: Any) -> dict[str, Any]:
        stacked = tf.map_fn(one, image, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        return serve(stacked)

    return encoded


def resizes_itself(model: keras.Model) -> bool:
    """Whether a model brings images of any size to one size, before all else it does with them."""
    if None not in describe(model).image_shape[:2]:
        return False
    return _split(model) is not None


def _split(model: keras.Model) -> Any:
    """What brings one image to a fixed size, the model behind that, and the shape between them."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], outputs_of(model), name=model.name)
    for tensor in _tensors_of_fixed_size(model):
        try:
            rest = keras.Model(tensor, model.output)
            front = keras.Model(model.inputs[0], tensor)
        except ValueError:  # Not all of the image's information goes through it.
            continue
        return functools.partial(front, training=False), rest, tuple(tensor.shape[1:])
    return None


def _tensors_of_fixed_size(model: keras.Model) -> list[Any]:
    """Maps in the model's own graph with known height and width, in order."""
    found = []
    for operation in model.operations:
        try:
            tensor = operation.output
        except (AttributeError, ValueError):  # Used at several places, or in none.
            continue
        is_map = isinstance(tensor, keras.KerasTensor) and len(tensor.shape) == 4
        if is_map and None not in tensor.shape[1:]:
            found.append(tensor)
    return found


def _decode(content: Any, channels: int) -> Any:
    """One uint8 image, shape `(height, width, channels)`."""
    import tensorflow as tf

    is_jpeg = tf.io.is_jpeg(content)
    enough = tf.strings.length(content) >= _PNG_HEADER_BYTES
    is_png = enough & (tf.strings.substr(content, 0, len(_PNG_START)) == _PNG_START)
    with tf.control_dependencies(
        [tf.debugging.Assert(is_jpeg | is_png, ["This is neither a JPEG nor a PNG image."])]
    ):
        content = tf.identity(content)
    height, width = tf.cond(is_jpeg, lambda: _jpeg_size(content), lambda: _png_size(content))
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    fits = (pixels > 0) & (pixels <= MAX_PIXELS)
    message = ["The image has too many pixels, or none. Received:", height, width]
    with tf.control_dependencies([tf.debugging.Assert(fits, message)]):
        content = tf.identity(content)
    image = tf.cond(
        is_jpeg,
        lambda: _decode_jpeg(content, channels),
        lambda: tf.io.decode_png(content, channels),
    )
    return tf.ensure_shape(image, (None, None, channels))


def _decode_jpeg(content: Any, channels: int) -> Any:
    import tensorflow as tf

    def decoded(channels: int) -> Any:
        # The accurate method is within 1 of other decoders, the default up to 16 away.
        return tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE")

    if channels != GREY:
        return decoded(channels)
    # The decoder makes grey of colours, but not of the four components of a printer's.
    is_cmyk = tf.equal(tf.io.extract_jpeg_shape(content)[2], CMYK)
    return tf.cond(is_cmyk, lambda: tf.image.rgb_to_grayscale(decoded(RGB)), lambda: decoded(GREY))


def _jpeg_size(content: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    shape = tf.io.extract_jpeg_shape(content)
    return shape[0], shape[1]


def _png_size(content: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    width, height = (
        tf.io.decode_raw(tf.strings.substr(content, start, 4), tf.int32, little_endian=False)[0]
        for start in (16, 20)
    )
    return height, width
