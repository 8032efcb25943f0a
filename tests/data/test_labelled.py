import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_amalgam import data

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3)).astype("uint8")
LABELS = np.array([1, 0, 2, 2, 1])


def read(dataset):
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


@pytest.fixture
def class_folder(tmp_path):
    """Class c holds images whose pixels are 10 c and up."""
    folder = tmp_path / "classes"
    for number, name in enumerate(["cat", "ant", "bee"]):
        (folder / name / "more").mkdir(parents=True)
        for copy, place in enumerate(["x.png", "more/y.png"]):
            pixels = np.full((4 + copy, 5, 3), 10 * number + copy, "uint8")
            Image.fromarray(pixels).save(folder / name / place)
    return folder


def test_labelled_from_tfds_yields_images_labels_and_class_names(tfds_dir):
    dataset = data.labelled_from_tfds("tiny", "train", tfds_dir, batch_size=4)
    images, labels = read(dataset)
    expected = np.random.default_rng(1).integers(0, 256, (7, 6, 5, 1), dtype=np.uint8)
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, [0, 1, 0, 1, 0, 1, 0])
    assert dataset.class_names == ("ant", "bee")
    assert len(dataset) == 2


def test_labelled_from_tfds_refuses_images_without_labels(tfds_dir):
    with pytest.raises(ValueError, match="'tiny_unlabelled'.*without a label"):
        data.labelled_from_tfds("tiny_unlabelled", "train", tfds_dir)


def test_labelled_from_tfds_names_a_missing_feature(tfds_dir):
    with pytest.raises(ValueError, match=r"'kind'.*\['image', 'label'\]"):
        data.labelled_from_tfds("tiny", "train", tfds_dir, keys=("image", "kind"))


def test_labelled_from_folder_sorts_the_class_names(class_folder):
    dataset = data.labelled_from_folder(class_folder, canvas=(4, 5, 1), batch_size=4)
    images, labels = read(dataset)
    assert dataset.class_names == ("ant", "bee", "cat")
    np.testing.assert_array_equal(labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(images[:, 0, 0, 0], [11, 10, 21, 20, 1, 0])
    assert images.shape == (6, 4, 5, 1) and images.dtype == np.uint8


def test_labelled_from_folder_numbers_classes_as_told(class_folder):
    names = ("cat", "ant", "bee")
    dataset = data.labelled_from_folder(class_folder, canvas=(4, 5, 3), class_names=names)
    images, labels = read(dataset)
    assert dataset.class_names == names
    np.testing.assert_array_equal(images[:, 0, 0, 0] // 10, labels)


def test_labelled_from_folder_refuses_folders_that_do_not_fit(class_folder, tmp_path):
    canvas = (4, 5, 3)
    with pytest.raises(ValueError, match=r"only in class_names \['dog'\].*folder \['bee'\]"):
        data.labelled_from_folder(class_folder, canvas=canvas, class_names=["ant", "cat", "dog"])
    with pytest.raises(ValueError, match="where there is nothing"):
        data.labelled_from_folder(tmp_path / "missing", canvas=canvas)
    with pytest.raises(ValueError, match="no class sub-folders"):
        data.labelled_from_folder(class_folder / "ant" / "more", canvas=canvas)
    (class_folder / "dog").mkdir()
    with pytest.raises(ValueError, match="dog' holds no images"):
        data.labelled_from_folder(class_folder, canvas=canvas)


def test_labelled_from_folder_names_a_truncated_file(class_folder):
    file = class_folder / "bee" / "x.png"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match="x.png' is truncated"):
        data.labelled_from_folder(class_folder, canvas=(4, 5, 3))


def test_labelled_from_arrays_keeps_the_order_and_applies_the_canvas():
    dataset = data.labelled_from_arrays(
        PIXELS, LABELS, class_names=["a", "b", "c"], canvas=(3, 2, 1), batch_size=2
    )
    images, labels = read(dataset)
    (expected,) = data.canvas(data.from_arrays(PIXELS), (3, 2), 1).batch(5)
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, LABELS)
    assert labels.dtype == np.int64
    assert dataset.class_names == ("a", "b", "c")
    assert data.labelled_from_arrays(PIXELS, LABELS).class_names is None


@pytest.mark.parametrize(
    ("images", "labels", "names", "error", "says"),
    [
        (PIXELS, LABELS[:4], None, ValueError, r"shape \(4,\) for 5 images"),
        (PIXELS, np.eye(3, dtype=int)[LABELS], None, ValueError, "argmax"),
        (PIXELS, LABELS.astype(float), None, TypeError, "float64"),
        (PIXELS, LABELS, ["a", "b"], ValueError, "from 0 to 2 for 2 classes"),
        (PIXELS, LABELS - 1, None, ValueError, "from -1 to 1 for unnamed classes"),
        (PIXELS / 255.0, LABELS, None, ValueError, "0..1"),
        (list(PIXELS), LABELS, None, ValueError, "different sizes.*canvas="),
    ],
)
def test_labelled_from_arrays_refuses_what_does_not_fit(images, labels, names, error, says):
    with pytest.raises(error, match=says):
        data.labelled_from_arrays(images, labels, class_names=names)


def test_a_file_that_is_corrupt_inside_is_named(class_folder):
    file = class_folder / "ant" / "more" / "y.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype("uint8")
    Image.fromarray(noise).save(file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read. .*y.png' is corrupt"):
        data.labelled_from_folder(class_folder, canvas=(4, 5, 3), batch_size=2)


def test_test_images_of_the_demo_have_ten_classes():
    dataset = data.labelled_from_tfds("demo_digits", "test[:100]", data.demo_data_dir())
    images, labels = next(iter(dataset))
    assert images.shape == (64, 28, 28, 1) and len(dataset.class_names) == 10
    assert int(tf.reduce_min(labels)) == 0 and int(tf.reduce_max(labels)) == 9
