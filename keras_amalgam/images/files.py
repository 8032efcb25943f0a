"""Image files: listing, a cheap check, decoding in the graph with errors that name the file."""

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from keras_amalgam.images.canvas import to_channels

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")

# First bytes of each format, and the bytes that end a complete file (BMP has no end mark).
_FORMATS = {
    "JPEG": ((b"\xff\xd8\xff",), b"\xff\xd9"),
    "PNG": ((b"\x89PNG\r\n\x1a\n",), b"IEND\xaeB`\x82"),
    "GIF": ((b"GIF87a", b"GIF89a"), b"\x3b"),
    "BMP": ((b"BM",), None),
}


def check_folder(path: str | os.PathLike[str]) -> Path:
    """The path of an existing folder.

    Raises:
        ValueError: If there is none.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise ValueError(
            f"An image folder is needed. Received: '{folder}', where there is {what}. Give an "
            "existing folder."
        )
    return folder


def list_images(path: str | os.PathLike[str], recursive: bool = True) -> list[Path]:
    """The image files of a folder, sorted; each has passed the check of its first and last bytes.

    Args:
        path: The folder.
        recursive: Whether its sub-folders are searched too.

    Raises:
        ValueError: If the folder is missing or holds no image file, or a file is no image or cut
            off.
    """
    folder = check_folder(path)
    found = folder.rglob("*") if recursive else folder.glob("*")
    files = sorted(
        file
        for file in found
        if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        depth = "it and its sub-folders" if recursive else "it (sub-folders not searched)"
        raise ValueError(
            f"Folder '{folder}' holds no images. Received: no file in {depth} ending in one of "
            f"{', '.join(EXTENSIONS)}. Give a folder with images."
        )
    for file in files:
        check_file(file)
    return files


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
            # Some cameras append data of their own to a whole picture, so only decoding can tell.
            whole = end in tail if end is not None else _bmp_is_whole(file, head, size)
            if not whole and not _decodes(file):
                raise ValueError(
                    f"Image file '{file}' is truncated or corrupt. Received: {size} bytes that "
                    f"begin as {name} and do not end so. Copy it again or remove it."
                )
            return
    raise ValueError(
        f"Image file '{file}' is not an image. Received: {size} bytes beginning with {head[:8]!r}. "
        f"Expected one of {', '.join(_FORMATS)}. Convert or remove it."
    )


def _bmp_is_whole(file: Path, head: bytes, size: int) -> bool:
    bits_per_pixel = int.from_bytes(head[28:30], "little")
    if 0 < bits_per_pixel <= 8:
        # TensorFlow reads the numbers of the palette's colours as grey values.
        palette = file.read_bytes()[14 + int.from_bytes(head[14:18], "little") :][:1024]
        if palette != b"".join(bytes((value, value, value, 0)) for value in range(256)):
            raise ValueError(
                f"Image file '{file}' is a BMP with a palette of colours. Received: "
                f"{bits_per_pixel} bits per pixel. Expected 24 or 32, or a palette of 256 greys. "
                "Convert it to PNG."
            )
    return int.from_bytes(head[2:6], "little") <= size


def _decodes(file: Path) -> bool:
    try:
        _decode(tf.constant(file.read_bytes()))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def _decode(content: tf.Tensor) -> tf.Tensor:
    """One `uint8` image with the channels that the file has."""
    return tf.cond(
        tf.io.is_jpeg(content),
        # The accurate method is within 1 of other decoders, the default up to 6 away.
        lambda: tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(content, expand_animations=False),
    )


def decode_files(files: Sequence[Path], channels: int) -> tf.data.Dataset:
    """Unbatched `uint8` images `(None, None, channels)` of some files, in their order.

    A file that cannot be decoded ends the iteration with an error naming it. TensorFlow's own error
    does not know the file; so elements carry their number, failed ones are passed over, and the
    first gap in the numbers is the failed file.

    Args:
        files: Paths of JPEG, PNG, BMP or GIF (first frame) files.
        channels: 1 for grey, 3 for RGB.
    """
    names = tf.constant([str(file) for file in files])
    count = len(files)

    def decode(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = _decode(tf.io.read_file(names[number]))
        return number, to_channels(image, channels)

    def check(expected: tf.Tensor, element: tuple[tf.Tensor, tf.Tensor]):
        number, image = element
        name = names[tf.minimum(expected, count - 1)]
        message = tf.strings.join(["Image file '", name, "' is corrupt: it cannot be decoded."])
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(number, expected), [message])]):
            return expected + 1, tf.identity(image)

    # One element after the last, so that a failure of the last file leaves a gap too.
    end = (tf.constant(count, tf.int64), tf.zeros((1, 1, channels), tf.uint8))
    decoded = tf.data.Dataset.range(count).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    numbered = decoded.ignore_errors().concatenate(tf.data.Dataset.from_tensors(end))
    images = numbered.scan(tf.constant(0, tf.int64), check).take(count)
    return images.apply(tf.data.experimental.assert_cardinality(count))
