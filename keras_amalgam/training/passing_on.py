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
from keras_amalgam.terms import AmalgamationTerm
from keras_amalgam.training.amalgamator import Amalgamator


def carry_terms(earlier: Sequence[AmalgamationTerm], now: Sequence[AmalgamationTerm]) -> None:
    """Give terms the weights of those of the same name, with what these saw in `adapt`.

    Args:
        earlier: Of the stage before.
        now: Of the stage that begins.

    Raises:
        ValueError: If two terms of one name differ in kind or weights.
    """
    known = {term.name: term for term in earlier}
    for term in now:
        before = known.get(term.name)
        if before is None:
            continue
        shapes = [[tuple(weight.shape) for weight in one.weights] for one in (before, term)]
        if type(before) is not type(term) or shapes[0] != shapes[1]:
            raise ValueError(
                f"A stage goes on with the terms of the one before by their names. Received: "
                f"{term.name!r}, a {type(before).__name__} with {len(shapes[0])} weights before, a "
                f"{type(term).__name__} with {len(shapes[1])} now, or of other shapes. Give the "
                "new one a name of its own."
            )
        term.set_weights(before.get_weights())


@contextmanager
def frozen(amalgamator: Amalgamator, names: Sequence[str]) -> Iterator[None]:
    """Let some layers and terms not be trained, and train them again afterwards.

    Args:
        amalgamator: Before it is compiled.
        names: Of layers of the student, of terms, or `"student"`.

    Raises:
        ValueError: If there is none of a name; says which there are.
    """
    found = [_found(amalgamator, name) for name in names]
    # A layer that was not trained before must not be afterwards, either.
    layers = [inner for one in found for inner in one._flatten_layers()]
    before = [inner.trainable for inner in layers]
    for one in found:
        one.trainable = False
    try:
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
    student = amalgamator.student
    known = {
        "student": student,
        **{layer.name: layer for layer in student.layers},
        **{term.name: term for term in amalgamator.terms},
    }
    if name not in known:
        raise ValueError(
            f"There is nothing to freeze of this name. Received: {name!r}. Expected: one of "
            f"{list(known)}."
        )
    return known[name]
