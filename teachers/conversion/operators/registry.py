"""Which function converts which operator, by domain and opset."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_amalgam.teachers.conversion.layout import Rows, Value
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.passes.folding import FOLDABLE
from keras_amalgam.teachers.onnx_files.graph import Node
from keras_amalgam.text import markdown

Result = Value | Rows | np.ndarray
Handler = Callable[[Call], Result | tuple[Result, ...]]

_HANDLERS: dict[tuple[str, str], dict[int, Handler]] = {}


@dataclass(frozen=True)
class Row:
    """One line of the operator table.

    Args:
        operator: The operator's type.
        domain: Its domain as the standard writes it.
        versions: Opsets from which on one of our functions holds.
        becomes: What it turns into.
    """

    operator: str
    domain: str
    versions: tuple[int, ...]
    becomes: str


def register_operator(name: str, since: int, domain: str = "") -> Callable[[Handler], Handler]:
    """Register the function below as the conversion of an operator.

    The first line of its docstring says what the operator becomes.

    Args:
        name: The operator's type, as `"Conv"`.
        since: The first opset whose form of the operator the function understands; it holds until
            another function with a higher one.
        domain: The operator's domain; empty for the standard one.

    Raises:
        ValueError: If there is one already.
    """

    def register(handler: Handler) -> Handler:
        versions = _HANDLERS.setdefault((domain, name), {})
        if since in versions:
            raise ValueError(
                f"Operator {name!r} (domain {domain or 'ai.onnx'}) since opset {since} is "
                f"registered already, by {versions[since].__name__!r}. Remove one of the two."
            )
        versions[since] = handler
        return handler

    return register


def is_known(node: Node) -> bool:
    """Whether a function is registered for the node's operator, domain and opset."""
    return any(since <= node.opset for since in _HANDLERS.get((node.domain, node.operator), ()))


def converts(node: Node) -> bool:
    """Whether a node can be converted as far as its operator tells: by a function, or folded."""
    return is_known(node) or (node.operator in FOLDABLE and not node.domain)


def resolve(node: Node) -> Handler:
    """The function that converts a node: the newest one not newer than the file's opset.

    Raises:
        NotImplementedError: If there is none.
    """
    if not is_known(node):
        raise NotImplementedError(unknown(node))
    versions = _HANDLERS[node.domain, node.operator]
    return versions[max(since for since in versions if since <= node.opset)]


def unknown(node: Node) -> str:
    """Why a node without a registered function cannot be converted."""
    since = sorted(_HANDLERS.get((node.domain, node.operator), ()))
    known = f"it is known since opset {since[0]}" if since else "nothing is registered for it"
    return (
        f"{known}. `python -m keras_amalgam.teachers.conversion.operators` prints what is known. "
        "Add it with `teachers.register_operator`, or let the file teach as it is: "
        "`teachers.runtime_teacher`."
    )


def rows() -> list[Row]:
    """The operator table, sorted by domain and name."""
    return [
        Row(
            operator=name,
            domain=domain or "ai.onnx",
            versions=tuple(sorted(versions)),
            becomes=(versions[max(versions)].__doc__ or "").split("\n")[0].rstrip("."),
        )
        for (domain, name), versions in sorted(_HANDLERS.items())
    ]


def table() -> str:
    """The operator table in Markdown."""
    cells = [
        (row.operator, row.domain, ", ".join(map(str, row.versions)), row.becomes) for row in rows()
    ]
    return markdown(("operator", "domain", "since opset", "becomes"), cells)
