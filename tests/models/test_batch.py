"""Batches and signals: parsed once, from every form in which they come."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals

IMAGES = np.zeros((6, 4, 4, 3), "uint8")
SOURCE = np.array([0, 1, 0, 1, -1, 0], "int32")
IDS = np.arange(6)
SIGNALS = {"answers": {"cars": np.zeros((6, 3), "float32")}}


@pytest.mark.parametrize(
    ("data", "source", "ids", "teachers"),
    [
        (IMAGES, None, None, []),
        ((IMAGES,), None, None, []),
        ({"image": IMAGES}, None, None, []),
        (({"image": IMAGES, "source": SOURCE},), SOURCE, None, []),
        ({"image": IMAGES, "id": IDS, "signals": {"cars": SIGNALS}}, None, IDS, ["cars"]),
    ],
    ids=["array", "tuple", "image", "source", "id and signals"],
)
def test_batch_is_parsed_from_every_form(data, source, ids, teachers):
    batch = Batch.of(data)
    assert batch.images is IMAGES
    assert batch.source is source and batch.ids is ids
    assert list(batch.signals) == teachers
    assert Batch.of(batch) is batch


def test_what_a_data_set_carries_is_parsed_into_the_same_batch():
    batch = Batch(IMAGES, SOURCE, {"cars": Signals.of(SIGNALS)}, IDS)
    (element,) = tf.data.Dataset.from_tensors(batch.as_element())
    again = Batch.of(element)
    for name in ("images", "source", "ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name))
    assert again.signals["cars"].shapes() == {"answers/cars": (3,)}
    assert Batch.of(IMAGES).as_element() is IMAGES


def test_specification_of_a_data_set_is_parsed_like_its_batches():
    dataset = tf.data.Dataset.from_tensors({"image": IMAGES, "source": SOURCE})
    batch = Batch.of(dataset.element_spec)
    assert batch.images.shape == (6, 4, 4, 3) and batch.source.dtype == tf.int32


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ((IMAGES, SOURCE), "without labels. Received: a data set of"),
        ((IMAGES, None, SOURCE), "Sample weights are not supported"),
        ({"images": IMAGES}, r"Received: keys \['images'\]"),
        ({"image": IMAGES, "label": SOURCE}, r"Received: keys \['image', 'label'\]"),
        ({"image": IMAGES, "signals": {"cars": {"logits": IDS}}}, r"Received: \['logits'\]"),
        ({"image": IMAGES, "signals": {"cars": IDS}}, "Received: ndarray"),
    ],
    ids=["labels", "weights", "no image", "other key", "other signals", "bare signals"],
)
def test_what_is_not_a_batch_is_refused(data, match):
    with pytest.raises(ValueError, match=match):
        Batch.of(data)
