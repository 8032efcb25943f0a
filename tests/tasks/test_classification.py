"""Classification: a value that knows its head, its loss and what fits it."""

import json

import keras
import numpy as np
import pytest

from keras_amalgam.losses import soft_target_loss
from keras_amalgam.tasks import Classification


def test_tasks_are_equal_by_their_classes_in_order():
    task = Classification(["cat", "dog"])
    assert task == Classification(("cat", "dog"))
    assert hash(task) == hash(Classification(("cat", "dog")))
    assert task != Classification(["dog", "cat"])
    assert task != ("cat", "dog")


def test_config_says_all_and_is_json():
    config = json.loads(json.dumps(Classification(["cat", "dog"]).to_config()))
    assert config == {"kind": "classification", "class_names": ["cat", "dog"]}
    assert Classification(config["class_names"]) == Classification(["cat", "dog"])


def test_head_gives_one_float32_logit_per_class_also_under_mixed_precision():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        head = Classification(["cat", "dog", "cow"]).head("pets")
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    logits = head(np.full((2, 4), 1e3, "float16"))
    assert (head.name, logits.dtype, tuple(logits.shape)) == ("pets", "float32", (2, 3))
    assert head.activation is keras.activations.linear


def test_soft_target_loss_is_the_losses_own():
    student, teacher = np.random.default_rng(0).normal(size=(2, 5, 2)).astype("float32")
    np.testing.assert_array_equal(
        Classification(["cat", "dog"]).soft_target_loss(student, teacher, 2.0),
        soft_target_loss(student, teacher, 2.0),
    )


def test_output_of_one_logit_per_class_fits_and_no_other():
    task = Classification(["cat", "dog"])
    assert task.check_output((None, 2), "It") is None
    for shape in ((None, 3), (None, 4, 4, 2), (2,)):
        with pytest.raises(ValueError, match="Teacher 'a' and its class names disagree. Received"):
            task.check_output(shape, "Teacher 'a'")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["cat"], r"Received: \['cat'\]"),
        ([], r"Received: \[\]"),
        (["cat", "dog", "cat"], r"twice: \['cat'\]"),
        (np.array(["cat", "cat"]), r"twice: \['cat'\]"),
    ],
    ids=str,
)
def test_names_that_are_no_classes_are_refused(names, says):
    with pytest.raises(ValueError, match=says):
        Classification(names)
