"""A made-up report: its numbers are synthetic and say nothing about any model."""

import copy
import dataclasses

import numpy as np
import pytest

from keras_amalgam.evaluation import CommonSpace, Sample
from keras_amalgam.evaluation.samples import Opinion
from keras_amalgam.report import Pictures, Report, goal, render_page

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


def _artifact(kind, precision, size, latency, error, agreement) -> dict:
    return {
        "format": kind,
        "precision": precision,
        "instead_of": [],
        "bytes": size,
        "latency_ms": latency,
        "latency_beside_teachers_ms": None,
        "max_abs_error": error,
        "tolerance": 1e-4,
        "min_agreement": agreement,
        "num_images": 64,
        "accuracy": None,
    }


def _goal(*arguments, **more) -> dict:
    return dataclasses.asdict(goal(*arguments, **more))


_SYNTHETIC = {
    "version": 3,
    "recipe": "synthetic",
    "created": "2001-02-03 04:05 UTC",
    "tasks": {
        "digits": {
            "num_test_images": 2000,
            "teacher_own_pipeline_accuracy": None,
            "teacher_canvas_accuracy": 0.9935,
            "student_accuracy": 0.9815,
            "agreement": 0.984,
        },
        "fashion": {
            "num_test_images": 2000,
            "teacher_own_pipeline_accuracy": 0.9095,
            "teacher_canvas_accuracy": 0.9095,
            "student_accuracy": 0.8895,
            "agreement": 0.925,
        },
    },
    "joint_accuracy": {
        "student": 0.91725,
        "teachers": 0.6435,
        "compared": [
            {"method": "blind", "ownership": "joint", "accuracy": None},
            {"method": "blind_by_task", "ownership": "per_task", "accuracy": 0.7125},
        ],
    },
    "goals": [
        _goal("digits: student within 2 points of its teacher", -0.012, -0.02, "points"),
        _goal("fashion: student within 1 point of its teacher", -0.02, -0.01, "points"),
        _goal("joint accuracy, sources known in training", 0.91725, 0.9, "fraction"),
        _goal("amalgamation time", 171.3, 300.0, "seconds", at_least=False),
        _goal("student's parameters over the teachers'", 0.1005, 0.25, "number", at_least=False),
        _goal("joint accuracy, sources unknown", None, 0.8, "fraction"),
    ],
    "teachers": {"parameters": 551234, "bytes": 2412345, "latency_ms": 3.91},
    "student": {"method": "amalgamation", "ownership": "source", "parameters": 55384},
    "artifacts": {
        "saved_model": _artifact("saved_model", "float32", 345_678, 1.234, 2.4e-6, 0.984375),
        "student.tflite": _artifact("tflite", "float32", 231_456, 0.522, 3.1e-5, 1.0),
        "student.onnx": _artifact("onnx", "float32", 240_111, 0.413, 3.3e-4, 0.9921),
        "student_int8.tflite": {
            **_artifact("tflite", "int8", 81_234, 0.345, 0.812, 0.9688),
            "tolerance": None,
            "latency_beside_teachers_ms": 0.231,
            "accuracy": {"digits": 0.981, "fashion": 0.8835},
        },
    },
    "seconds": {"amalgamate": 171.3, "total": 243.8},
    "choice": {
        "by": "tasks",
        "num_images": 400,
        "diverged": ["standardized"],
        "tried": [
            {
                "method": name,
                "epochs": 2,
                "parameters": 55_384,
                "agreement": {"digits": digits, "fashion": 0.75},
                "joint_agreement": 0.625,
            }
            for name, digits in (("amalgamation", 0.9125), ("reused_heads", 0.8875))
        ],
    },
    "ablation": [
        {
            "method": "all_terms",
            "removed": None,
            "task_accuracy": {"digits": 0.9815, "fashion": 0.8895},
            "joint_accuracy": 0.91725,
            "gradient_norms": _NORMS,
        },
        {
            "method": "without_soft_targets",
            "removed": "soft_targets",
            "task_accuracy": {"digits": 0.1135, "fashion": 0.0925},
            "joint_accuracy": 0.0515,
            "gradient_norms": {"common_features": 0.0877, "common_features/digits/mmd": 0.00047},
        },
        {
            "method": "without_common_features",
            "removed": "common_features",
            "task_accuracy": {"digits": 0.983, "fashion": 0.9012},
            "joint_accuracy": 0.9266,
            "gradient_norms": {"soft_targets": 0.431},
        },
        {
            "method": "without_mmd",
            "removed": "common_features/mmd",
            "task_accuracy": {"digits": 0.982, "fashion": 0.8885},
            "joint_accuracy": 0.9169,
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
    "versions": {"keras": "3.0.synthetic", "tensorflow": "2.0.synthetic"},
}


@pytest.fixture
def full_content() -> dict:
    """What `report.json` holds when everything was run."""
    return copy.deepcopy(_SYNTHETIC)


@pytest.fixture
def content() -> dict:
    """What must be there, and the tables; without the sections that are drawn."""
    return copy.deepcopy({**_SYNTHETIC, "history": None, "confusion_matrix": None})


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
    return render_page(Report.from_dict(_SYNTHETIC), pictures)
