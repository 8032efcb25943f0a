"""What a stage takes over from the one before it, and what it leaves untrained."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.files.writing import named, whole_file
from keras_amalgam.models.taps import layers_up_to
from keras_amalgam.terms import AmalgamationTerm
from keras_amalgam.training.amalgamator import Amalgamator
from keras_amalgam.training.method import Beyond, UpTo


def carry_terms(earlier: Amalgamator, now: Amalgamator) -> None:
    """Give terms the weights of those of the same name, with what these saw in `adapt`.

    A term that reads the student at another layer than before begins anew: its weights belong to
    the features that it saw.

    Args:
        earlier: Of the stage before.
        now: Of the stage that begins.

    Raises:
        ValueError: If two terms of one name differ in kind, settings or weights, and have weights.
    """
    known = {term.name: term for term in earlier.terms}
    for term in now.terms:
        before = known.get(term.name)
        if before is None or not (before.weights or term.weights):
            continue
        if any(earlier.student_taps.get(tap) != now.student_taps[tap] for tap in term.reads):
            continue
        differing = _differences(before, term)
        if differing:
            raise ValueError(
                "A stage goes on with the terms of the one before by their names. Received: "
                f"{term.name!r}, of which differ: {differing}. Give the new one a name of its own."
            )
        term.set_weights(before.get_weights())


def _differences(before: AmalgamationTerm, now: AmalgamationTerm) -> str:
    """In what a term is another one; its share of the objective may change."""
    if type(before) is not type(now):
        return f"its kind, {type(now).__name__}, was {type(before).__name__}"
    configs = [{**term.get_config(), "weight": None} for term in (before, now)]
    told = [
        f"{name}={configs[1].get(name)!r}, was {value!r}"
        for name, value in configs[0].items()
        if configs[1].get(name) != value
    ]
    shapes = [[tuple(weight.shape) for weight in term.weights] for term in (before, now)]
    if shapes[0] != shapes[1]:
        told.append(f"the shapes of its {len(shapes[1])} weights, which were {len(shapes[0])}")
    return "; ".join(told)


@contextmanager
def frozen(amalgamator: Amalgamator, parts: Sequence[str | UpTo | Beyond]) -> Iterator[None]:
    """Let some layers and terms not be trained, and train them again afterwards.

    Args:
        amalgamator: Before it is compiled.
        parts: As in `Stage(freeze=…)`.

    Raises:
        ValueError: If there is none of a name; says which there are. If nothing of the student is
            left to be trained, and that was not asked for by its name.
    """
    found = [
        layer
        for part in parts
        for layer in (
            [_found(amalgamator, part)] if isinstance(part, str) else _beside(amalgamator, part)
        )
    ]
    # A layer that was not trained before must not be afterwards, either.
    layers = [inner for one in found for inner in one._flatten_layers()]
    before = [inner.trainable for inner in layers]
    could_learn = bool(amalgamator.student.trainable_weights)
    for inner in layers:  # One by one: setting what is set already would not reach further.
        inner.trainable = False
    try:
        if could_learn and "student" not in parts and not amalgamator.student.trainable_weights:
            raise ValueError(
                "A stage leaves nothing of the student to be trained. Received: "
                f"freeze={[*parts]}. Freeze less; taps come in the order of their depth; or say "
                "'student' where the terms alone are to be trained."
            )
        yield
    finally:
        # Each sets those inside as well, which come after it.
        for inner, trainable in zip(layers, before, strict=True):
            inner.trainable = trainable


def save_student(folder: Path, stage: int, student: keras.Model) -> None:
    """Keep what a stage trained, for the one after it to be taught by, whoever goes on there.

    Args:
        folder: Of the training's states.
        stage: Number of the stage that has ended.
        student: What it trained.
    """
    weights = {f"{number:05}": value for number, value in enumerate(student.get_weights())}
    path = _student_path(folder, stage)
    with whole_file(path) as partial, named(path), open(partial, "wb") as file:
        np.savez(file, **weights)


def load_student(folder: Path, stage: int, student: keras.Model) -> None:
    """Give a student the weights that a stage ended with.

    Args:
        folder: Of the training's states.
        stage: Number of the stage.
        student: Of the same architecture.

    Raises:
        ValueError: If they are not there, or those of another architecture.
    """
    path = _student_path(folder, stage)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            student.set_weights([arrays[key] for key in sorted(arrays.files)])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"The student that stage {stage + 1} trained cannot be read, and the stage after it is "
            f"taught by it. Received: {path} ({type(error).__name__}: {error}). Put it back from a "
            "copy, or begin anew in another folder."
        ) from error


def _student_path(folder: Path, stage: int) -> Path:
    return folder / f"student_{stage:03}.npz"


def _found(amalgamator: Amalgamator, name: str) -> Any:
    found, path = None, ""
    inside: dict[str, Any] = {
        "student": amalgamator.student,
        **{layer.name: layer for layer in amalgamator.student.layers},
        **{term.name: term for term in amalgamator.terms},
    }
    for step in name.split("/"):
        if step not in inside:
            raise ValueError(
                f"There is nothing to freeze of this name. Received: {name!r}. Expected: "
                f"{f'{path!r} and behind it ' if path else ''}one of {list(inside)}."
            )
        found, path = inside[step], f"{path}{step}/"
        inside = {layer.name: layer for layer in found._flatten_layers(False, False)}
    return found


def _beside(amalgamator: Amalgamator, part: UpTo | Beyond) -> list[Any]:
    """The student's layers on one side of a tap."""
    taps, student = amalgamator.student_taps, amalgamator.student
    wanted = [part.tap] if isinstance(part.tap, str) else part.tap
    if not set(wanted) <= set(taps):
        raise ValueError(
            f"The student has no tap of this name. Received: {part}. Expected: one of "
            f"{list(taps)}. Name it in `Stage(student_tap={{…}})`."
        )
    before = [layer for name in wanted for layer in layers_up_to(student, taps[name])]
    if isinstance(part, UpTo):
        return before
    known = {id(layer) for layer in before}
    layers = (one for one in student._flatten_layers() if not isinstance(one, keras.Model))
    return [layer for layer in layers if id(layer) not in known]
