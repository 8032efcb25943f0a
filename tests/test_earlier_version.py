"""Files that an earlier version wrote load, and give the numbers that they gave then."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers

FILES = Path(__file__).parent / "golden" / "earlier_version"


@pytest.fixture(scope="module")
def expected():
    with np.load(FILES / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def known():
    return [teachers.load(FILES / name) for name in ("digits", "shapes")]


def near(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_teachers_of_an_earlier_version_load(known, expected):
    for teacher in known:
        signals = teacher.signals(1).predict(expected["images"], verbose=0)
        found = {
            "logits": signals["answers"][teacher.name],
            "features": signals["features"]["features"],
        }
        for key, value in found.items():
            near(value, expected[f"teacher/{teacher.name}/{key}"])
    assert known[1].class_names == ("circle", "square")


def test_student_of_an_earlier_version_loads_with_keras_alone(expected):
    answers = keras.saving.load_model(FILES / "student.keras").predict(
        expected["images"], verbose=0
    )
    for task in ("digits", "shapes"):
        near(answers[task], expected[f"student/{task}"])


def test_checkpoint_of_an_earlier_version_goes_on(known, expected):
    model = ka.Amalgamator.load(FILES / "amalgamator.keras", known)
    options = {"batch_size": 8, "epochs": 1, "shuffle": False, "verbose": 0}
    history = model.fit(expected["images"], **options).history
    told = {key: value for key, value in expected.items() if key.startswith("next/")}
    assert told.keys() == {f"next/{key.replace('/', '|')}" for key in history}
    for key, values in history.items():
        near(values, told[f"next/{key.replace('/', '|')}"])
