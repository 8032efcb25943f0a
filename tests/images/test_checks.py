import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.images.checks import check_images

GOOD = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype("uint8")
DARK = np.zeros((4, 6, 5, 1), "float32")


@pytest.mark.parametrize(
    "images",
    [
        GOOD,
        GOOD[..., :1],
        GOOD.astype("float32"),
        GOOD.astype("float16"),
        tf.constant(GOOD),
        DARK,
        {"image": GOOD, "source": np.array([0, 1, -1, 0])},
    ],
    ids=["uint8", "grey", "float32", "float16", "tensor", "all black", "with sources"],
)
def test_check_images_accepts_images_in_0_to_255(images):
    assert check_images(images) is None


def changed(value):
    images = GOOD.astype("float32")
    images[1, 2, 3, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        (GOOD / 255.0, ValueError, "look like images scaled to 0..1. Multiply them by 255"),
        (changed(-0.5), ValueError, r"Received: values from -0.5 to 25\d"),
        (changed(256.0), ValueError, "to 256"),
        (changed(np.nan), ValueError, "1 values that are NaN or infinite"),
        (changed(np.inf), ValueError, "1 values that are NaN or infinite"),
        (GOOD[0], ValueError, r"Received: \(6, 5, 3\). Add the missing axis"),
        (GOOD.reshape(4, -1), ValueError, "not flattened rows"),
        (np.zeros((4, 3, 6, 5), "uint8"), ValueError, "Move the channels last"),
        (np.zeros((4, 6, 5, 4), "uint8"), ValueError, "drop an alpha channel"),
        (GOOD[:0], ValueError, "there are no images"),
        (GOOD.astype("int64"), TypeError, "Received: int64"),
        (GOOD > 3, TypeError, "Received: bool"),
        ((GOOD, np.zeros(4)), TypeError, "must come without labels"),
        ({"image": GOOD, "label": np.zeros(4)}, ValueError, r"\['image', 'label'\]"),
        ({"image": GOOD, "source": np.zeros(3, int)}, ValueError, r"sources of shape \(3,\)"),
        ({"image": GOOD, "source": np.zeros(4)}, ValueError, "type float64"),
    ],
)
def test_check_images_says_what_is_wrong(images, error, says):
    with pytest.raises(error, match=says) as raised:
        check_images(images, "fit")
    assert str(raised.value).startswith("fit: ")
