"""What a task and its classes may be called, so that every graph and artifact can carry it."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

# TensorFlow names scopes, signatures and operations so: no other sign, and these first.
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
INPUT_NAME = "image"


def check_task_name(name: Any) -> None:
    """Refuse what cannot name a teacher, its task and the student's head.

    Args:
        name: ASCII letters, digits, `_`, `.` and `-`, a letter or a digit first; not `"image"`.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is another string.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"A teacher's name must be a string. Received: {name!r} of type "
            f"{type(name).__name__}. Expected: a word such as 'birds'."
        )
    if name == INPUT_NAME:
        raise ValueError(
            f"A teacher's name must differ from the name of a student's input. Received: {name!r}. "
            "Name what the teacher knows, such as 'birds'."
        )
    if not TASK_NAME.fullmatch(name):
        raise ValueError(
            f"A teacher's name must be a word: it names a head. Received: {name!r}. Expected: "
            "ASCII letters, digits, '_', '.' and '-', a letter or a digit first. Name it "
            f"{_mended(name)!r}."
        )


def as_class_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names as plain strings in their order, each fit for a line of a labels file.

    Args:
        class_names: A list, tuple, array or other sequence of strings.

    Raises:
        TypeError: If it is anything else; sets and mappings have no order to rely on.
        ValueError: If a name is empty, breaks the line or cannot be written.
    """
    if isinstance(class_names, (str, Mapping, Set)) or not isinstance(class_names, Iterable):
        raise TypeError(
            f"`class_names` must be a sequence of strings. Received: {class_names!r} of type "
            f"{type(class_names).__name__}. Pass a list, in the order of the logits."
        )
    names = tuple(class_names)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"`class_names` must be strings. Received: {name!r} of type "
                f"{type(name).__name__} among them. Convert them with `str`."
            )
        if not fits_a_line(name):
            raise ValueError(
                "`class_names` must fit on the lines of a labels file. Received: "
                f"{str(name)!r} among them. Expected: text without line breaks, not empty. "
                "Rename the class."
            )
    return tuple(str(name) for name in names)


def fits_a_line(name: str) -> bool:
    """Whether a class name can stand on one line of a labels file, alone and readable."""
    # A name of undecodable bytes, as a folder's may be, holds surrogates: UTF-8 has none.
    encodable = name.encode(errors="replace").decode() == name
    return encodable and bool(name.strip()) and name.splitlines() == [name]


def _mended(name: str) -> str:
    """The nearest name that is allowed."""
    letters = (c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    mended = re.sub(r"[^A-Za-z0-9_.-]+", "_", "".join(letters)).strip("_.-")
    return mended if mended not in ("", INPUT_NAME) else "birds"
