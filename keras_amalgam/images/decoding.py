"""The one decoder: from an encoded image to its pixels as they were seen, inside graphs too."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_amalgam.images.canvas import to_channels
from keras_amalgam.images.pillow_files import pixels_of

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"

MAX_PARTS = 2**12  # Of a JPEG or PNG that are looked at: a hostile file can have millions.

_EXIF_START = b"Exif\0\0"
_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9  # Second bytes of a JPEG's markers: EXIF, pixels, the end.
# Markers without a length: TEM, the eight RSTs and SOI.
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_ORIENTATION = 0x0112  # The tag in a TIFF directory, which EXIF is.
_SHORT, _LONG = 3, 4  # Types of a tag's value.
_ENTRY = 12  # Bytes of a tag.


@functools.cache
def decoder(channels: int | None = None) -> Callable[[Any], tf.Tensor]:
    """`decode` as a graph that is traced once in a process: reading EXIF takes many operations.

    Args:
        channels: As of `decode`.
    """
    spec = tf.TensorSpec((), tf.string)
    return tf.function(lambda content: decode(content, channels), input_signature=[spec])


# Control flow is written out below: to look for more of it would take three seconds.
@tf.autograph.experimental.do_not_convert
def decode(content: tf.Tensor | bytes, channels: int | None = None) -> tf.Tensor:
    """One image of any kind that the library reads, the right way up.

    JPEG and PNG files are decoded in the graph. Others are handed to Pillow in this process, so a
    graph that has to run elsewhere takes `decode_jpeg_or_png` instead.

    Args:
        content: A file's bytes, a scalar string.
        channels: 1 for grey, 3 for RGB; None for those of the file without its alpha.

    Returns:
        Shape `(height, width, channels)`, uint8. Sixteen bits become eight by their upper byte.

    Raises:
        tf.errors.InvalidArgumentError: On running, if it is no image, or is damaged.
    """
    content = tf.convert_to_tensor(content, tf.string)
    return tf.cond(
        is_jpeg_or_png(content),
        lambda: decode_jpeg_or_png(content, channels),
        lambda: _by_pillow(content, channels),
    )


@tf.autograph.experimental.do_not_convert
def decode_jpeg_or_png(content: tf.Tensor, channels: int | None = None) -> tf.Tensor:
    """One JPEG or PNG image, the right way up; of stock operations that a SavedModel can hold.

    Args:
        content: A file's bytes, a scalar string.
        channels: 1 for grey, 3 for RGB; None for those of the file without its alpha.

    Returns:
        Shape `(height, width, channels)`, uint8. Sixteen bits become eight by their upper byte.

    Raises:
        tf.errors.InvalidArgumentError: On running, if it is neither, or is damaged.
    """
    content = tf.convert_to_tensor(content, tf.string)
    is_known = tf.debugging.Assert(
        is_jpeg_or_png(content), ["This is neither a JPEG nor a PNG image."]
    )
    with tf.control_dependencies([is_known]):
        content = tf.identity(content)
    image = tf.cond(
        _starts_with(content, JPEG_START),
        # The accurate method is within 1 of other decoders, the default up to 16 away. Colours
        # become grey afterwards: the decoder cannot do it for a printer's four components.
        lambda: tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(content),
    )
    return upright(_in_channels(image, channels), exif_orientation(content))


def is_jpeg_or_png(content: tf.Tensor) -> tf.Tensor:
    """Whether a file's first bytes are those of a JPEG or PNG, a scalar truth value."""
    return _starts_with(content, JPEG_START) | _starts_with(content, PNG_START)


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image as its EXIF orientation says.

    Args:
        image: Shape `(height, width, channels)`, as stored.
        orientation: A scalar from 1 to 8, as `exif_orientation` gives it.

    Returns:
        The image as it was seen; height and width are exchanged for 5 to 8.
    """
    channels = image.shape[-1]
    steps = (
        ((5, 6, 7, 8), lambda image: tf.transpose(image, (1, 0, 2))),
        ((2, 3, 6, 7), lambda image: tf.reverse(image, [1])),
        ((3, 4, 7, 8), lambda image: tf.reverse(image, [0])),
    )
    for orientations, turned in steps:
        needed = tf.reduce_any(tf.equal(orientation, orientations))
        image = _if(needed, turned, image)
    return tf.ensure_shape(image, (None, None, channels))


def exif_orientation(content: tf.Tensor) -> tf.Tensor:
    """How the camera was held, of a JPEG's EXIF segment or a PNG's `eXIf` chunk.

    Args:
        content: A file's bytes, a scalar string.

    Returns:
        Scalar int32 from 1 to 8. 1 means upright, and stands for all that is missing, damaged or
        unknown: an orientation is a hint, and no reason to lose an image.

    Reference:
        [Exif 2.32, 4.6.5](https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf)
    """
    content = tf.convert_to_tensor(content, tf.string)
    exif = tf.cond(
        _starts_with(content, JPEG_START),
        lambda: _exif_of_jpeg(content),
        lambda: tf.cond(
            _starts_with(content, PNG_START),
            lambda: _exif_of_png(content),
            lambda: tf.constant(b""),
        ),
    )
    return _orientation_in(exif)


def _by_pillow(content: tf.Tensor, channels: int | None) -> tf.Tensor:
    image = tf.py_function(lambda content: pixels_of(content.numpy()), [content], tf.uint8)
    return _in_channels(tf.ensure_shape(image, (None, None, None)), channels)


def _in_channels(image: tf.Tensor, channels: int | None) -> tf.Tensor:
    if channels is not None:
        return to_channels(image, channels)
    given = tf.shape(image)[-1]
    return image[:, :, : given - tf.cast((given == 2) | (given == 4), tf.int32)]


def _exif_of_jpeg(content: tf.Tensor) -> tf.Tensor:
    """The EXIF block between two markers, empty if there is none before the pixels."""
    length = tf.strings.length(content)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        is_app1 = tf.reduce_all(tf.equal(_bytes(content, at, 2), (0xFF, _APP1)))
        return is_app1 & _starts_with(_piece(content, at + 4, len(_EXIF_START)), _EXIF_START)

    def following(at: tf.Tensor) -> tf.Tensor:
        first, marker, high, low = tf.unstack(_bytes(content, at, 4))
        is_filling = tf.not_equal(first, 0xFF) | tf.equal(marker, 0xFF) | tf.equal(marker, 0)
        is_short = tf.reduce_any(tf.equal(marker, _WITHOUT_LENGTH))
        is_end = tf.equal(marker, _SOS) | tf.equal(marker, _EOI)
        step = tf.where(is_end, length - at, 2 + 256 * high + low)
        return at + tf.where(is_filling, 1, tf.where(is_short, 2, step))

    at = _first_part(2, length, is_exif, following)
    size = tf.reduce_sum(_bytes(content, at + 2, 2) * (256, 1)) - 2 - len(_EXIF_START)
    return tf.cond(
        is_exif(at),
        lambda: _piece(content, at + 4 + len(_EXIF_START), size),
        lambda: tf.constant(b""),
    )


def _exif_of_png(content: tf.Tensor) -> tf.Tensor:
    """The data of the chunk `eXIf`, empty if there is none."""
    length = tf.strings.length(content)

    def size(at: tf.Tensor) -> tf.Tensor:
        high, *low = tf.unstack(_bytes(content, at, 4))
        # A chunk of 2 ** 31 bytes and more is none.
        return tf.where(high < 128, ((high * 256 + low[0]) * 256 + low[1]) * 256 + low[2], length)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        return tf.equal(_piece(content, at + 4, 4), b"eXIf")

    def following(at: tf.Tensor) -> tf.Tensor:
        # Head, data and checksum; no further than the end, where the sum could overflow.
        return at + 12 + tf.minimum(size(at), length - at)

    at = _first_part(len(PNG_START), length, is_exif, following)
    return tf.cond(is_exif(at), lambda: _piece(content, at + 8, size(at)), lambda: tf.constant(b""))


def _first_part(
    start: int,
    length: tf.Tensor,
    is_wanted: Callable[[tf.Tensor], tf.Tensor],
    following: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Where the first wanted part of a file begins, or some other place if there is none."""
    (at,) = tf.while_loop(
        lambda at: tf.logical_and(at < length, tf.logical_not(is_wanted(at))),
        lambda at: (following(at),),
        (tf.constant(start),),
        maximum_iterations=MAX_PARTS,
    )
    return at


def _orientation_in(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of a TIFF file, which is what an EXIF block is."""
    start = tf.strings.substr(exif, 0, 4)
    is_little = tf.equal(start, b"II*\0")
    is_tiff = is_little | tf.equal(start, b"MM\0*")

    def number(places: tf.Tensor) -> tf.Tensor:
        """Of bytes along the last axis."""
        weights = 256 ** np.arange(int(places.shape[-1] or 0), dtype=np.int64)
        return tf.reduce_sum(
            tf.cast(places, tf.int64) * tf.where(is_little, weights, weights[::-1]), axis=-1
        )

    length = tf.cast(tf.strings.length(exif), tf.int64)
    directory = tf.cast(tf.minimum(number(_bytes(exif, 4, 4)), length), tf.int32)
    count = tf.cast(number(_bytes(exif, directory, 2)), tf.int32)
    entries = tf.io.decode_raw(_piece(exif, directory + 2, _ENTRY * count), tf.uint8)
    whole = tf.size(entries) // _ENTRY * _ENTRY
    entries = tf.reshape(entries[:whole], (-1, _ENTRY))
    kinds = number(entries[:, 2:4])
    values = tf.where(kinds == _SHORT, number(entries[:, 8:10]), number(entries[:, 8:12]))
    are_orientations = (
        (number(entries[:, :2]) == _ORIENTATION)
        & ((kinds == _SHORT) | (kinds == _LONG))
        & (number(entries[:, 4:8]) == 1)
        & (values >= 1)
        & (values <= 8)
        & is_tiff
    )
    # The last one holds, as in Pillow, where a file has several.
    found = tf.concat([[1], tf.boolean_mask(values, are_orientations)], axis=0)
    return tf.cast(found[-1], tf.int32)


def _bytes(content: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """So many bytes as int32, zeros where the content has ended."""
    filled = tf.strings.join([_piece(content, start, count), b"\0" * count])
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(filled, tf.uint8), tf.int32)[:count], (count,))


def _piece(content: tf.Tensor, start: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """So many bytes, fewer where the content ends: the operation itself fails there."""
    start = tf.minimum(start, tf.strings.length(content))
    return tf.strings.substr(content, start, tf.maximum(count, 0))


def _starts_with(content: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(content, 0, len(start)), start)


def _if(
    condition: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor
) -> tf.Tensor:
    return tf.cond(condition, lambda: change(image), lambda: image)
