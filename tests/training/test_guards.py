"""What is refused before the first step; test_amalgamator.py has the rest, through `fit`."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import data
from keras_amalgam.models.batch import Batch
from keras_amalgam.training.guards import (
    StopOnNonFiniteLoss,
    checked,
    named_errors,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3)).astype("uint8")
SOURCE = np.zeros(6, "int32")
NAN = float("nan")
check = partial(checked, y=None, channels=3, owners=None)


def batches_of(*parts):
    data = parts[0] if len(parts) == 1 else parts
    return tf.data.Dataset.from_tensor_slices(data).batch(2)


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        tf.constant(IMAGES),
        {"image": IMAGES, "source": SOURCE},
        {"image": IMAGES},
        batches_of(IMAGES),
        batches_of({"image": IMAGES, "source": SOURCE}),
    ],
    ids=["array", "tensor", "with sources", "dict", "data set", "data set with sources"],
)
def test_images_are_taken_in_every_form_and_looked_at(data):
    check(data)
    with pytest.raises(ValueError, match="takes 1 channel"):
        check(data, channels=1)


@pytest.mark.parametrize("kind", ["uint8", "uint32", "int8", "int64"])
def test_sources_may_be_whole_numbers_of_any_type(kind):
    source = np.array([0, 1, 0, 1, 1, 0], kind)
    dataset = batches_of({"image": IMAGES, "source": source})
    with named_errors():
        seen = [element["source"] for element in check(dataset, owners=["a", "b"])]
    np.testing.assert_array_equal(np.concatenate(seen), source)


def test_sources_and_ids_may_be_lists():
    element = check({"image": IMAGES, "source": [0] * 6, "id": [*range(6)]}, owners=["a"])
    assert element["source"].shape == element["id"].shape == (6,)


@pytest.mark.parametrize(
    ("ids", "says"),
    [(np.arange(5), r"6 images, {'id': \(5,\)}"), (np.array(list("abcdef")), "ids of type")],
)
def test_ids_that_are_not_one_number_for_each_image_are_refused(ids, says):
    with pytest.raises(ValueError, match=says):
        check({"image": IMAGES, "id": ids})


def test_generator_is_not_consumed():
    generator = iter([IMAGES])
    check(generator)
    assert next(generator) is IMAGES


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "Received: none. Call fit"),
        ((IMAGES, SOURCE), "without labels"),
        (batches_of(IMAGES, SOURCE), "without labels"),
        (batches_of(IMAGES, SOURCE, SOURCE), "without labels"),
        (IMAGES[:0], "no images"),
        (batches_of(IMAGES).take(0), "data set is empty"),
        ({"images": IMAGES}, r"Received: keys \['images'\]"),
        ({"image": IMAGES, "label": SOURCE}, r"Received: keys \['image', 'label'\]"),
        (batches_of({"pixels": IMAGES}), r"Received: keys \['pixels'\]"),
        (IMAGES[0], r"Received: \(5, 5, 3\)"),
        (IMAGES / 255, "scaled to 0..1"),
        (batches_of(IMAGES / 255), "scaled to 0..1"),
        ({"image": IMAGES / 255, "source": SOURCE}, "scaled to 0..1"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(data, says):
    with pytest.raises(ValueError, match=says):
        check(data)


def test_sources_that_do_not_belong_to_the_images_are_refused():
    for source in (SOURCE[:3], SOURCE.astype("float32")):
        with pytest.raises(ValueError, match="one integer source per image"):
            check({"image": IMAGES, "source": source})


@pytest.mark.parametrize("stranger", [2, -2])
@pytest.mark.parametrize("form", [dict, batches_of], ids=["array", "data set"])
def test_sources_of_no_teacher_are_refused_where_a_term_uses_them(form, stranger):
    source = np.array([stranger, -1, 0, 1, 1, 0], "int32")
    given = form({"image": IMAGES, "source": source})
    with pytest.raises(ValueError, match=rf"Received: \[{stranger}\] for the teachers"):
        check(given, owners=["a", "b"])
    check(given)


def take(stream):
    return stream.take(1).prefetch(2)


@pytest.mark.matrix
@pytest.mark.parametrize("names", ["ba", "b", "bc"])
@pytest.mark.parametrize("form", [lambda stream: stream, take], ids=["stream", "taken"])
def test_sources_in_another_order_than_the_teachers_are_refused_where_a_term_uses_them(form, names):
    sources = {name: data.from_arrays(IMAGES) for name in names}
    stream = form(data.stream(sources, batch_size=4))
    with pytest.raises(ValueError, match=r"sources \['b'.*teachers \['a', 'b'\]"):
        check(stream, owners=["a", "b"])
    check(stream)
    check(stream, owners=[*names])
    check(stream, owners=["cats", "dogs"])


def test_sources_that_were_renumbered_are_believed():
    stream = data.stream({name: data.from_arrays(IMAGES) for name in "ba"}, batch_size=4)
    renumbered = stream.map(lambda batch: {**batch, "source": 1 - batch["source"]})
    batches = check(renumbered, owners=["a", "b"])
    assert {int(number) for batch in batches for number in batch["source"]} == {0, 1}


@pytest.mark.parametrize("value", [NAN, np.inf, -1.0, 256.0])
def test_a_later_batch_that_holds_no_images_is_named(value):
    images = IMAGES.astype("float32")
    images[4, 1, 2, 0] = value
    given = check(batches_of(images))
    batches = iter(given)
    assert next(batches).shape == next(batches).shape == (2, 5, 5, 3)
    says = "finite and in 0..255. Received: a later batch"
    with pytest.raises(ValueError, match=says), named_errors():
        next(batches)


def test_a_later_batch_with_a_source_of_no_teacher_is_named():
    source = np.array([0, 1, 1, 0, 2, 0], "int32")
    given = batches_of({"image": IMAGES, "source": source})
    with pytest.raises(ValueError, match=r"values from 0 to 2"), named_errors():
        list(check(given, owners=["a", "b"]))
    assert len(list(check(given))) == 3


def test_other_errors_of_a_data_set_pass_as_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError, match="something else"), named_errors():
        tf.debugging.Assert(False, ["something else"])


def test_a_data_set_that_passes_is_the_same():
    images = IMAGES.astype("float32")
    given = check(batches_of({"image": images, "source": SOURCE}), owners=["a"])
    assert int(given.cardinality()) == 3
    for batch, number in zip(given, range(3), strict=True):
        np.testing.assert_array_equal(batch["image"], images[2 * number : 2 * number + 2])
        assert batch["source"].dtype == tf.int32


def test_images_of_different_sizes_are_refused_with_the_remedy():
    sizes = tf.data.Dataset.range(4).map(lambda n: tf.zeros((4 + n, 4, 3), tf.uint8))
    with pytest.raises(ValueError, match="cannot be read.*brought to one"):
        check(sizes.batch(2))


def test_a_list_of_images_is_refused():
    with pytest.raises(TypeError, match="a list of 6. Use np.stack"):
        check(list(IMAGES))


def test_labels_beside_the_images_are_refused():
    with pytest.raises(ValueError, match=r"Received: fit\(x, y\)"):
        check(IMAGES, y=SOURCE)


def test_sample_weights_are_refused():
    with pytest.raises(ValueError, match="Sample weights are not supported"):
        Batch.of((IMAGES, None, SOURCE))


@pytest.mark.parametrize(
    ("logs", "named"),
    [
        ({"a": NAN, "a/x": NAN, "a/y": 1.0}, "NaN or infinity in term 'a', teacher 'x'."),
        (
            {"a": NAN, "a/x": NAN, "a/x/mmd": NAN, "a/x/reconstruction": 1.0},
            "in term 'a', teacher 'x', component 'mmd'.",
        ),
        (
            {"a": np.inf, "a/x": np.inf, "b": NAN, "b/y": NAN},
            "in term 'a', teacher 'x'; term 'b', teacher 'y'.",
        ),
        ({"a": 1.0, "a/x": 1.0}, "in the regularisation."),
    ],
)
def test_loss_that_is_not_finite_is_named_as_deep_as_it_goes(logs, named):
    with pytest.raises(FloatingPointError, match="at batch 3") as raised:
        StopOnNonFiniteLoss().on_train_batch_end(3, {"loss": NAN, **logs})
    assert named in str(raised.value)


def test_finite_losses_pass():
    assert StopOnNonFiniteLoss().on_train_batch_end(0, {"loss": 1.0, "a": 1.0}) is None
