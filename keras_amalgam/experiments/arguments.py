"""What the arguments of a run must be, refused before anything is read or written."""

import dataclasses
import inspect
import numbers
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from keras_amalgam.choices import (
    CHANNELS,
    DTYPE_POLICIES,
    LEAST_SIDE,
    NUMBERS,
    OWNERSHIPS,
    TRAINING_METHODS,
    USED_BY,
    Number,
)
from keras_amalgam.export.arguments import is_whole
from keras_amalgam.images.canvas import METHODS
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.text import did_you_mean


def check_teachers(teachers: Any) -> None:
    """Refuse anything but a list of teachers and folders.

    Args:
        teachers: As `amalgamate` is given them.

    Raises:
        TypeError: If it is something else, such as one folder.
        ValueError: If it is empty.
    """
    listed = isinstance(teachers, Sequence) and not isinstance(teachers, (str, bytes))
    kinds = (Teacher, str, PathLike)
    wrong = [one for one in teachers if not isinstance(one, kinds)] if listed else [teachers]
    if wrong:
        given = f"{type(wrong[0]).__name__} {wrong[0]!r:.80}"
        raise TypeError(
            f"`teachers` must be a list of teachers or folders. Received: {given}"
            f"{' in it' if listed else ''}. Give each as a Teacher or as a folder that "
            'Teacher.save wrote, such as ["cars/", "birds/"].'
        )
    if not teachers:
        raise ValueError(
            "At least one teacher is needed. Received: an empty list of teachers. Give folders "
            "that Teacher.save wrote."
        )


def check_names(
    choices: Mapping[str, Any],
    function: Callable[..., Any],
    takes: Callable[..., Any],
    settings: type,
) -> None:
    """Refuse arguments that a function does not know, in its own name.

    Args:
        choices: What it was given beside its own arguments.
        function: The one that the user called.
        takes: The one that takes the choices, by keyword.
        settings: The data class of its argument `settings`, for whose fields the place is said.

    Raises:
        TypeError: Naming the argument, and what was probably meant.
    """
    taken = [
        name
        for name, parameter in inspect.signature(takes).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    strangers = [name for name in choices if name not in taken]
    if not strangers:
        return
    name = strangers[0]
    said = f"{function.__name__}() has no argument {name!r}."
    if name in [field.name for field in dataclasses.fields(settings)]:
        raise TypeError(
            f"{said} It says how a run is run. Received: {name}={choices[name]!r:.80}. Pass it in "
            f"`settings=job.{settings.__name__}({name}=…)`, with `from keras_amalgam.experiments "
            "import job`."
        )
    own = inspect.signature(function).parameters.values()
    named = [one.name for one in own if one.kind is not one.VAR_KEYWORD]
    known = list(dict.fromkeys([*named, *taken]))
    raise TypeError(
        f"{said}{did_you_mean(name, known)} Received: {name}={choices[name]!r:.80}. Expected: "
        f"some of {known}."
    )


def check_choices(choices: Mapping[str, Any]) -> None:
    """Refuse values that no run takes; names that are not checked here are passed over.

    Args:
        choices: Arguments of `own_teachers.recipe` by name.

    Raises:
        ValueError: Naming the argument and what it may be, or the method that has no use for it.
    """
    for name, value in choices.items():
        if name in NUMBERS and not _is_number(value, NUMBERS[name]):
            raise _refused(name, value, _in_words(NUMBERS[name]))
        if name in _OTHERS:
            is_right, expected = _OTHERS[name]
            if not is_right(value):
                raise _refused(name, value, expected)
    _check_used(choices)
    if choices.get("epochs") is not None and choices.get("steps") is not None:
        raise ValueError(
            "The length of the training is given in epochs or in steps. Received: "
            f"`epochs={choices['epochs']}` and `steps={choices['steps']}`. Leave one out."
        )


def _check_used(choices: Mapping[str, Any]) -> None:
    """Refuse what is given and would change nothing in the method."""
    method = choices.get("method", TRAINING_METHODS[0])
    for name, (methods, reason) in USED_BY.items():
        if choices.get(name) is not None and method not in methods:
            raise ValueError(
                f"The method {method!r} {reason}. Received: `{name}={choices[name]!r}`. Leave "
                f"`{name}` out, or choose a `method` of {list(methods)}."
            )


def plain(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices with NumPy's numbers as Python's, which Keras and JSON want; one side as both.

    Args:
        choices: As `check_choices` passes them.
    """
    return {
        name: value if value is None else _plain(name, value) for name, value in choices.items()
    }


def _plain(name: str, value: Any) -> Any:
    if name in NUMBERS:
        return NUMBERS[name].kind(value)
    if name in ("student", "weights"):
        return os.fspath(value)
    if name == "size":
        height, width = value if isinstance(value, (tuple, list)) else (value, value)
        return int(height), int(width)
    return (int(value[0]), int(value[1]), *value[2:]) if name == "canvas" else value


def _is_number(value: Any, wanted: Number) -> bool:
    if value is None:
        return wanted.is_optional
    # Below infinity, which no number of a run is; NaN is below nothing.
    highest = sys.float_info.max if wanted.highest is None else wanted.highest
    if wanted.kind is int:
        return is_whole(value, int(wanted.lowest)) and value <= highest
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    number: Any = value
    return bool(wanted.lowest <= number <= highest)


def _in_words(wanted: Number) -> str:
    kind = "a whole number" if wanted.kind is int else "a finite number"
    end = "" if wanted.highest is None else f", at most {wanted.highest}"
    return f"{kind}, at least {wanted.lowest:g}{end}{', or None' if wanted.is_optional else ''}"


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value,)
    return value is None or all(is_whole(side, LEAST_SIDE) for side in sides)


def _is_canvas(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        return False
    is_method = all(isinstance(one, str) and one in METHODS for one in value[2:])
    return is_method and all(is_whole(side, 1) for side in value[:2])


def _refused(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(
        f"`{name}` is not right. Received: {name}={value!r:.80}. Expected: {expected}."
    )


_OTHERS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "student": (
        lambda value: isinstance(value, (str, PathLike)),
        "'compact', a class of keras.applications, or the path of a .keras file or of a teacher's "
        "folder",
    ),
    "weights": (
        lambda value: value is None or isinstance(value, (str, PathLike)),
        "'imagenet', 'none', the path of a file, or None for the student's own",
    ),
    "size": (
        _is_size,
        f"a side or (height, width) in pixels, whole numbers of at least {LEAST_SIDE}, or None for "
        "the student's own",
    ),
    "canvas": (
        _is_canvas,
        "(height, width) or (height, width, method) in whole pixels, the method one of "
        f"{list(METHODS)}, or None for what is right for the teachers",
    ),
    "channels": (
        lambda value: is_whole(value, 1) and value in CHANNELS,
        "1 for grey images or 3 for RGB",
    ),
    "ownership": (
        lambda value: value is None or (isinstance(value, str) and value in OWNERSHIPS),
        f"one of {list(OWNERSHIPS)}, or None for what the images' folders allow",
    ),
    "dtype_policy": (
        lambda value: isinstance(value, str) and value in DTYPE_POLICIES,
        f"one of {list(DTYPE_POLICIES)}",
    ),
    "flip": (lambda value: isinstance(value, bool), "True or False"),
    "method": (
        lambda value: isinstance(value, str) and value in TRAINING_METHODS,
        f"one of {list(TRAINING_METHODS)}",
    ),
    "read_once": (
        lambda value: value is None or isinstance(value, bool),
        "True or False, or None for what the memory that is free allows",
    ),
}
