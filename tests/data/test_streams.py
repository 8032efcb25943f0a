"""Images are numbered by their first pixel, so that what a stream yields can be counted."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_amalgam import data

CACHE = pytest.mark.parametrize("cache", [True, False], ids=["cached", "read anew"])


def numbered(first, count, shape=(4, 3, 1), dtype="uint8"):
    values = np.arange(first, first + count, dtype=dtype)
    return data.from_arrays(values[:, None, None, None] * np.ones(shape, dtype))


def two_sources():
    return {"low": numbered(2, 30), "high": numbered(100, 20)}


def numbers(batch):
    images = batch["image"] if isinstance(batch, dict) else batch
    return images[:, 0, 0, 0].numpy().astype(int).tolist()


def epoch_of(stream):
    return [number for batch in stream for number in numbers(batch)]


@pytest.mark.matrix
@CACHE
def test_stream_yields_every_image_of_every_source_once_per_epoch(cache):
    epoch = data.Epoch(cache=cache, drop_remainder=False)
    stream = data.stream(two_sources(), batch_size=8, epoch=epoch)
    for _ in range(2):
        assert sorted(epoch_of(stream)) == [*range(2, 32), *range(100, 120)]


def test_an_epoch_need_not_wait_for_the_tuning_of_its_pipeline():
    stream = data.stream(two_sources(), batch_size=8)
    assert stream.options().autotune.enabled is False
    assert stream.take(1).map(lambda batch: batch).options().autotune.enabled is False


@CACHE
def test_stream_says_which_source_an_image_came_from(cache):
    stream = data.stream(two_sources(), batch_size=8, epoch=data.Epoch(cache=cache))
    for batch in stream:
        assert batch["source"].dtype == tf.int32
        np.testing.assert_array_equal(batch["source"], np.array(numbers(batch)) >= 100)


@pytest.mark.matrix
@CACHE
def test_stream_has_a_new_order_in_each_epoch_and_the_same_ones_for_the_same_seed(cache):
    def epochs(seed):
        epoch = data.Epoch(cache=cache)
        stream = data.stream(two_sources(), batch_size=10, seed=seed, epoch=epoch)
        return [epoch_of(stream) for _ in range(3)]

    first = epochs(seed=1)
    assert first == epochs(seed=1)
    orders = {tuple(order) for order in first + epochs(seed=2)}
    assert len(orders) == 6 and all(list(order) != sorted(order) for order in orders)


@pytest.mark.matrix
@CACHE
def test_stream_augments_anew_in_each_epoch_and_alike_for_the_same_seed(cache):
    def epochs():
        stream = data.stream(
            numbered(100, 6),
            batch_size=6,
            augmentation=data.Augmentation(brightness=0.1),
            epoch=data.Epoch(cache=cache, shuffle=False),
        )
        return [epoch_of(stream) for _ in range(3)]

    first = epochs()
    assert first == epochs()
    shifts = {tuple(np.subtract(epoch, range(100, 106))) for epoch in first}
    assert len(shifts) == 3 and all(len(set(shift)) > 2 for shift in shifts)


@CACHE
def test_proportions_hold_exactly_in_each_epoch(cache):
    stream = data.stream(
        two_sources(),
        batch_size=10,
        proportions={"high": 3, "low": 1},
        epoch=data.Epoch(cache=cache),
    )
    for _ in range(2):
        seen = Counter(epoch_of(stream))
        low, high = ([seen[n] for n in range(*ends)] for ends in ((2, 32), (100, 120)))
        # A quarter of 50 is 12.5: the first source with the largest remainder takes the odd image.
        assert (sum(low), sum(high)) == (13, 37)
        assert max(low) == 1, "no image twice while others wait"
        assert set(high) == {1, 2}, "whole passes before any image comes a third time"


@pytest.mark.slow
@CACHE
def test_every_image_of_a_source_drawn_in_part_comes_in_some_epoch(cache):
    stream = data.stream(
        two_sources(),
        batch_size=10,
        proportions={"high": 4, "low": 1},
        epoch=data.Epoch(cache=cache),
    )
    seen = Counter(number for _ in range(20) for number in epoch_of(stream))
    low = [seen[number] for number in range(2, 32)]
    assert sum(low) == 20 * 10 and min(low) > 0


def test_stream_runs_as_many_steps_as_told():
    stream = data.stream(two_sources(), batch_size=10, epoch=data.Epoch(steps=9))
    assert len(stream) == 9
    assert Counter(number >= 100 for number in epoch_of(stream)) == {False: 54, True: 36}


@pytest.mark.matrix
@CACHE
@pytest.mark.parametrize(("drop", "sizes"), [(True, [16] * 3), (False, [16, 16, 16, 2])])
def test_stream_drops_the_remainder_only_if_told(cache, drop, sizes):
    epoch = data.Epoch(cache=cache, drop_remainder=drop)
    stream = data.stream(two_sources(), batch_size=16, epoch=epoch)
    assert len(stream) == len(sizes)
    assert [len(batch["source"]) for batch in stream] == sizes
    static = 16 if drop else None
    assert stream.element_spec == {
        "image": tf.TensorSpec((static, 4, 3, 1), tf.uint8),
        "source": tf.TensorSpec((static,), tf.int32),
    }


@CACHE
def test_stream_keeps_the_order_without_shuffling(cache):
    epoch = data.Epoch(cache=cache, shuffle=False)
    stream = data.stream(two_sources(), batch_size=10, epoch=epoch)
    assert epoch_of(stream) == [*range(2, 32), *range(100, 120)]


def test_stream_of_one_unnamed_source_yields_images_only():
    stream = data.stream(numbered(2, 12), batch_size=4)
    assert stream.element_spec == tf.TensorSpec((4, 4, 3, 1), tf.uint8)
    assert sorted(epoch_of(stream)) == list(range(2, 14))


def test_stream_brings_sources_of_different_shapes_to_one_canvas():
    sources = {"grey": numbered(2, 6), "colour": numbered(100, 6, shape=(9, 9, 3))}
    stream = data.stream(sources, batch_size=4, canvas=(5, 6, 3, "crop"))
    assert stream.element_spec["image"] == tf.TensorSpec((4, 5, 6, 3), tf.uint8)
    assert sorted(epoch_of(stream)) == [*range(2, 8), *range(100, 106)]


def test_stream_of_uint8_and_float_sources_is_float():
    sources = {"whole": numbered(2, 6), "float": numbered(100, 6, dtype="float64")}
    stream = data.stream(sources, batch_size=4)
    assert stream.element_spec["image"].dtype == tf.float32
    assert sorted(epoch_of(stream)) == [*range(2, 8), *range(100, 106)]


def test_stream_augments_each_source_in_its_own_way():
    ramp = np.tile(np.arange(10, 15, dtype="uint8")[:, None], (64, 4, 1, 1))
    sources = {name: data.from_arrays(ramp) for name in ("digits", "fashion", "other")}
    flips = {"fashion": data.Augmentation(flip=True)}
    stream = data.stream(sources, batch_size=96, augmentation=flips)
    for batch in stream:
        mirrored = batch["image"][:, 0, 0, 0].numpy() == 14
        per_source = [mirrored[batch["source"] == k] for k in range(3)]
        assert not per_source[0].any() and not per_source[2].any()
        assert 0.2 < per_source[1].mean() < 0.8


def unreadable(folder):
    """A folder with one image damaged in its middle, which its ends don't show."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype("uint8")
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(folder / name)
    content = bytearray((folder / "b.png").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "b.png").write_bytes(content)
    return data.from_folder(folder)


@pytest.mark.matrix
@CACHE
def test_stream_names_a_corrupt_file_when_it_is_made(tmp_path, cache):
    with pytest.raises(ValueError, match="Source 'photos' cannot be read. .*b.png' is corrupt"):
        data.stream(
            {"photos": unreadable(tmp_path)},
            batch_size=1,
            canvas=(8, 8, 3),
            epoch=data.Epoch(cache=cache),
        )


def with_values(value):
    images = np.full((6, 4, 3, 1), 100.0, "float32")
    images[5, 0, 0, 0] = value
    return tf.data.Dataset.from_tensor_slices(images)


PLAIN = tf.data.Dataset.from_tensor_slices(np.full((6, 4, 3, 1), 9, "uint8"))


@CACHE
@pytest.mark.parametrize(
    ("sources", "error", "says"),
    [
        ({}, ValueError, "at least one source"),
        ({"a": np.zeros((6, 4, 3, 1), "uint8")}, TypeError, "Source 'a' must be a tf.data.Dataset"),
        ({"a": PLAIN.map(lambda x: (x, 1))}, TypeError, "Source 'a' must yield images only"),
        ({"a": PLAIN.map(lambda x: {"image": x, "label": 1})}, TypeError, r"\['image', 'label'\]"),
        ({"a": PLAIN.batch(2)}, ValueError, r"Source 'a'.*`.unbatch\(\)`"),
        ({"a": PLAIN.map(lambda x: tf.repeat(x, 4, -1))}, ValueError, r"grey \(1\) or RGB \(3\)"),
        ({"a": PLAIN.map(lambda x: tf.cast(x, tf.int64))}, TypeError, "uint8 or float"),
        ({"a": PLAIN.take(0)}, ValueError, "at least one. Received: none"),
        ({"a": PLAIN.repeat()}, ValueError, "endless.*take"),
        ({"a": PLAIN.filter(lambda x: False)}, ValueError, "empty|unknown cardinality"),
        ({"a": PLAIN, "b": numbered(0, 6, (9, 9, 1))}, ValueError, r"'b': \(9, 9, 1\).*canvas="),
        ({"a": with_values(-1.0)}, ValueError, "Source 'a': .*from -1 to 100"),
        ({"a": with_values(255.5)}, ValueError, "Source 'a': .*to 255.5"),
        ({"a": with_values(np.nan)}, ValueError, "Source 'a': .*NaN"),
        ({"a": with_values(1.0).map(lambda x: x / 100)}, ValueError, "Source 'a': .*0..1"),
    ],
)
def test_stream_refuses_bad_sources_when_it_is_made(cache, sources, error, says):
    with pytest.raises(error, match=says):
        data.stream(sources, batch_size=2, epoch=data.Epoch(cache=cache))


FLIP = data.Augmentation(flip=True)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "positive batch size"),
        ({"batch_size": 64}, ValueError, "no full batch. Received: 50 images"),
        ({"canvas": (8, 8)}, ValueError, r"Received: \(8, 8\)"),
        ({"proportions": {"low": 1.0}}, ValueError, r"sources \['low', 'high'\]"),
        ({"proportions": {"low": 1.0, "high": 1.0, "more": 1.0}}, ValueError, "name every source"),
        ({"proportions": {"low": 1.0, "high": 0.0}}, ValueError, "Received: 0.0 for source 'high'"),
        ({"proportions": {"low": 1.0, "high": np.nan}}, ValueError, "positive numbers"),
        ({"proportions": [1.0, 2.0]}, ValueError, "name every source"),
        ({"augmentation": {"hihg": FLIP}}, ValueError, r"Received: 'hihg'. .*\['low', 'high'\]"),
        ({"augmentation": {"high": True}}, TypeError, "Received: True"),
    ],
)
def test_stream_refuses_settings_that_do_not_fit(settings, error, says):
    with pytest.raises(error, match=says):
        data.stream(two_sources(), **{"batch_size": 10, **settings})


@pytest.mark.parametrize("name", ["steps", "window"])
def test_epoch_refuses_numbers_below_one(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        data.Epoch(**{name: 0})
