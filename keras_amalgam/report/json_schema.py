"""The JSON Schema of `report.json`, made from the dataclasses."""

import dataclasses
import inspect
import re
import typing
from typing import Any

from keras_amalgam.evaluation.quantities import Quantity
from keras_amalgam.report.records import bare, fields_of, options
from keras_amalgam.report.results import VERSION, Report

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json`, draft 2020-12.

    It has every key, type and range. What it cannot say, that no value contradicts another,
    `Report.from_dict` checks.
    """
    definitions: dict[str, Any] = {}
    top = _record(Report, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"report.json of keras-amalgam, version {VERSION}",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def _record(record: type, definitions: dict[str, Any]) -> dict[str, Any]:
    about = _descriptions(record)
    properties = {
        name: {**_schema(hint, definitions), "description": about[name]}
        for name, hint in fields_of(record).items()
    }
    return {
        "description": inspect.cleandoc(record.__doc__ or "").split("\n")[0],
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    inner, quantity = bare(hint)
    kinds, nullable = options(inner)
    arguments = typing.get_args(inner)
    if nullable or len(kinds) > 1:
        members = [_schema(kind, definitions) for kind in kinds]
        return {"anyOf": [*members, *([{"type": "null"}] if nullable else [])]}
    if dataclasses.is_dataclass(inner):
        name = typing.cast(type, inner).__name__
        if name not in definitions:
            definitions[name] = _record(typing.cast(type, inner), definitions)
        return {"$ref": f"#/$defs/{name}"}
    if typing.get_origin(inner) is typing.Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if typing.get_origin(inner) is dict:
        below = {"additionalProperties": _schema(arguments[1], definitions)}
        return {"type": "object", **below, **_range(quantity, "minProperties")}
    if typing.get_origin(inner) is tuple:
        below = {"items": _schema(arguments[0], definitions)}
        return {"type": "array", **below, **_range(quantity, "minItems")}
    return {"type": _TYPES[inner], **_range(quantity, "minLength" if inner is str else "minimum")}


def _range(quantity: Quantity | None, lowest: str) -> dict[str, float]:
    if quantity is None:
        return {}
    bounds = {lowest: quantity.minimum, "maximum": quantity.maximum}
    return {key: bound for key, bound in bounds.items() if bound is not None}


def _descriptions(record: type) -> dict[str, str]:
    """What the docstring says of each attribute."""
    _, _, text = inspect.cleandoc(record.__doc__ or "").partition("Attributes:\n")
    text = re.split(r"\n\S", text)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(about.split()) for name, about in entries}
