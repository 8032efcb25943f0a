"""Which teachers and settings a method can serve."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import keras

from keras_amalgam.models.student import check_names
from keras_amalgam.models.taps import features_at
from keras_amalgam.models.teacher import Teacher


def check_tapped(method: str, teachers: Sequence[Teacher]) -> None:
    """Refuse teachers whose features a method cannot read.

    Args:
        method: The method's name, for the error.
        teachers: The training's teachers.

    Raises:
        TypeError: If they are not teachers.
        ValueError: Naming those without a tap.
    """
    check_names(teachers)
    tapless = [teacher.name for teacher in teachers if not teacher.taps]
    if tapless:
        raise ValueError(
            f"The method {method!r} imitates features. Received: teachers without a tap, "
            f"{tapless}. Give Teacher(…, tap=…), or choose a method that reads answers alone."
        )


def check_one_architecture(method: str, teachers: Sequence[Teacher]) -> None:
    """Refuse teachers whose layers up to their taps are not the same, whatever their weights.

    Args:
        method: The method's name, for the error.
        teachers: With taps.

    Raises:
        ValueError: Naming the teachers that differ, and the first layer in which they do.
    """
    first, *others = teachers
    for teacher in others:
        if [*teacher.taps] != [*first.taps]:
            raise ValueError(
                f"The method {method!r} compares teachers layer by layer. Received: {first.name!r} "
                f"with taps {[*first.taps]}, {teacher.name!r} with taps {[*teacher.taps]}. Give "
                "all of them taps of the same names, in the same order."
            )
        pairs = zip_longest(_layers(method, first), _layers(method, teacher), fillvalue="no layer")
        for number, (mine, its) in enumerate(pairs):
            if mine != its:
                raise ValueError(
                    f"The method {method!r} serves teachers of one architecture. Received: "
                    f"{first.name!r} and {teacher.name!r}, whose layers up to their taps differ "
                    f"at number {number}: {mine} and {its}. Choose another method, such as "
                    "matching or standardized."
                )


def epochs_of(method: str, epochs: Any, stages: int) -> tuple[int, ...]:
    """Epochs of every stage, one number each.

    Args:
        method: The method's name, for the error.
        epochs: As they were given.
        stages: How many there must be.

    Raises:
        ValueError: If they are not so many numbers.
    """
    if not isinstance(epochs, Sequence) or len(epochs) != stages:
        raise ValueError(
            f"The method {method!r} takes the epochs of each of its {stages} stages. Received: "
            f"epochs={epochs!r}. Give {stages} whole numbers."
        )
    return tuple(epochs)


def _layers(method: str, teacher: Teacher) -> list[str]:
    """Kind and weights of each layer that the taps depend on, in words."""
    if not teacher.in_graph:
        raise ValueError(
            f"The method {method!r} compares teachers layer by layer. Received: {teacher.name!r}, "
            "a network in its own runtime, without layers. Choose another method, such as "
            "matching or standardized."
        )
    images, _, features = features_at(teacher.model, teacher.taps)
    layers = keras.Model(images, features)._flatten_layers(include_self=False)
    return [
        " ".join([type(layer).__name__, *(str(tuple(w.shape)) for w in layer.weights)])
        for layer in layers
        if not isinstance(layer, keras.Model)
    ]
