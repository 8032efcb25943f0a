"""What a Keras configuration may name: layers and mathematics, but no code."""

from collections.abc import Iterator
from typing import Any

# Layers that hold code, or a path to it: Keras would run it, or import it, to make them.
HOLDING_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
# Where Keras keeps the functions of networks. Others of Keras write files, or read them.
_FUNCTIONS = ("activations", "constraints", "initializers", "losses", "metrics", "ops")


def refuse_code(config: Any, name: str) -> None:
    """Refuse a model whose configuration holds code, at any depth, or names other functions.

    Args:
        config: The parsed configuration.
        name: Of the file.

    Raises:
        ValueError: If a layer of it carries code, or calls a function of Keras that is no
            mathematics.
    """
    for part in _parts(config):
        classes = {_last(part.get("class_name")), _last(part.get("registered_name"))}
        found = sorted(classes & {*HOLDING_CODE, "__lambda__"})
        inner = part.get("config")
        if found:
            layer = inner.get("name") if isinstance(inner, dict) else None
            raise ValueError(
                f"Keras cannot load {name!r} safely: its layer {layer!r} is a {found[0]}, which "
                "is code inside a file. Where you would run the file as a program, pass "
                "safe_mode=False, or load the model yourself and pass it."
            )
        if part.get("class_name") == "function" and not _is_mathematics(part.get("module"), inner):
            raise ValueError(
                f"Keras cannot load {name!r} safely: it calls {part.get('module')}.{inner}. "
                f"Expected: functions of keras.{', keras.'.join(_FUNCTIONS)}, or your own. Where "
                "you would run the file as a program, pass safe_mode=False, or load the model "
                "yourself and pass it."
            )


def _last(name: Any) -> str:
    """A class's own name, whatever package or module stands before it."""
    return str(name).split(">")[-1].split(".")[-1]


def _is_mathematics(module: Any, name: Any) -> bool:
    """Whether it is a function of networks, or none of Keras' own, which Keras does not import."""
    path = f"{module}.{name}".split(".")
    return path[0] != "keras" or path[1] in _FUNCTIONS


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a configuration, without recursion: its depth is the file's choice."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
