"""A made-up report: its numbers are synthetic and say nothing about any model."""

import copy

import numpy as np
import pytest

from keras_amalgam.evaluation import CommonSpace, Sample
from keras_amalgam.evaluation.samples import Opinion
from keras_amalgam.report import Pictures, goal, render_page

DIGITS = [str(digit) for digit in range(10)]
FASHION = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def _history(epochs: int) -> dict[str, list[float]]:
    steps = np.arange(epochs)
    parts = {
        "soft_targets/digits": 0.05 + 0.9 * np.exp(-steps / 2.0),
        "soft_targets/fashion": 0.35 + 1.1 * np.exp(-steps / 3.0),
        "common_features/digits/mmd": 0.02 + 0.8 * np.exp(-steps / 1.5),
        "common_features/digits/reconstruction": 0.1 + 2.5 * np.exp(-steps / 4.0),
        "common_features/fashion/mmd": 0.03 + 0.9 * np.exp(-steps / 1.8),
        "common_features/fashion/reconstruction": 0.2 + 4.5 * np.exp(-steps / 5.0),
    }
    history = dict(parts)
    for teacher in ("digits", "fashion"):
        key = f"common_features/{teacher}"
        history[key] = parts[f"{key}/mmd"] + parts[f"{key}/reconstruction"]
    for term in ("soft_targets", "common_features"):
        history[term] = history[f"{term}/digits"] + history[f"{term}/fashion"]
    history["loss"] = history["soft_targets"] + history["common_features"]
    history["learning_rate"] = 1e-3 * (1 + np.cos(np.pi * steps / epochs)) / 2
    return {key: history[key].tolist() for key in sorted(history, key=lambda k: k != "loss")}


def _confusion() -> list[list[int]]:
    rng = np.random.default_rng(3)
    counts = np.zeros((20, 20), int)
    for row in range(20):
        wrong = rng.multinomial(8 if row < 10 else 30, rng.dirichlet(np.full(20, 0.3)))
        counts[row] = wrong
        counts[row, row] = 200 - wrong.sum() + wrong[row]
    counts[16, 10], counts[16, 16] = counts[16, 10] + 40, counts[16, 16] - 40
    return counts.tolist()


_NORMS = {
    "soft_targets": 0.412,
    "common_features": 0.0931,
    "common_features/digits/mmd": 0.00052,
    "common_features/fashion/mmd": 0.00071,
}
_SYNTHETIC = {
    "recipe": "synthetic",
    "created": "2001-02-03 04:05 UTC",
    "tasks": {
        "digits": {
            "teacher_accuracy": 0.9935,
            "student_accuracy": 0.9815,
            "tflite_int8_accuracy": 0.981,
            "num_test_images": 2000,
            "agreement": 0.984,
            "teacher": "a made-up convolutional network, 28 × 28, shipped as ONNX",
        },
        "fashion": {
            "teacher_accuracy": 0.9095,
            "student_accuracy": 0.8895,
            "tflite_int8_accuracy": 0.8835,
            "num_test_images": 2000,
            "agreement": 0.925,
            "teacher": "a made-up small transformer, 32 × 32, shipped as .keras",
        },
    },
    "joint_accuracy": {
        "source_aware": 0.91725,
        "source_blind": None,
        "source_blind_per_task": 0.7125,
        "teachers_source_blind": 0.6435,
    },
    "ownership": "source",
    "parameters": {"teachers": 551234, "student": 55384},
    "bytes": {"teachers": 2412345, "tflite_float32": 231456, "tflite_int8": 81234},
    "latency_ms": {"teachers": 3.91, "student_tflite_int8": 0.231},
    "seconds": {"amalgamate": 171.3, "total": 243.8},
    "parity": {
        "saved_model": {
            "max_abs_error": 2.4e-6,
            "tolerance": 1e-4,
            "num_images": 64,
            "agreement": 0.984375,
            "bytes": 345_678,
            "latency_ms": 1.234,
        },
        "student.tflite": {"max_abs_error": 3.1e-5, "tolerance": 1e-4, "num_images": 64},
        "student.onnx": {"max_abs_error": 3.3e-4, "tolerance": 1e-4, "num_images": 64},
        "student_int8.tflite": {"max_abs_error": 0.812},
    },
    "versions": {"keras": "3.0.synthetic", "tensorflow": "2.0.synthetic"},
    "goals": [
        goal("digits: student within 2 points of its teacher", -0.012, -0.02, "points"),
        goal("fashion: student within 1 point of its teacher", -0.02, -0.01, "points"),
        goal("joint accuracy, sources known in training", 0.91725, 0.9, "fraction"),
        goal("amalgamation time", 171.3, 300.0, "seconds", at_least=False),
        goal("student's parameters over the teachers'", 0.1005, 0.25, "number", at_least=False),
        goal("joint accuracy, sources unknown", None, 0.8, "fraction"),
    ],
    "ablation": [
        {
            "removed": None,
            "tasks": {"digits": 0.9815, "fashion": 0.8895},
            "joint": 0.91725,
            "gradient_norms": _NORMS,
        },
        {
            "removed": "soft_targets",
            "tasks": {"digits": 0.1135, "fashion": 0.0925},
            "joint": 0.0515,
            "gradient_norms": {"common_features": 0.0877, "common_features/digits/mmd": 0.00047},
        },
        {
            "removed": "common_features",
            "tasks": {"digits": 0.983, "fashion": 0.9012},
            "joint": 0.9266,
            "gradient_norms": {"soft_targets": 0.431},
        },
        {
            "removed": "common_features/mmd",
            "tasks": {"digits": 0.982, "fashion": 0.8885},
            "joint": 0.9169,
            "gradient_norms": {"soft_targets": 0.409, "common_features": 0.0911},
        },
    ],
    "history": _history(12),
    "confusion_matrix": {
        "labels": DIGITS + FASHION,
        "tasks": ["digits"] * 10 + ["fashion"] * 10,
        "counts": _confusion(),
    },
    "common_space": {
        "class_retrieval": {"digits": 0.871, "fashion": 0.713},
        "num_images": 600,
    },
    "settings": {
        "epochs": 12,
        "batch size": 64,
        "seed": 0,
        "student": "synthetic",
        "mixed": False,
        "canvas": [30, 31, "crop"],
    },
    "notes": ["All numbers of this report are synthetic."],
}


@pytest.fixture
def full_report() -> dict:
    """Everything was run."""
    return copy.deepcopy(_SYNTHETIC)


@pytest.fixture
def report() -> dict:
    """What must be there, and the tables; without the sections that are drawn."""
    drawn = ("history", "confusion_matrix")
    return copy.deepcopy({key: _SYNTHETIC[key] for key in _SYNTHETIC if key not in drawn})


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    """Blobs of points and stripes for images."""
    rng = np.random.default_rng(5)
    names = [("digits", name) for name in DIGITS] + [("fashion", name) for name in FASHION]
    rows = []
    for (task, name), center in zip(names, rng.normal(0, 30, (20, 2)), strict=True):
        for model in ("student", task):
            for _ in range(14):
                rows.append((model, task, name, *(center + rng.normal(0, 4, 2))))
    model, task, label, x, y = zip(*rows, strict=True)
    space = CommonSpace(
        np.column_stack([x, y]), np.array(model), np.array(task), np.array(label), seed=5
    )
    samples = []
    for task, classes in (("digits", DIGITS), ("fashion", FASHION)):
        for index in range(14):
            label, other = classes[index % 10], classes[(index + 3) % 10]
            mistake = index >= 8
            wave = np.sin(np.outer(np.arange(28) / (index + 2), np.arange(28) / 7))
            samples.append(
                Sample(
                    task,
                    (127 + 120 * wave)[..., None],
                    label,
                    Opinion(other if index == 9 else label, 0.98),
                    Opinion(other if mistake else label, 0.871 - 0.01 * index),
                    mistake,
                )
            )
    return Pictures(samples, space)


@pytest.fixture(scope="session")
def page(pictures) -> str:
    """The page of a job of which everything was run."""
    return render_page(_SYNTHETIC, pictures)
