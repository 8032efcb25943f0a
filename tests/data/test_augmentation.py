import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from keras_amalgam import data
from keras_amalgam.data.augmentation import _transform, augment_by_source, inverse_transforms

RANDOM = np.random.default_rng(0)
BATCH = RANDOM.integers(0, 256, (300, 7, 9, 3)).astype("uint8")
SEED = (3, 4)


def shifted(image, right, down, fill):
    """The NumPy reference: pad on all sides, cut out where the window moved."""
    room = max(abs(right), abs(down))
    padded = np.pad(image, ((room, room), (room, room), (0, 0)), **fill)
    height, width = image.shape[:2]
    return padded[room - down :, room - right :][:height, :width]


ZERO, EDGE = {"mode": "constant"}, {"mode": "edge"}


@pytest.mark.parametrize(("fill", "padding"), [("zero", ZERO), ("edge", EDGE)])
def test_translation_shifts_each_image_by_its_own_whole_pixels(fill, padding):
    views = data.Augmentation(translation=2, fill=fill)(BATCH, SEED).numpy()
    assert views.dtype == np.uint8
    offsets = [(right, down) for right in range(-2, 3) for down in range(-2, 3)]
    found = []
    for image, view in zip(BATCH, views, strict=True):
        matches = [o for o in offsets if np.array_equal(view, shifted(image, *o, padding))]
        assert len(matches) == 1
        found += matches
    counts = [found.count(offset) for offset in offsets]
    # 300 draws from 25 equally likely offsets: 12 each, standard deviation 3.4.
    assert min(counts) >= 1 and max(counts) <= 26


def test_flip_mirrors_about_half_of_the_images_exactly():
    views = data.Augmentation(flip=True)(BATCH, SEED).numpy()
    mirrored = np.array([np.array_equal(v, i[:, ::-1]) for v, i in zip(views, BATCH, strict=True)])
    np.testing.assert_array_equal(views[~mirrored], BATCH[~mirrored])
    assert 0.4 < mirrored.mean() < 0.6


def moved(image, right=0.0, down=0.0, mirrored=False, degrees=0.0, factor=1.0, fill="zero"):
    def one(value, dtype=tf.float32):
        return tf.constant([value], dtype)

    matrices = inverse_transforms(
        tf.constant(image.shape[:2]),
        (one(right), one(down)),
        one(mirrored, tf.bool),
        one(np.deg2rad(degrees)),
        one(factor),
    )
    image = tf.constant(image[None], tf.float32)
    return _transform(image, matrices, fill, between=True)[0].numpy()


@pytest.mark.parametrize(("fill", "padding"), [("zero", ZERO), ("edge", EDGE)])
@pytest.mark.parametrize(("right", "down"), [(2, -1), (-3, 0), (0, 3)])
def test_known_shifts_equal_numpy(fill, padding, right, down):
    expected = shifted(BATCH[0], right, down, padding)
    np.testing.assert_array_equal(moved(BATCH[0], right, down, fill=fill), expected)


def test_quarter_turns_equal_numpy():
    square = BATCH[0, :7, :7]
    for turns in range(4):
        result = moved(square, degrees=90.0 * turns)
        np.testing.assert_allclose(result, np.rot90(square, turns), atol=1e-2)


@pytest.mark.parametrize(("fill", "mode"), [("zero", "grid-constant"), ("edge", "nearest")])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turning_and_zooming_equal_scipy(fill, mode, mirrored):
    smooth = ndimage.gaussian_filter(RANDOM.uniform(0, 255, (21, 31)), 2)
    result = moved(smooth[..., None], 2.0, -1.0, mirrored, degrees=17.0, factor=1.3, fill=fill)
    cosine, sine = np.cos(np.deg2rad(17)) / 1.3, np.sin(np.deg2rad(17)) / 1.3
    mirror = -1.0 if mirrored else 1.0
    matrix = np.array([[cosine, sine], [-sine * mirror, cosine * mirror]])  # rows: y, x
    centre = np.array([10.0, 15.0])
    offset = centre - matrix @ (centre + [-1.0, 2.0])
    expected = ndimage.affine_transform(smooth, matrix, offset, order=1, mode=mode)
    np.testing.assert_allclose(result[..., 0], expected, atol=0.05)


def test_rotation_and_zoom_stay_within_their_limits():
    # Two marks on the horizontal axis give angle and size of each view.
    marks = np.zeros((41, 41))
    marks[20, 10] = marks[20, 30] = 5000.0
    image = np.tile(ndimage.gaussian_filter(marks, 2)[None, ..., None], (200, 1, 1, 1))
    views = data.Augmentation(rotation=20.0, zoom=0.2)(image.astype("float32"), SEED).numpy()[
        ..., 0
    ]
    rows, columns = np.mgrid[:41, :41]
    left, right = [
        np.stack([(part * rows).sum((1, 2)), (part * columns).sum((1, 2))]) / part.sum((1, 2))
        for part in (np.where(columns < 20, views, 0.0), np.where(columns > 20, views, 0.0))
    ]
    between = right - left
    angle, factor = np.rad2deg(np.arctan2(-between[0], between[1])), np.hypot(*between) / 20
    assert np.abs(angle).max() < 20.5 and angle.min() < -15 and angle.max() > 15
    assert 0.77 < factor.min() < 0.86 and 1.14 < factor.max() < 1.23


def test_contrast_and_brightness_are_one_line_per_image():
    images = RANDOM.uniform(100, 150, (200, 6, 6, 3)).astype("float32")
    views = data.Augmentation(contrast=0.3, brightness=0.1)(images, SEED).numpy()
    slopes, shifts = [], []
    for image, view in zip(images, views, strict=True):
        slope, offset = np.polyfit(image.ravel(), view.ravel(), 1)
        np.testing.assert_allclose(view, slope * image + offset, atol=1e-2)
        slopes.append(slope)
        shifts.append(offset + (slope - 1) * image.mean())  # what the mean moved by
    assert 0.69 < min(slopes) < 0.75 and 1.25 < max(slopes) < 1.31
    assert -25.6 < min(shifts) < -22 and 22 < max(shifts) < 25.6


def test_mixup_blends_images_of_the_same_source_only():
    source = np.tile([0, 1, 1], 100)
    own = np.where(source == 0, RANDOM.uniform(0, 50, 300), RANDOM.uniform(200, 250, 300))
    images = np.broadcast_to(own[:, None, None, None], (300, 2, 2, 1)).astype("float32")
    mixing = [data.Augmentation(mixup=0.4)] * 2
    views = augment_by_source(images, mixing, source, SEED).numpy()[:, 0, 0, 0]
    assert views[source == 0].max() <= 50 and views[source == 1].min() >= 200
    assert (np.abs(views - own) > 1e-3).mean() > 0.5
    # Its own weight is at least a half, so a view keeps as close to itself as half the way.
    for k, width in ((0, 50), (1, 50)):
        assert np.abs(views - own)[source == k].max() <= width / 2
    only_first = [data.Augmentation(mixup=0.4), data.Augmentation()]
    views = augment_by_source(images, only_first, source, SEED).numpy()[:, 0, 0, 0]
    assert np.abs(views - own)[source == 1].max() < 1e-4
    assert np.abs(views - own)[source == 0].max() > 1


def test_each_source_is_changed_by_its_own_augmentation():
    source = np.arange(300, dtype="int32") % 3
    own = [
        data.Augmentation(),
        data.Augmentation(translation=1, fill="edge"),
        data.Augmentation(translation=2),
    ]
    views = augment_by_source(BATCH, own, source, SEED).numpy()
    np.testing.assert_array_equal(views[source == 0], BATCH[source == 0])
    for k, limit, fill in ((1, 1, EDGE), (2, 2, ZERO)):
        reach = range(-limit, limit + 1)
        for image, view in zip(BATCH[source == k], views[source == k], strict=True):
            assert any(
                np.array_equal(view, shifted(image, r, d, fill)) for r in reach for d in reach
            )


STRONG = data.Augmentation(3, True, 30.0, 0.3, 1.0, 1.0, 0.4, "edge")


def test_values_stay_in_0_to_255_and_types_as_they_are():
    as_float = STRONG(BATCH.astype("float32"), SEED).numpy()
    assert as_float.dtype == np.float32
    assert as_float.min() == 0.0 and as_float.max() == 255.0
    as_uint8 = STRONG(BATCH, SEED).numpy()
    np.testing.assert_array_equal(as_uint8, np.round(as_float).astype("uint8"))


def test_same_seed_same_view_and_other_seed_other_view():
    first = STRONG(BATCH, SEED).numpy()
    np.testing.assert_array_equal(first, STRONG(BATCH, SEED))
    assert (first != STRONG(BATCH, (3, 5)).numpy()).mean() > 0.5
    assert (first != STRONG(BATCH, (4, 4)).numpy()).mean() > 0.5


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_no_augmentation_changes_nothing(dtype):
    images = BATCH.astype(dtype)
    np.testing.assert_array_equal(data.Augmentation()(images, SEED), images)


@pytest.mark.parametrize(
    "argument",
    [
        {"translation": -1},
        {"translation": 1.5},
        {"rotation": 181.0},
        {"zoom": 1.0},
        {"brightness": 1.5},
        {"contrast": -0.1},
        {"mixup": float("nan")},
        {"fill": "mirror"},
    ],
)
def test_augmentation_refuses_arguments_out_of_range(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"Received: {name}="):
        data.Augmentation(**argument)
