"""Which teachers and settings a method can serve."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_amalgam.models.student import check_names
from keras_amalgam.models.taps import as_functional, features_at, layers_up_to
from keras_amalgam.models.teacher import Teacher

# Ends of the names of settings that may differ between networks of one architecture.
_NOT_ARCHITECTURE = (
    *("name", "trainable", "dtype", "batch_shape"),
    *("_initializer", "_regularizer", "_constraint"),
)


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
        layers = (_layers(method, one) for one in (first, teacher))
        for number, (mine, its) in enumerate(itertools.zip_longest(*layers, fillvalue={})):
            if mine != its:
                raise ValueError(
                    f"The method {method!r} serves teachers of one architecture. Received: "
                    f"{first.name!r} and {teacher.name!r}, whose layers up to their taps differ "
                    f"at number {number}: {_told(mine, its)}. Choose another method, such as "
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


def check_depth(method: str, teacher: Teacher) -> None:
    """Refuse taps of which one does not depend on the one before it.

    Args:
        method: The method's name, for the error.
        teacher: With taps.

    Raises:
        ValueError: Naming the two taps.
    """
    if not teacher.in_graph:
        return
    names = [*teacher.taps]
    for before, tap in itertools.pairwise(names):
        first, then = (layers_up_to(teacher.model, teacher.taps[one]) for one in (before, tap))
        if not {id(layer) for layer in first} < {id(layer) for layer in then}:
            raise ValueError(
                f"The method {method!r} goes through the taps by depth. Received: {names} of "
                f"{teacher.name!r}, where {tap!r} does not lie behind {before!r}. Give the taps "
                "in the order of their depth."
            )


def _layers(method: str, teacher: Teacher) -> list[dict[str, Any]]:
    """Of each layer that the taps depend on its kind, weights, inputs and settings."""
    if not teacher.in_graph:
        raise ValueError(
            f"The method {method!r} compares teachers layer by layer. Received: {teacher.name!r}, "
            "a network in its own runtime, without layers. Choose another method, such as "
            "matching or standardized."
        )
    images, _, features = features_at(teacher.model, teacher.taps)
    return _described(keras.Model(images, features))


def _told(mine: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    """In what two layers differ, in words."""
    if not (mine and its):
        return " and ".join(one.get("kind", "no layer") for one in (mine, its))
    kinds = {one["kind"] for one in (mine, its)}
    if len(kinds) > 1:
        return f"{mine['kind']} and {its['kind']}"
    keys = [key for key in {**mine, **its} if mine.get(key) != its.get(key)]
    pairs = (f"{key} {mine.get(key)} and {its.get(key)}" for key in keys)
    return f"{mine['kind']}, {'; '.join(pairs)}"


def _described(model: keras.Model) -> list[dict[str, Any]]:
    """Layers in their order, those inside others behind these; names do not count."""
    saved = model.get_config()["layers"]
    places = {one["config"]["name"]: number for number, one in enumerate(saved)}
    described = []
    for layer, config in zip(model.operations, saved, strict=True):
        inputs = [places[name] for name in _histories(config.get("inbound_nodes", []))]
        about: dict[str, Any] = {"kind": type(layer).__name__, "inputs": inputs}
        if isinstance(layer, keras.Model):
            described += [about, *_described(as_functional(layer))]
            continue
        about["weights"] = [tuple(weight.shape) for weight in getattr(layer, "weights", ())]
        settings = config["config"].items()
        about |= {key: value for key, value in settings if not key.endswith(_NOT_ARCHITECTURE)}
        described.append(about)
    return described


def _histories(nodes: Any) -> Iterator[str]:
    """Names of the layers that a layer's calls read, from its saved form."""
    if isinstance(nodes, Mapping):
        if "keras_history" in nodes:
            yield nodes["keras_history"][0]
        nodes = list(nodes.values())
    if isinstance(nodes, (list, tuple)):
        for node in nodes:
            yield from _histories(node)
