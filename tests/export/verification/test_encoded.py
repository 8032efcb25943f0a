"""Images as files, as verification reads them: the right way up, as JPEG or PNG."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_amalgam.export.verification import runner
from keras_amalgam.export.verification.encoded import collect
from keras_amalgam.images.pillow_files import pixels_of

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype("uint8")


def encoded(image, format, orientation=1, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format, exif=exif, **options)
    return buffer.getvalue()


def as_seen(content):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_files_are_decoded_as_a_viewer_shows_them(format, orientation):
    content = encoded(Image.fromarray(PIXELS), format, orientation)
    decoded = runner.shown(pixels_of(content), None, 3)
    assert decoded.shape == ((9, 6, 3) if orientation > 4 else (6, 9, 3))
    np.testing.assert_array_equal(decoded, as_seen(content))
    assert orientation == 1 or not np.array_equal(
        decoded, runner.shown(pixels_of(encoded(Image.fromarray(PIXELS), format)), None, 3)
    )


def test_damaged_exif_leaves_an_image_as_it_is_stored():
    plain = encoded(Image.fromarray(PIXELS), "JPEG")
    content = encoded(Image.fromarray(PIXELS), "JPEG", 6).replace(b"MM\0*", b"XX\0*")
    np.testing.assert_array_equal(runner.shown(pixels_of(content), None, 3), as_seen(plain))


@pytest.mark.parametrize("format", ["WEBP", "TIFF", "BMP", "GIF"])
def test_what_artifacts_do_not_take_becomes_a_png_of_the_same_pixels(format):
    options = {"lossless": True} if format == "WEBP" else {}
    image = Image.fromarray(PIXELS)
    content = encoded(image.convert("P") if format == "GIF" else image, format, 6, **options)
    (collected,) = collect([content], None, {}).contents
    assert Image.open(io.BytesIO(collected)).format == "PNG"
    np.testing.assert_array_equal(runner.shown(pixels_of(collected), None, 3), as_seen(content))


def test_jpeg_and_png_stay_as_they_are():
    contents = [encoded(Image.fromarray(PIXELS), format, 6) for format in ("JPEG", "PNG")]
    assert list(collect(contents, None, {}).contents) == contents
