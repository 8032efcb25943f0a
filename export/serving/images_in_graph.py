"""From a batch of encoded images to the student's logits, inside the graph."""

from collections.abc import Callable
from typing import Any

import keras

from keras_amalgam.export.entrance import Entrance
from keras_amalgam.export.preparation import Prepared
from keras_amalgam.export.signatures import Signature, outputs_of, serving_function
from keras_amalgam.images import decoding
from keras_amalgam.images.resizing import Resize, kept_part

MAX_PIXELS = 2**26
"""Largest image that is decoded: a few kilobytes can unfold to gigabytes."""

_PNG_HEADER_BYTES = 24  # The signature, and the first chunk as far as width and height.


def encoded_function(
    model: keras.Model, signature: Signature, entrance: Entrance | None
) -> Callable[[Any], dict[str, Any]]:
    """The function from JPEG or PNG bytes, shape `(batch,)`, to `{head: float32 tensor}`.

    Images of different sizes can stand in one batch: each is decoded, turned as its EXIF
    orientation says, and brought to one size, and only then are they stacked. They are resized as
    by the data sets' canvas, bilinearly (or by the student's own filter) and antialiased, to the
    size that the student begins with, at once or behind steps per pixel; a student that begins
    with something else does that itself. What is not an image, or is corrupt, or has more than
    `MAX_PIXELS`, is an `InvalidArgumentError`.

    Args:
        model: A model that computes in float32.
        signature: Its interface.
        entrance: How photographs enter it; `None` for one that begins otherwise and
            `resizes_itself`.
    """
    import tensorflow as tf

    front, rest, shape = _split(model, entrance)
    serve = serving_function(rest, signature)

    def one(content: Any) -> Any:
        return front(_decode(content, signature.image_shape[2]))

    def encoded(image: Any) -> dict[str, Any]:
        stacked = tf.map_fn(one, image, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        return serve(stacked)

    return encoded


def resizes_itself(prepared: Prepared) -> bool:
    """Whether a model brings images of any size to one size, before all else it does with them."""
    if None not in prepared.signature.image_shape[:2]:
        return False
    return prepared.entrance is not None or _at_a_fixed_size(prepared.model) is not None


def _split(model: keras.Model, entrance: Entrance | None) -> Any:
    """What brings one image to a fixed size, the model behind that, and the shape between them."""
    if entrance is None:
        return _at_a_fixed_size(model)
    resize, rest = entrance.resize, entrance.rest
    return lambda image: _resized(image, resize), rest, (*resize.size, rest.inputs[0].shape[-1])


def _resized(image: Any, resize: Resize) -> Any:
    """What a resize makes of one image, as float32.

    TensorFlow's own operation, as the matrices of the student's graph grow with the photograph.
    """
    import tensorflow as tf

    if resize.covers:
        image = _covering_part(image, resize.full_size)
    method = resize.interpolation
    image = tf.image.resize(image, resize.full_size, method=method, antialias=True)
    top, left = (
        (full - side) // 2 for full, side in zip(resize.full_size, resize.size, strict=True)
    )
    return image[top : top + resize.size[0], left : left + resize.size[1]]


def _covering_part(image: Any, size: tuple[int, int]) -> Any:
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(image)[:2])
    kept = kept_part(tf.cast(height, tf.float32), tf.cast(width, tf.float32), *size)
    rows, columns = (tf.cast(side, tf.int32) for side in kept)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _at_a_fixed_size(model: keras.Model) -> Any:
    """As `_split`, of a model that begins otherwise: it goes as far as to the first such map."""
    import tensorflow as tf

    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], outputs_of(model), name=model.name)
    for tensor in _tensors_of_fixed_size(model):
        try:
            rest = keras.Model(tensor, model.output)
            front = keras.Model(model.inputs[0], tensor)
        except ValueError:  # Not all of the image's information goes through it.
            continue

        def in_front(image: Any, front: keras.Model = front) -> Any:
            return front(tf.cast(image, tf.float32)[tf.newaxis], training=False)[0]

        return in_front, rest, tuple(tensor.shape[1:])
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
    """One uint8 image, shape `(height, width, channels)`, once its size is known to be fit."""
    import tensorflow as tf

    is_long_enough = tf.strings.length(content) >= _PNG_HEADER_BYTES
    is_known = decoding.is_jpeg_or_png(content) & is_long_enough
    with tf.control_dependencies(
        [tf.debugging.Assert(is_known, ["This is neither a JPEG nor a PNG image."])]
    ):
        content = tf.identity(content)
    is_jpeg = tf.equal(tf.strings.substr(content, 0, len(decoding.JPEG_START)), decoding.JPEG_START)
    height, width = tf.cond(is_jpeg, lambda: _jpeg_size(content), lambda: _png_size(content))
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    fits = (pixels > 0) & (pixels <= MAX_PIXELS)
    message = ["The image has too many pixels, or none. Received:", height, width]
    with tf.control_dependencies([tf.debugging.Assert(fits, message)]):
        content = tf.identity(content)
    return decoding.decode_jpeg_or_png(content, channels)


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
