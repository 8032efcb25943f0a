"""Frozen dataclasses as JSON: their fields and types are the only list of what may be in it.

The types are `float`, `int`, `bool`, `str`, `Literal`, dataclasses, `dict[str, …]` and
`tuple[…, ...]`; unions of these, with `None` for what was not measured; and any of them in
`Annotated` with a `Quantity`.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_amalgam.evaluation.quantities import Quantity

_SCALARS = {
    str: ("a text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a finite number", (int, float)),
}


def fields_of(record: type) -> dict[str, Any]:
    """The fields of a dataclass with their types, in order, annotations included."""
    hints = typing.get_type_hints(record, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def bare(hint: Any) -> tuple[Any, Quantity | None]:
    """A type without `Annotated`, and the quantity it was annotated with."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, None
    inner, *notes = typing.get_args(hint)
    return inner, next((note for note in notes if isinstance(note, Quantity)), None)


def options(hint: Any) -> tuple[list[Any], bool]:
    """The members of a union without `None`, and whether `None` is among them."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return [hint], False
    members = typing.get_args(hint)
    return [one for one in members if one is not types.NoneType], types.NoneType in members


def plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as dicts, tuples as lists, NumPy's numbers as Python's.

    Args:
        value: A dataclass, mapping, sequence, array or scalar; nothing in it is changed.
    """
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: plain(element) for key, element in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value


def build(hint: Any, value: Any) -> Any:
    """What `plain` made plain, as its type again.

    Args:
        hint: The type.
        value: What `check` accepts for it.
    """
    kinds, _ = options(bare(hint)[0])
    kind, _ = bare(kinds[0])
    if value is None or len(kinds) > 1:
        return tuple(value) if isinstance(value, list) else value
    if dataclasses.is_dataclass(kind):
        hints = fields_of(typing.cast(type, kind))
        return typing.cast(type, kind)(**{key: build(hints[key], value[key]) for key in hints})
    if typing.get_origin(kind) is dict:
        return {key: build(typing.get_args(kind)[1], element) for key, element in value.items()}
    if typing.get_origin(kind) is tuple:
        return tuple(build(typing.get_args(kind)[0], element) for element in value)
    return value


def check(hint: Any, value: Any, path: str) -> None:
    """Refuse a plain value that does not have its type, is out of range or misspelt.

    Args:
        hint: The type.
        value: What `plain` returns, or JSON.
        path: Where the value stands, for the message.

    Raises:
        ValueError: Naming the key, what it holds and what it must hold.
    """
    inner, quantity = bare(hint)
    kinds, nullable = options(inner)
    if value is None and nullable:
        return
    if len(kinds) > 1:
        _check_union(kinds, value, path)
    elif nullable:
        check(kinds[0], value, path)
    elif dataclasses.is_dataclass(inner):
        _check_record(typing.cast(type, inner), value, path)
    elif typing.get_origin(inner) is typing.Literal:
        _check_literal(typing.get_args(inner), value, path)
    elif typing.get_origin(inner) is dict:
        _check_mapping(inner, value, path)
    elif typing.get_origin(inner) is tuple:
        _check_list(inner, value, path)
    else:
        _check_scalar(inner, value, path)
    if quantity is not None:
        _check_range(quantity, value, path)


def error(path: str, received: Any, expected: Any) -> ValueError:
    """A value that is not right."""
    return ValueError(f"{path} is not right. Received: {received!r}. Expected: {expected}.")


def _check_record(record: type, value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise error(path, value, "a mapping")
    hints = fields_of(record)
    for key, hint in hints.items():
        if key not in value:
            mend = " Give null if it was not measured." if options(bare(hint)[0])[1] else ""
            raise ValueError(f"{path}.{key} is missing. Received: {list(value)}.{mend}")
    for key, element in value.items():
        if key not in hints:
            raise ValueError(
                f"{path}.{key} is not known. Expected: {list(hints)}. "
                "What has no place elsewhere belongs in report.settings."
            )
        check(hints[key], element, f"{path}.{key}")


def _check_mapping(hint: Any, value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise error(path, value, "a mapping")
    for key, element in value.items():
        if not isinstance(key, str):
            raise error(f"{path}, a key of it,", key, "a text")
        check(typing.get_args(hint)[1], element, f"{path}.{key}")


def _check_list(hint: Any, value: Any, path: str) -> None:
    if not isinstance(value, list | tuple):
        raise error(path, value, "a list")
    for place, element in enumerate(value):
        check(typing.get_args(hint)[0], element, f"{path}[{place}]")


def _check_literal(allowed: tuple[Any, ...], value: Any, path: str) -> None:
    # `True` equals 1 and 2.0 equals 2, but neither is what is written.
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise error(path, value, f"one of {list(allowed)}")


def _check_union(kinds: list[Any], value: Any, path: str) -> None:
    for kind in kinds:
        try:
            return check(kind, value, path)
        except ValueError:
            continue
    names = [_SCALARS[kind][0] if kind in _SCALARS else "a list of these" for kind in kinds]
    raise error(path, value, f"{', '.join(names[:-1])} or {names[-1]}")


def _check_scalar(kind: Any, value: Any, path: str) -> None:
    expected, accepted = _SCALARS[kind]
    wrong = not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool)
    if wrong or (kind is float and not math.isfinite(value)):
        raise error(path, value, expected)


def _check_range(quantity: Quantity, value: Any, path: str) -> None:
    size = value if isinstance(value, int | float) else len(value)
    below = quantity.minimum is not None and size < quantity.minimum
    above = quantity.maximum is not None and size > quantity.maximum
    if below or above:
        raise error(path, value, quantity.expected)
