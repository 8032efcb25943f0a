"""Image files: listing, a cheap check, decoding in the graph with errors that name the file."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_amalgam.images.decoding import JPEG_START, PNG_START, decoder
from keras_amalgam.images.folders import walk
from keras_amalgam.images.pillow_files import opened, pixels_of

# First bytes of a format, and the bytes that end a complete file. Of others, Pillow reads the head.
_FORMATS = {
    "JPEG": ((JPEG_START,), b"\xff\xd9"),
    "PNG": ((PNG_START,), b"IEND\xaeB`\x82"),
    "GIF": ((b"GIF87a", b"GIF89a"), b"\x3b"),
}


def list_images(
    path: str | os.PathLike[str],
    recursive: bool = True,
    tell: Callable[[str], Any] | None = None,
) -> list[Path]:
    """The image files of a folder, sorted; each has passed the check of its first and last bytes.

    Warns, by name, of what may be images and cannot be reached.

    Args:
        path: The folder, searched as by `walk`.
        recursive: Whether its sub-folders are searched too.
        tell: Called with a sentence on what was passed over, if anything was.

    Raises:
        ValueError: If the folder is missing or holds no image file, or a file is no image or cut
            off.
    """
    found = walk(path, recursive)
    found.refuse_empty()
    found.warn()
    for file in found.files:
        check_file(file)
    if tell and (note := found.note()):
        tell(note)
    return found.files


def check_file(file: Path) -> None:
    """Raises if a file is visibly no image or cut off; reads a few bytes only, unless in doubt.

    Raises:
        ValueError: Naming the file.
    """
    with file.open("rb") as stream:
        head = stream.read(32)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 16))
        tail = stream.read()
        for name, (starts, end) in _FORMATS.items():
            if head.startswith(starts):
                # Some cameras append data to a whole picture, so only decoding can tell.
                if end not in tail:
                    _check_decodes(file, f"{size} bytes that begin as {name} and do not end so")
                return
        stream.seek(0)
        try:
            image = opened(stream)
        except ValueError as error:
            if head.startswith(b"BM"):
                _check_decodes(file, f"{size} bytes that begin as BMP")
            raise ValueError(
                f"Image file '{file}' is not an image. Received: {size} bytes beginning with "
                f"{head[:8]!r}. {error} Convert or remove it."
            ) from error
        if image.format == "BMP" and int.from_bytes(head[2:6], "little") > size:
            _check_decodes(file, f"{size} bytes of a BMP that names more")


def _check_decodes(file: Path, received: str) -> None:
    try:
        pixels_of(file.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"Image file '{file}' is truncated or corrupt. Received: {received}. Copy it again or "
            "remove it."
        ) from error


def decode_files(files: Sequence[Path], channels: int) -> tf.data.Dataset:
    """Unbatched `uint8` images `(None, None, channels)` of some files, in their order.

    A file that cannot be decoded ends the iteration with an error naming it. TensorFlow's own error
    does not know the file; so elements carry their number, failed ones are passed over, and the
    first gap in the numbers is the failed file.

    Args:
        files: Paths of files of any kind that `decoding.decode` reads.
        channels: 1 for grey, 3 for RGB.
    """
    names = tf.constant([os.fsencode(file) for file in files])
    count, decoded_as = len(files), decoder(channels)

    def numbered(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return number, decoded_as(tf.io.read_file(names[number]))

    def check(expected: tf.Tensor, element: tuple[tf.Tensor, tf.Tensor]):
        number, image = element
        name = names[tf.minimum(expected, count - 1)]
        message = tf.strings.join(["Image file '", name, "' is corrupt: it cannot be decoded."])
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(number, expected), [message])]):
            return expected + 1, tf.identity(image)

    # One element after the last, so that a failure of the last file leaves a gap too.
    end = (tf.constant(count, tf.int64), tf.zeros((1, 1, channels), tf.uint8))
    decoded = tf.data.Dataset.range(count).map(numbered, num_parallel_calls=tf.data.AUTOTUNE)
    whole = decoded.ignore_errors().concatenate(tf.data.Dataset.from_tensors(end))
    images = whole.scan(tf.constant(0, tf.int64), check).take(count)
    return images.apply(tf.data.experimental.assert_cardinality(count))
