"""What no test runs, such as benchmarks and CI's scripts, asks for names that exist."""

import ast
import importlib
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = (".ci", "benchmarks", "scripts")
SCRIPTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def resolved(module, name):
    """A module's attribute, or the module of that name inside it."""
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module.__name__}.{name}")


def missing(text):
    """Names of this package that a script asks for and that are not there."""
    tree, modules, absent = ast.parse(text), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "keras_amalgam":
                    modules[alias.asname or alias.name] = importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_amalgam"):
            for alias in node.names:
                try:
                    found = resolved(importlib.import_module(node.module), alias.name)
                except ImportError:
                    absent.append(f"{node.module}.{alias.name}")
                    continue
                if isinstance(found, types.ModuleType):
                    modules[alias.asname or alias.name] = found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                absent.append(f"{node.value.id}.{node.attr}")
    return absent


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script_asks_for_names_that_exist(path):
    assert missing(path.read_text()) == []


def test_names_that_do_not_exist_are_found():
    text = """
import keras_amalgam as ka
from keras_amalgam.experiments import nothing, students
from keras_amalgam.text import markdown, no_table
ka.Teacher, ka.nobody, students.compact
"""
    assert missing(text) == [
        "keras_amalgam.experiments.nothing",
        "keras_amalgam.text.no_table",
        "ka.nobody",
        "students.compact",
    ]
