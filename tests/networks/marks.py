"""What a kept row depends on, as a hash: the importer, and how the network's file is written."""

import ast
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.networks.catalogue import Network

ROOT = Path(__file__).parents[2]
# Raised by hand when rows come to mean something else, so that no edit of a message discards them.
_EDITION = 1
_IMPORTER, _HERE = "keras_amalgam.teachers", "tests.networks"
_ENTRIES = {"keras": "from_keras", "saved model": "from_saved_model"}
# Told by the network's own fields.
_DATA = {f"{_HERE}.catalogue", f"{_HERE}.transformers_configs"}
# Whose change changes no file and no number.
_UNMEASURED = {"source", "licence", "note", "blind", "foreign", "transposes", "writers"}


def mark(network: Network, written: str, root: Path = ROOT) -> str:
    """A hash that changes with the importer and with the network's recipe.

    Of the importer it takes the modules that are imported on the way from the function that reads
    this kind of file, without their docstrings and comments.

    Args:
        network: From the catalogue.
        written: One of its writers.
        root: Of the repository.
    """
    entry = f"{_IMPORTER}.{_ENTRIES.get(written, 'from_onnx')}"
    importer = [_code(module, root) for module in sorted(reached(entry, _IMPORTER, root))]
    return _hash(_EDITION, recipe(network, written, root), *importer)


def recipe(network: Network, written: str, root: Path = ROOT) -> str:
    """A hash that changes with the fields of a network and the modules that write its file.

    Args:
        network: From the catalogue.
        written: One of its writers.
        root: Of the repository.
    """
    writer: Callable[..., Any] = network.writers[written]
    fields = {
        field.name: getattr(network, field.name)
        for field in dataclasses.fields(network)
        if field.name not in _UNMEASURED
    }
    carried = getattr(writer, "__self__", None)
    modules = sorted(reached(writer.__module__, _HERE, root))
    return _hash(written, fields, carried, *(_code(module, root) for module in modules))


def _hash(*parts: Any) -> str:
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()


@functools.cache
def reached(module: str, package: str, root: Path = ROOT) -> frozenset[str]:
    """A module and all of one package that it imports, at its top or inside functions.

    Args:
        module: Its full name.
        package: Modules outside it are not followed.
        root: Of the repository.
    """
    found, waiting = {module}, [module]
    while waiting:
        for name in _imported(_path(waiting.pop(), root)) - found - _DATA:
            if name.startswith(package) and _path(name, root).exists():
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _path(module: str, root: Path) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _code(module: str, root: Path) -> str:
    """A module without docstrings and comments."""
    tree = ast.parse(_path(module, root).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            del node.body[0]
    return ast.dump(tree)
