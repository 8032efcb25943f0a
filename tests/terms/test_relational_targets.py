"""RelationalTargets against NumPy's correlations."""

import numpy as np
import pytest
from scipy.special import softmax

import keras_amalgam as ka
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms import ModelSpec, RelationalTargets

CLASSES = {"digits": ("0", "1", "2"), "shapes": ("circle", "square", "star", "line")}
SOURCE = np.array([0, 1, -1, 1, 0, 0, 1], "int32")


def connected(tasks=None, **arguments):
    tasks = tasks or {name: ka.tasks.Classification(names) for name, names in CLASSES.items()}
    term = RelationalTargets(**arguments)
    teachers = {name: ModelSpec(f"Teacher {name!r}", {name: task}) for name, task in tasks.items()}
    term.connect(ModelSpec("The student", tasks), teachers)
    return term


def logits(seed):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(scale=2.0, size=(7, len(names))).astype("float32")
        for name, names in CLASSES.items()
    }


def losses(term, student, teacher, source=None):
    signals = {name: Signals({name: values}) for name, values in teacher.items()}
    return term(Signals(student), signals, Batch(None, source))


def distances(a, b):
    return np.array([1 - np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_both_losses_equal_numpys_correlations(temperature):
    student, teacher = logits(1), logits(2)
    found = losses(connected(temperature=temperature), student, teacher)
    for name in CLASSES:
        p = softmax(teacher[name].astype("float64") / temperature, axis=-1)
        q = softmax(student[name].astype("float64") / temperature, axis=-1)
        square = temperature**2
        np.testing.assert_allclose(
            found[name]["classes"], square * distances(q, p), rtol=1e-4, atol=2e-6 * square
        )
        images = square * distances(q.T, p.T).mean()
        np.testing.assert_allclose(found[name]["images"], images, rtol=1e-4, atol=2e-6)


def test_by_source_a_teacher_is_imitated_on_its_own_images_and_those_of_unknown_source():
    student, teacher = logits(1), logits(2)
    found = losses(connected(ownership="source"), student, teacher, SOURCE)
    for number, name in enumerate(CLASSES):
        own = (number == SOURCE) | (SOURCE < 0)
        p, q = softmax(teacher[name], axis=-1), softmax(student[name], axis=-1)
        expected = np.where(own, distances(q, p), 0.0)
        np.testing.assert_allclose(found[name]["classes"], expected, rtol=1e-4, atol=1e-7)
        images = distances(q[own].T, p[own].T).mean() * own.mean()
        np.testing.assert_allclose(found[name]["images"], images, rtol=1e-4, atol=2e-6)


def test_a_single_image_of_a_collection_relates_to_no_other():
    source = np.array([0, 1, 1, 1, 1, 1, 1], "int32")
    found = losses(connected(ownership="source"), logits(1), logits(2), source)
    assert float(found["digits"]["images"]) == 0.0
    assert float(found["shapes"]["images"]) > 0.1


def test_missing_sources_are_refused():
    with pytest.raises(ValueError, match="images without sources"):
        losses(connected(ownership="source"), logits(1), logits(2))


def test_teacher_without_classes_is_refused():
    class Numbers:
        class_names = ()

    with pytest.raises(ValueError, match="Teacher 'ages', whose task is a Numbers"):
        connected({"ages": Numbers()})


@pytest.mark.parametrize("arguments", [{"ownership": "joint"}, {"temperature": 0.0}], ids=str)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        RelationalTargets(**arguments)
