"""What an export asks of a model is worked out once and handed on."""

import collections
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_amalgam.export
from keras_amalgam import export

FOLDER = str(Path(keras_amalgam.export.__file__).parent)
NAMES = {"quadrant": ("a", "b", "c", "d"), "colour": ("e", "f", "g", "h")}
# Function to the file it stands in.
QUESTIONS = {
    "describe": "signatures.py",
    "entrance_of": "entrance.py",
    "resolve": "labels.py",
    "bounds_for": "parity.py",
    "_check_logits": "preparation.py",
    "operator_counts": "to_saved_model.py",
}
EXPORTERS = {
    "to_keras": ("to_keras", "student.keras", {}),
    "to_saved_model": ("to_saved_model", "student", {}),
    "to_onnx": ("to_onnx", "student.onnx", {}),
    "to_tflite": ("to_tflite", "student.tflite", {}),
    "int8": ("to_tflite", "student.tflite", {"precision": "int8"}),
    "to_serving": ("to_serving", "bundle", {}),
}


def student_of_any_size():
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Resizing(24, 24)(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(x))
    return keras.Model(image, {name: keras.layers.Dense(4, name=name)(x) for name in NAMES})


@pytest.fixture
def asked():
    """Calls of the export's functions while the fixture's function runs."""

    def count(run):
        calls = collections.Counter()

        def note(frame, event, argument):
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(FOLDER):
                calls[code.co_name, Path(code.co_filename).name] += 1

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            run()
        finally:
            sys.setprofile(before)
        return calls

    return count


@pytest.mark.matrix
@pytest.mark.parametrize("name", EXPORTERS)
def test_each_question_is_asked_once_an_export(name, asked, tmp_path):
    exporter, file, arguments = EXPORTERS[name]
    if name == "int8":
        pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 24, 3))
        arguments = arguments | {"calibration": pixels, "tolerance": 1e3, "min_agreement": 0}
    model = student_of_any_size()
    write = getattr(export, exporter)
    calls = asked(lambda: write(model, tmp_path / file, class_names=NAMES, **arguments))
    counts = {question: calls[question, where] for question, where in QUESTIONS.items()}
    assert calls["describe", "signatures.py"] == 1  # Or nothing was seen.
    assert {question: count for question, count in counts.items() if count > 1} == {}
    assert calls["spatial_size", "signatures.py"] <= 1
    # The model's own answers, to the images and, of a bundle, to photographs of them.
    of_the_model = 2 if name in ("to_serving", "to_keras") else 1
    assert calls["reference", "parity.py"] == of_the_model
