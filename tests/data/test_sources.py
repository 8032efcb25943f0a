import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_amalgam import data
from keras_amalgam.images.files import decode_files, list_images

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3)).astype("uint8")


def values(dataset):
    return list(dataset.as_numpy_iterator())


def test_from_arrays_yields_the_images_in_order_and_knows_how_many():
    images = data.from_arrays(PIXELS)
    assert int(images.cardinality()) == 5
    np.testing.assert_array_equal(values(images), PIXELS)


def test_from_arrays_takes_images_of_different_sizes():
    given = [PIXELS[0], PIXELS[1, :3], PIXELS[2, :, :1]]
    images = data.from_arrays(given)
    assert int(images.cardinality()) == 3
    assert images.element_spec == tf.TensorSpec((None, None, 3), tf.uint8)
    for image, expected in zip(values(images), given, strict=True):
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        ((PIXELS, np.zeros(5)), TypeError, "without labels"),
        (PIXELS / 255.0, ValueError, "0..1"),
        (PIXELS[..., 0], ValueError, "missing axis"),
        ([], ValueError, "no images"),
        ([PIXELS[0], PIXELS[1] / 255.0], ValueError, "image 1: .*0..1"),
        ([PIXELS[0], PIXELS[1, ..., :1]], ValueError, "uint8 with 1 channels"),
    ],
)
def test_from_arrays_refuses_what_are_not_images(images, error, says):
    with pytest.raises(error, match=says):
        data.from_arrays(images)


def test_from_tfds_yields_images_without_labels(tfds_dir):
    from_tfds = data.from_tfds("tiny", "train", tfds_dir)
    assert int(from_tfds.cardinality()) == 7
    images = np.random.default_rng(1).integers(0, 256, (7, 6, 5, 1), dtype=np.uint8)
    np.testing.assert_array_equal(values(from_tfds), images)
    np.testing.assert_array_equal(values(data.from_tfds("tiny", "train[:2]", tfds_dir)), images[:2])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tyni", "train"), r"name='tyni'.* holds \['tiny', 'tiny_unlabelled'\]"),
        (("tiny", "test"), r"split='test'. Choose one of \['train'\]"),
        (("tiny", "train[:200%]"), "Choose one of"),
        (("tiny", "train", "here", "picture"), r"image_key='picture'. .*\['image', 'label'\]"),
        (("tiny", "train", "here", "label"), "single images"),
        (("mnist", "train"), "not prepared.*download_and_prepare"),
        (("tiny", "train", "elsewhere"), "holds no data set"),
    ],
)
def test_from_tfds_names_what_there_is(tfds_dir, tmp_path, arguments, says):
    name, split, *rest = arguments
    place = tmp_path / "missing" if rest[:1] == ["elsewhere"] else tfds_dir
    with pytest.raises(ValueError, match=says):
        data.from_tfds(name, split, place, *rest[1:])


@pytest.mark.matrix
@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_files_of_all_formats_are_read_as_pillow_reads_them(image_folder, channels, mode):
    files = list_images(image_folder)
    assert len(files) == 11
    for file, image in zip(files, values(decode_files(files, channels)), strict=True):
        with Image.open(file) as opened:
            expected = np.asarray(opened.convert(mode)).reshape(20, 30, channels)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - expected).max() <= 1, file.name


def test_from_folder_yields_every_file_once_in_one_fixed_mixed_order(tmp_path):
    for number in range(40):
        Image.fromarray(np.full((2, 2), number, "uint8")).save(tmp_path / f"{number:02}.png")
    images = data.from_folder(tmp_path, channels=1)
    assert int(images.cardinality()) == 40
    order = [int(image[0, 0, 0]) for image in values(images)]
    assert sorted(order) == list(range(40)) and order != sorted(order)
    assert order == [
        int(image[0, 0, 0]) for image in values(data.from_folder(tmp_path, channels=1))
    ]


def test_from_folder_searches_sub_folders_only_if_told(image_folder):
    assert int(data.from_folder(image_folder).cardinality()) == 11
    assert int(data.from_folder(image_folder, recursive=False).cardinality()) == 7


def test_from_folder_refuses_folders_without_images(tmp_path, image_folder):
    with pytest.raises(ValueError, match="'.*missing', where there is nothing"):
        data.from_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="where there is a file"):
        data.from_folder(image_folder / "rgb.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images.*jpg"):
        data.from_folder(tmp_path / "empty")
    (tmp_path / "empty" / "sub").mkdir()
    (image_folder / "rgb.png").rename(tmp_path / "empty" / "sub" / "rgb.png")
    with pytest.raises(ValueError, match="sub-folders not searched"):
        data.from_folder(tmp_path / "empty", recursive=False)
    with pytest.raises(ValueError, match="channels=4"):
        data.from_folder(image_folder, channels=4)


@pytest.mark.parametrize("name", ["rgb.png", "sub/rgb.jpg", "sub/deep/moving.gif", "rgb.bmp"])
@pytest.mark.parametrize("kept", [12, 0.5])
def test_from_folder_names_a_truncated_file(image_folder, name, kept):
    file = image_folder / name
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(ValueError, match=f"{name}' is truncated"):
        data.from_folder(image_folder)


def test_from_folder_takes_a_whole_image_with_more_behind_it(image_folder):
    file = image_folder / "sub" / "rgb.jpg"
    file.write_bytes(file.read_bytes() + b"a short film" * 10)
    assert len(values(data.from_folder(image_folder))) == 11


def test_from_folder_names_a_file_that_is_no_image(image_folder):
    (image_folder / "page.jpg").write_text("<html>Not found</html>")
    with pytest.raises(ValueError, match="page.jpg' is not an image. .*b'<html>No'"):
        data.from_folder(image_folder)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("palette.bmp", {}),
        ("moving.webp", {"lossless": True}),
        ("page.tiff", {"compression": "tiff_deflate"}),
        ("photo.avif", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_from_folder_reads_other_formats_as_pillow_does(tmp_path, photo, name, options):
    photo.convert("P" if name == "palette.bmp" else "RGB").save(tmp_path / name, **options)
    (image,) = values(data.from_folder(tmp_path))
    with Image.open(tmp_path / name) as opened:
        np.testing.assert_array_equal(image, opened.convert("RGB"))


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.tiff"])
def test_from_folder_shows_photos_as_they_were_taken(tmp_path, photo, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / name, exif=exif)
    (image,) = values(data.from_folder(tmp_path))
    with Image.open(tmp_path / name) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert image.shape == expected.shape == (30, 20, 3)
    assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["photo.webp", "photo.avif"])
def test_from_folder_names_a_truncated_file_of_another_format(tmp_path, photo, name):
    photo.save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name}' is not an image"):
        data.from_folder(tmp_path)


def test_from_folder_names_a_file_without_a_known_range(tmp_path, photo):
    photo.convert("F").save(tmp_path / "heights.tiff")
    with pytest.raises(ValueError, match="heights.tiff.*32 bits have no known range"):
        data.from_folder(tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("place", [0, 4, 10], ids=["first", "middle", "last"])
def test_reading_names_the_file_that_is_corrupt_inside(image_folder, place, photo):
    files = [image_folder / f"copy_{number:02}.png" for number in range(11)]
    for file in files:
        photo.save(file)
    content = bytearray(files[place].read_bytes())
    content[len(content) // 2] ^= 255
    files[place].write_bytes(content)
    read = []
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"copy_{place:02}.png.* is corrupt"):
        read.extend(decode_files(files, 3))
    assert len(read) == place


def test_demo_data_lie_in_the_package():
    images = data.from_tfds("demo_digits", "unlabelled", data.demo_data_dir())
    assert int(images.cardinality()) == 9000
    assert images.element_spec == tf.TensorSpec((28, 28, 1), tf.uint8)
