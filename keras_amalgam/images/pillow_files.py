"""Image files that Pillow reads, as the library takes them."""

import io
import struct
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "HEIF",  # Of the package pillow-heif, once it is registered.
    "JPEG",
    "JPEG2000",
    "MPO",
    "PNG",
    "PPM",
    "QOI",
    "TIFF",
    "WEBP",
)
"""Raster images that people have, which their first bytes tell from other files."""

UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for files that are damaged, or not images."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = ("1", "L", "LA", "La")


def extensions() -> tuple[str, ...]:
    """The endings of files of our formats, such as `".jpg"`, in lower case, sorted."""
    of_floats = {".pfm"}
    registered = Image.registered_extensions().items()
    return tuple(sorted({end for end, name in registered if name in FORMATS} - of_floats))


def opened(stream: IO[bytes]) -> Image.Image:
    """An image whose pixels are not decoded yet.

    Args:
        stream: An open file.

    Raises:
        ValueError: If it is of none of our formats, visibly damaged, or has pixels of no known
            range.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(stream, formats=formats)
    except UnidentifiedImageError as error:
        raise ValueError("Pillow does not know its format.") from error
    except UNREADABLE as error:
        raise ValueError(str(error)) from error
    if _tiff_tag(image, "SampleFormat", 1) == 2:
        raise ValueError(
            "Pixels must be without sign. Received: a TIFF image of signed numbers, whose range "
            "is not known. Convert it to unsigned 8 or 16 bits."
        )
    if image.mode in ("I", "F") and not _has_16_bits(image):
        raise ValueError(
            "Pixels of 32 bits have no known range. Received: a "
            f"{image.format} image of Pillow's mode {image.mode!r}. Convert it to 8 or 16 bits."
        )
    return image


def pixels_of(content: bytes) -> np.ndarray:
    """The pixels of an image, the right way up: of the first, where a file holds several.

    Args:
        content: A file's bytes.

    Returns:
        Shape `(height, width, 1 or 3)`, uint8, without alpha. Of more than eight bits, such as 12
        or 16, the upper eight are taken.

    Raises:
        ValueError: If it is no image, is damaged, or has pixels of no known range.
    """
    image = opened(io.BytesIO(content))
    has_16_bits = _has_16_bits(image)
    bits = _tiff_tag(image, "BitsPerSample", 16)
    white_is_zero = _tiff_tag(image, "PhotometricInterpretation", 1) == 0
    try:
        image = upright(image)
    except UNREADABLE as error:
        raise ValueError(str(error)) from error
    image.info.pop("transparency", None)  # It is dropped, and Pillow would warn of it.
    if has_16_bits:  # Pillow would cut off what is above 255.
        pixels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        # Pillow turns only images of eight bits.
        pixels = 255 - pixels if white_is_zero else pixels
    else:
        pixels = np.asarray(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def upright(image: Image.Image) -> Image.Image:
    """An image as its EXIF orientation says; as it is stored, where its EXIF is damaged.

    Not `ImageOps.exif_transpose`: that writes the other tags anew, and fails where one is damaged.

    Raises:
        OSError, SyntaxError, ValueError and others, all in `UNREADABLE`: If its pixels are damaged.
    """
    image.load()
    turn = _TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def orientation_of(image: Image.Image) -> int:
    """How the camera was held, as EXIF says, 1 to 8; 1, upright, where it is damaged or missing.

    Of an image that is not loaded it reads what stands before the pixels.
    """
    # Of XMP, which Pillow asks where EXIF is silent, browsers and our graphs know nothing.
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)
    try:
        # Not a PNG's own method, which decodes all pixels to find what may stand behind them.
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except UNREADABLE:
        return 1


def _has_16_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.format, image.mode) == ("PPM", "I")


def _tiff_tag(image: Image.Image, name: str, default: int) -> int:
    """A number of a TIFF file, of its first channel; the default of other files and without it."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    value = default if tags is None else tags.get(ExifTags.Base[name], default)
    return int(value[0] if isinstance(value, tuple) else value)
