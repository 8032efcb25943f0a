"""The one decoder against Pillow, for every orientation, byte order and kind of pixels."""

import io
import itertools
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_amalgam.images import decoding
from keras_amalgam.images.pillow_files import pixels_of

ORIENTATIONS = range(1, 9)
A_FILE = tf.TensorSpec((), tf.string)

# As in a data pipeline, and quicker than one operation after another. A new seed, which every test
# sets, makes TensorFlow optimise its functions anew: so one test has many cases here.
orientation_in_graph = tf.function(decoding.exif_orientation, [A_FILE])
decode = tf.function(decoding.decode)
decode_jpeg_or_png = tf.function(decoding.decode_jpeg_or_png)


def orientation_of(content):
    return int(orientation_in_graph(tf.constant(content)))


@pytest.fixture(scope="module")
def photo():
    """Smooth, so that JPEG keeps it; no two corners alike, wider than high."""
    x, y = np.meshgrid(np.linspace(0, 255, 30), np.linspace(0, 255, 20))
    return Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], axis=-1).astype(np.uint8))


def tiff(value, *, order="<", kind=3, count=1, before=3, offset=8):
    """A TIFF directory with some tags, the orientation among them, in either byte order."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    packed = struct.pack(f"{order}HH", value, 0) if kind != 4 else struct.pack(f"{order}I", value)
    entries = [struct.pack(f"{order}HHII", 0x0100 + n, 4, 1, 7) for n in range(before)]
    entries.append(struct.pack(f"{order}HHI", 0x0112, kind, count) + packed)
    entries.append(struct.pack(f"{order}HHII", 0x0131, 2, 4, 0x41424344))
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return start + struct.pack(f"{order}I", offset) + bytes(offset - 8) + directory


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(content, *segments):
    """A JPEG with segments of its own right behind its start."""
    return content[:2] + b"".join(segments) + content[2:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(content, kind, data, *, last=False):
    """A PNG with a chunk of its own, before its pixels or behind them."""
    place = content.index(b"IEND") - 4 if last else content.index(b"IDAT") - 4
    return content[:place] + chunk(kind, data) + content[place:]


def as_seen(content, mode="RGB"):
    """What Pillow makes of it."""
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert(mode))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def assert_same_picture(image, expected, tolerance=1):
    image = np.asarray(image)
    assert image.dtype == np.uint8 and image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance


@pytest.mark.matrix
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_images_are_decoded_the_right_way_up(photo, format):
    for orientation, order in itertools.product(ORIENTATIONS, "<>"):
        content = encoded(photo, format, exif=b"Exif\0\0" + tiff(orientation, order=order))
        expected = as_seen(content)
        assert expected.shape == ((30, 20, 3) if orientation > 4 else (20, 30, 3))
        assert_same_picture(decode(tf.constant(content), 3), expected)
        if format != "WEBP":
            assert orientation_of(content) == orientation


def test_upright_is_what_pillow_does_and_keeps_the_channels():
    traced = tf.function(decoding.upright).get_concrete_function(
        tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32)
    )
    assert traced.output_shapes.as_list() == [None, None, 3]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype("uint8")
    exif = Image.Exif()
    for orientation in ORIENTATIONS:
        exif[0x0112] = orientation
        expected = as_seen(encoded(Image.fromarray(pixels), "PNG", exif=exif))
        turned = traced(tf.constant(pixels), tf.constant(orientation))
        np.testing.assert_array_equal(turned, expected, str(orientation))


def test_a_decoder_that_takes_no_heed_of_orientation_is_caught(photo):
    content = encoded(photo, "JPEG", exif=b"Exif\0\0" + tiff(3))
    with pytest.raises(AssertionError):
        assert_same_picture(tf.io.decode_jpeg(content), as_seen(content))


XMP = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>')
JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


BEFORE_EXIF = {
    "jfif": [JFIF],
    "xmp": [XMP],
    "several": [JFIF, XMP, segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))],
    "comment": [segment(0xFE, b"Exif\0\0" + tiff(2))],
    "other segment of the kind": [segment(0xE1, b"Exif\0\1" + tiff(2))],
    "filling": [b"\xff\xff\xff"],
}


def test_exif_is_found_behind_other_segments(photo):
    thumbnail = encoded(photo, "JPEG", exif=b"Exif\0\0" + tiff(4))
    exif = segment(0xE1, b"Exif\0\0" + tiff(6) + thumbnail)
    for name, before in BEFORE_EXIF.items():
        content = jpeg_with(encoded(photo, "JPEG"), *before, exif)
        assert orientation_of(content) == 6, name
        assert_same_picture(decode_jpeg_or_png(tf.constant(content), 3), as_seen(content))


def test_orientation_in_xmp_alone_is_passed_over(photo):
    plain = encoded(photo, "JPEG")
    content = jpeg_with(plain, XMP)
    assert orientation_of(content) == 1
    assert_same_picture(pixels_of(content), as_seen(plain))


def test_exif_of_a_png_is_found_before_its_pixels_and_behind_them(photo):
    for last in (False, True):
        content = png_with(encoded(photo, "PNG"), b"eXIf", tiff(8, order=">"), last=last)
        assert orientation_of(content) == 8
        assert_same_picture(decode_jpeg_or_png(tf.constant(content), 3), as_seen(content), 0)


UNUSUAL = {
    "long": tiff(6, kind=4),
    "first tag": tiff(6, before=0),
    "far directory": tiff(6, offset=4000),
    "cut off behind the orientation": tiff(6)[: 8 + 2 + 4 * 12],
}


def test_unusual_exif_is_read(photo):
    jpeg, png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    for name, exif in UNUSUAL.items():
        assert orientation_of(jpeg_with(jpeg, segment(0xE1, b"Exif\0\0" + exif))) == 6, name
        assert orientation_of(png_with(png, b"eXIf", exif)) == 6, name


DAMAGED = {
    "empty": b"",
    "no tags": b"II*\0" + struct.pack("<IH", 8, 0),
    "zero": tiff(0),
    "nine": tiff(9),
    "of another type": tiff(6, kind=7),
    "two values": tiff(6, count=2),
    "cut off in the header": tiff(6)[:6],
    "cut off before the tag": tiff(6)[:30],
    "directory beyond the end": b"II*\0" + struct.pack("<I", 2**32 - 1) + tiff(6)[8:],
    "more tags than there are": b"II*\0" + struct.pack("<IH", 8, 65535),
    "neither byte order": b"XX" + tiff(6)[2:],
    "not a TIFF": b"II+\0" + tiff(6)[4:],
}


def test_damaged_exif_means_upright(photo):
    jpeg, png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    for name, exif in DAMAGED.items():
        damaged = jpeg_with(jpeg, segment(0xE1, b"Exif\0\0" + exif))
        for plain, content in {jpeg: damaged, png: png_with(png, b"eXIf", exif)}.items():
            assert orientation_of(content) == 1, name
            assert_same_picture(decode(tf.constant(content), 3), as_seen(plain))


CUT_OFF = [
    b"",
    b"\xff\xd8\xff",
    b"\xff\xd8\xff\xe1",
    b"\xff\xd8\xff\xe1\xff\xffExif\0\0",
    b"\xff\xd8" + b"\xff\xe1\0\0" * 100,
    b"\xff\xd8" + b"\xff" * 100_000,
    b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIDAT",
    b"\x89PNG\r\n\x1a\n" + b"\x7f\xff\xff\xffeXIfII*\0",
    b"\x89PNG\r\n\x1a\n" + bytes(300_000),
    b"GIF89a",
]


def test_files_that_end_anywhere_have_no_orientation():
    for content in CUT_OFF:
        assert orientation_of(content) == 1, content[:20]


def test_random_damage_never_fails_and_agrees_with_pillow():
    rng = np.random.default_rng(0)
    black = encoded(Image.new("L", (2, 1)), "JPEG")
    compared = 0
    for _ in range(300):
        exif = bytearray(tiff(int(rng.integers(1, 9)), order=rng.choice(["<", ">"])))
        for place in rng.integers(0, len(exif), rng.integers(0, 3)):
            exif[place] = rng.choice([0, 1, 2, 3, 7, 255])
        content = jpeg_with(black, segment(0xE1, b"Exif\0\0" + bytes(exif)))
        found = orientation_of(content)
        assert 1 <= found <= 8
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damaged EXIF.
            try:
                expected = Image.open(io.BytesIO(content)).getexif().get(0x0112, 1)
            except (SyntaxError, struct.error):
                continue
        compared += 1
        assert found == (expected if expected in ORIENTATIONS else 1), bytes(exif).hex()
    assert compared > 200


@pytest.mark.matrix
@pytest.mark.parametrize("channels", [1, 3, None])
@pytest.mark.parametrize("decoder", [decode, decode_jpeg_or_png], ids=["any", "jpeg or png"])
def test_png_pixels_of_all_kinds_are_pillows(photo, channels, decoder):
    for kind in ("L", "LA", "RGB", "RGBA", "P", "1"):
        content = encoded(photo.convert(kind), "PNG")
        colours = np.asarray(photo.convert(kind).convert("RGB"))
        grey = channels == 1 or (channels is None and kind in ("L", "LA", "1"))
        expected = np.asarray(Image.fromarray(colours).convert("L"))[..., None] if grey else colours
        assert_same_picture(decoder(tf.constant(content), channels), expected)


def test_transparency_of_a_palette_is_dropped(photo):
    content = encoded(photo.convert("P"), "PNG", transparency=bytes(range(256)))
    expected = np.asarray(photo.convert("P").convert("RGB"))
    assert_same_picture(decode(tf.constant(content), 3), expected, 0)
    assert_same_picture(decode(tf.constant(content)), expected, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_pixels_of_all_kinds_are_pillows(photo, channels):
    for kind in ("L", "RGB", "CMYK"):
        content = encoded(photo.convert(kind), "JPEG", quality=95)
        expected = as_seen(content, "RGB" if channels == 3 else "L")
        assert_same_picture(decode(tf.constant(content), channels), expected)


def test_sixteen_bits_become_their_upper_byte():
    values = np.random.default_rng(0).integers(0, 2**16, (20, 30)).astype("uint16")
    expected = (values >> 8).astype("uint8")[..., None]
    for format in ("PNG", "TIFF", "JPEG2000", "PPM"):
        content = encoded(Image.fromarray(values), format)
        np.testing.assert_array_equal(decode(tf.constant(content)), expected, format)
        np.testing.assert_array_equal(pixels_of(content), expected, format)
        np.testing.assert_array_equal(
            decode(tf.constant(content), 3), np.repeat(expected, 3, -1), format
        )


def grey_tiff(values, bits, white_is_zero=False, signed=False):
    """An uncompressed TIFF image of one channel, as cameras and scanners write it."""
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        packed = [[a >> 4, (a & 15) << 4 | b >> 8, b & 255] for a, b in pairs]
        content = np.array(packed, np.uint8).tobytes()
    else:
        content = values.astype(f"<u{bits // 8}").tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1}
    tags |= {273: 0, 277: 1, 278: height, 279: len(content), 339: 2 if signed else 1}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


# Twelve bits from white to black Pillow does not read.
@pytest.mark.matrix
@pytest.mark.parametrize(
    ("bits", "white_is_zero"), [(8, False), (8, True), (12, False), (16, False), (16, True)]
)
def test_grey_of_any_depth_spans_black_to_white(bits, white_is_zero):
    values = np.linspace(0, 2**bits - 1, 40).astype("uint16").reshape(4, 10)
    expected = (values >> (bits - 8)).astype("uint8")[..., None]
    expected = 255 - expected if white_is_zero else expected
    content = grey_tiff(values, bits, white_is_zero)
    np.testing.assert_array_equal(pixels_of(content), expected)
    np.testing.assert_array_equal(decode(tf.constant(content)), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_with_a_sign_are_refused(bits):
    content = grey_tiff(np.ones((4, 10), "uint16"), bits, signed=True)
    with pytest.raises(ValueError, match="without sign. Received: a TIFF image of signed"):
        pixels_of(content)


@pytest.mark.parametrize("channels", [1, 3])
def test_other_formats_are_read_by_pillow(photo, channels):
    for format in ("BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI", "PPM"):
        content = encoded(photo, format)
        expected = Image.open(io.BytesIO(content)).convert("RGB")
        expected = np.asarray(expected.convert("RGB" if channels == 3 else "L"))
        image = decode(tf.constant(content), channels)
        assert_same_picture(image, expected.reshape(20, 30, channels))


def test_a_bitmap_of_sixteen_bits_and_one_with_a_palette_have_their_colours(photo):
    palette = encoded(photo.convert("P"), "BMP")
    assert_same_picture(decode(tf.constant(palette), 3), as_seen(palette), 0)
    values = np.arange(4, dtype="<u2").reshape(2, 2) * 0x1234 & 0x7FFF  # Five bits a colour.
    head = struct.pack("<2sIHHI", b"BM", 54 + 8, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 2, -2, 1, 16, 0, 8, 0, 0, 0, 0)
    content = head + info + values.tobytes()
    five = np.stack([values >> 10 & 31, values >> 5 & 31, values & 31], axis=-1)
    assert_same_picture(decode(tf.constant(content), 3), five * 255 // 31)


def test_the_first_of_several_pictures_is_taken(photo):
    other = Image.eval(photo, lambda value: 255 - value)
    for format in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if format == "WEBP" else {}
        content = encoded(photo, format, save_all=True, append_images=[other], **options)
        assert_same_picture(decode(tf.constant(content), 3), as_seen(content))


def test_pixels_without_a_known_range_are_refused():
    for mode, said in (("I", "must be without sign"), ("F", "32 bits have no known range")):
        content = encoded(Image.new(mode, (4, 4), 70_000), "TIFF")
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            decode(tf.constant(content), 3)


@pytest.mark.parametrize("decoder", [decode, decode_jpeg_or_png], ids=["any", "jpeg or png"])
def test_what_is_no_image_is_refused(decoder):
    for content in (b"", b"<html>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"BM"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder(tf.constant(content), 3)


@pytest.mark.slow
def test_jpeg_and_png_are_decoded_in_a_saved_model_without_this_package(photo, tmp_path):
    content = encoded(photo, "JPEG", exif=b"Exif\0\0" + tiff(6))
    module = tf.Module()
    module.decode = tf.function(lambda content: decoding.decode_jpeg_or_png(content, 3), [A_FILE])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    (tmp_path / "photo.jpg").write_bytes(content)
    program = (
        "import numpy, sys, tensorflow as tf\n"
        "image = tf.saved_model.load('saved').decode(tf.io.read_file('photo.jpg'))\n"
        "numpy.save('image.npy', image.numpy())\n"
        "assert 'keras_amalgam' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    assert_same_picture(np.load(tmp_path / "image.npy"), as_seen(content))
