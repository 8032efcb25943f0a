"""The demo: a residual network for digits and a vision transformer for fashion become one student.

The teachers were trained in PyTorch and in Keras and take images of different sizes and
normalisation; both ship with the package, as do the images. See `data/demo/LICENSES.md`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import keras

from keras_amalgam import data, teachers
from keras_amalgam.evaluation import difference
from keras_amalgam.experiments import arguments
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.models import backbones
from keras_amalgam.models.student import build_student
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.report import Goal, Report, goal
from keras_amalgam.terms import AmalgamationTerm, CommonFeatures, SoftTargets
from keras_amalgam.training import Method, Stage, cosine_adamw

IMAGE_SHAPE = (28, 28, 1)
BATCH_SIZE = 64
# Of 6, 8 and 10 the fewest whose student agrees with the teachers within half a point of the best,
# on a tenth of the unlabelled images kept aside from its training, over two seeds.
EPOCHS, FULL_EPOCHS, COMPARED_EPOCHS = 8, 30, 5
# Clothes are harder than digits, so they get three quarters of the images.
PROPORTIONS = {"digits": 1, "fashion": 3}
PEAK_RATE = 6e-3

# Averaged over the map: compared place by place, features would take a third of every step.
TAPS = {"digits": "node_Reshape_189", "fashion": "pooled"}
STUDENT_TAP = "pooled"

# Digits must not be mirrored; shoes may.
AUGMENTATION = {
    "digits": data.Augmentation(translation=2),
    "fashion": data.Augmentation(translation=1, flip=True),
}


def recipe(full: bool = False, seed: int = 0, epochs: int | None = None) -> Recipe:
    """The demo's recipe.

    Args:
        full: Whether to train longer and to train the comparisons too: without each term, and
            without knowing the images' source.
        seed: Of the initial weights, the order and the augmentation.
        epochs: Of the exported student's training; by default those that its goals are set for.

    Raises:
        ValueError: If the seed or the epochs are out of their bounds.
    """
    if epochs is None:
        epochs = FULL_EPOCHS if full else EPOCHS
    arguments.check_choices({"seed": seed, "epochs": epochs})
    known = [_teacher("digits", teachers.from_onnx), _teacher("fashion", teachers.from_keras)]
    folder = data.demo_data_dir()
    unlabelled = {
        teacher.name: data.from_tfds(f"demo_{teacher.name}", "unlabelled", folder)
        for teacher in known
    }
    return Recipe(
        name="digits and fashion",
        teachers=known,
        student=lambda: build_student(backbones.compact(IMAGE_SHAPE), known),
        student_tap=STUDENT_TAP,
        streams={
            "train": lambda: data.stream(
                unlabelled,
                batch_size=BATCH_SIZE,
                proportions=PROPORTIONS,
                augmentation=AUGMENTATION,
                seed=seed,
            ),
            "calibration": lambda: data.stream(unlabelled, batch_size=BATCH_SIZE, seed=seed),
        },
        made_from={
            "data": [f"demo_{teacher.name}" for teacher in known],
            "batch_size": BATCH_SIZE,
            "proportions": PROPORTIONS,
            "augmentation": {name: asdict(one) for name, one in AUGMENTATION.items()},
            "seed": seed,
        },
        evaluation={
            teacher.name: data.labelled_from_tfds(f"demo_{teacher.name}", "test", folder)
            for teacher in known
        },
        methods=_methods(full, epochs, seed),
        goals=partial(_goals, full=full),
        teacher_bytes=sum(
            (folder / "teachers" / _card(t.name)["file"]).stat().st_size for t in known
        ),
        settings={
            "unlabelled images": "9,000 of MNIST, 9,000 of Fashion-MNIST, none seen by a teacher",
            "epochs": epochs,
            "batch": BATCH_SIZE,
            "digits : fashion in training": "1 : 3",
            "seed": seed,
            "canvas": [*IMAGE_SHAPE[:2], "resize"],  # Which resizes nothing: all have this size.
        },
        notes=[
            "In the comparisons every run, the source-blind one and the one with all terms "
            f"included, takes {COMPARED_EPOCHS} epochs and the same seed."
        ]
        if full
        else [],
    )


def _card(name: str) -> dict[str, Any]:
    return json.loads((data.demo_data_dir() / "teachers" / f"{name}.json").read_text())


def _teacher(name: str, convert: Callable[..., keras.Model]) -> Teacher:
    card = _card(name)
    return Teacher(
        convert(data.demo_data_dir() / "teachers" / card["file"]),
        name=name,
        class_names=card["class_names"],
        tap=TAPS[name],
        outputs=card["outputs"],
        preprocessing=Preprocessing.from_config(card["preprocessing"]),
    )


def _soft(ownership: Any = "source") -> SoftTargets:
    # Temperature 1: the teacher of fashion was trained with smoothed labels and is soft already.
    return SoftTargets(ownership=ownership)


def _common(**settings: Any) -> CommonFeatures:
    # Narrower and lighter than the paper's 128 channels and weight 10, as the networks are small.
    return CommonFeatures(units=64, weight=0.1, **settings)


def _method(
    name: str,
    terms: Callable[[], list[AmalgamationTerm]],
    epochs: int = COMPARED_EPOCHS,
    removes: str | None = None,
    seed: int = 0,
) -> Method:
    stage = Stage(terms, epochs, cosine_adamw(PEAK_RATE))
    return Method(name, (stage,), removes=removes, seed=seed)


def _methods(full: bool, epochs: int, seed: int) -> list[Method]:
    main = _method("amalgamation", lambda: [_soft(), _common()], epochs=epochs, seed=seed)
    if not full:
        return [main]
    compared = [
        _method("all_terms", lambda: [_soft(), _common()]),
        _method("without_soft_targets", lambda: [_common()], removes="soft_targets"),
        _method("without_common_features", lambda: [_soft()], removes="common_features"),
        _method(
            "without_reconstruction",
            lambda: [_soft(), _common(reconstruction_weight=0.0)],
            removes="common_features/reconstruction",
        ),
        _method("source_blind", lambda: [_soft("per_task"), _common()]),
    ]
    return [main, *(replace(method, seed=seed) for method in compared)]


def _goals(report: Report, full: bool) -> list[Goal]:
    within, minutes = (0.01, 30) if full else (0.02, 5)
    goals = []
    for name, task in report.tasks.items():
        loss = difference(task.student_accuracy, task.teacher_accuracy)
        goals.append(goal(f"{name}: student minus teacher", loss, -within, "points"))
        for artifact in report.artifacts.values():
            if artifact.accuracy is not None:
                loss = difference(artifact.accuracy[name], task.student_accuracy)
                title = f"{name}: {artifact.precision} minus float student"
                goals.append(goal(title, loss, -0.005, "points"))
    joint, seconds = report.joint_accuracy.student, report.seconds.total
    share = report.student.parameters / report.teachers.parameters
    return [
        *goals,
        goal("joint accuracy, source aware", joint, 0.9, "fraction"),
        goal("student's parameters over teachers'", share, 0.25, "ratio", at_least=False),
        goal("whole job", seconds, 60 * minutes, "seconds", at_least=False),
    ]
