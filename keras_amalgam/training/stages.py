"""Running a method."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.models.taps import Tap
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.training.amalgamator import Amalgamator
from keras_amalgam.training.method import Method


@dataclass(frozen=True)
class Amalgamation:
    """What a training left.

    Attributes:
        method: How it was trained.
        amalgamator: Of the last stage, with the student.
        history: Values per epoch by key, over all stages.
        seconds: Wall time of the fits.
    """

    method: Method
    amalgamator: Amalgamator
    history: dict[str, list[float]]
    seconds: float


def train(
    method: Method,
    teachers: Sequence[Teacher],
    student: Callable[[], keras.Model],
    student_tap: str | Tap,
    images: tf.data.Dataset,
    logs: Path | None = None,
    verbose: int | str = "auto",
) -> Amalgamation:
    """Train a new student by a method.

    Args:
        method: Its stages.
        teachers: The teachers, in the order of their sources.
        student: Makes the student.
        student_tap: Of the student.
        images: Unlabelled batches of known number, one epoch.
        logs: Folder for TensorBoard; each stage writes a folder of its own.
        verbose: As in `keras.Model.fit`.

    Returns:
        The trained student and its history.
    """
    keras.utils.set_random_seed(method.seed)
    trained = student()
    steps = int(images.cardinality())
    history: dict[str, list[float]] = {}
    amalgamator = Amalgamator(trained, teachers, student_tap, terms=method.stages[0].terms())
    start = time.perf_counter()
    for number, stage in enumerate(method.stages):
        if number:
            amalgamator = Amalgamator(trained, teachers, student_tap, terms=stage.terms())
        amalgamator.compile(optimizer=stage.optimizer(stage.epochs * steps))
        callbacks: list[Any] = []
        if logs is not None:
            callbacks.append(keras.callbacks.TensorBoard(logs / f"stage_{number}"))
        fitted = amalgamator.fit(images, epochs=stage.epochs, callbacks=callbacks, verbose=verbose)
        for key, values in fitted.history.items():
            history.setdefault(key, []).extend(float(value) for value in values)
    return Amalgamation(method, amalgamator, history, time.perf_counter() - start)
