"""The rules of the house, read from the source: who imports whom, sizes, lists that must agree."""

import ast
import functools
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "keras_amalgam"
ISLANDS = ("teachers", "export")

# Inside the core imports run one way: from a floor only to those above it in this list.
FLOORS = (
    {"backend", "choices", "keras_settings", "onednn", "quiet", "text", "version"},
    {"versions"},
    {"files", "losses"},
    {"images", "layers"},
    {"tasks"},
    {"models"},
    {"terms"},
    {"training"},
    {"evaluation", "data"},
    {"report"},
    {"experiments"},
    {"cli"},
    {"__main__"},
)
CORE = set().union(*FLOORS[: [floor >= {"training"} for floor in FLOORS].index(True) + 1])
COMPOSITION_ROOT = {"experiments", "cli", "__main__"}
# The same among the rooms of `teachers/`; the doors `from_*.py` stand above them all.
TEACHERS_FLOORS = (
    {"onnx_files", "saved_models", "keras_files"},
    {"torch_modules", "conversion"},
    {"runtimes"},
    {"comparison", "inspection"},
)
# Rooms of value objects, which the islands may use.
SHARED = {
    "backend",
    "files",
    "images",
    "keras_settings",
    "models",
    "quiet",
    "tasks",
    "text",
    "version",
    "versions",
}

TEXT = {".py", ".md", ".toml", ".txt", ".html", ".css", ".js", ".sh", ""}


def sources(folder):
    """Python files of a folder, without those behind the symlinks to the islands."""
    for directory, _, names in os.walk(ROOT / folder):
        yield from (pathlib.Path(directory, name) for name in names if name.endswith(".py"))


def module_name(path):
    """`teachers/comparison/parity.py` is `keras_amalgam.teachers.comparison.parity`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == PACKAGE else (PACKAGE, *parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for folder in (PACKAGE, *ISLANDS) for path in sources(folder)}


@functools.cache  # Every file is asked for by several tests.
def imports(text, modules=frozenset(MODULES)):
    """Full names of what a module imports, also inside functions, not for type checkers alone."""
    tree = ast.parse(text)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in modules else base)
    return found


def unit(name):
    """The folder or file right under the package that a module belongs to."""
    return name.split(".")[1] if "." in name else "__init__"


def units_imported(path):
    ours = {name for name in imports(path.read_text()) if name.split(".")[0] == PACKAGE}
    return {unit(name) for name in ours}


def floor(name):
    numbers = [number for number, names in enumerate(FLOORS) if name in names]
    assert numbers, f"{name} has no floor: put it where its imports allow."
    return numbers[0]


def room_floor(name):
    return [name in names for names in TEACHERS_FLOORS].index(True)


UNITS = sorted({unit(name) for name in MODULES} - {"__init__", *ISLANDS})


def paths_of(name):
    return [path for module, path in MODULES.items() if unit(module) == name]


@pytest.mark.parametrize("name", UNITS)
def test_imports_run_one_way_through_the_core(name):
    for path in paths_of(name):
        for imported in units_imported(path) - {name, *ISLANDS}:
            assert imported != "__init__", f"{path} imports the whole package."
            assert floor(imported) < floor(name), f"{path} imports {imported}."


TERMS = {
    node.name: path
    for module, path in MODULES.items()
    if module.startswith("keras_amalgam.terms.") and path.stem not in ("term", "features")
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef) and any("Term" in ast.unparse(base) for base in node.bases)
}
# What an amalgamator has where nothing is said.
DEFAULT_TERM = ("SoftTargets", "keras_amalgam/training/amalgamator.py")


@functools.cache
def names_in(path):
    tree = ast.parse(path.read_text())
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("term", sorted(TERMS))
def test_term_touches_no_file_but_its_own(term):
    """Beside the public names, methods and recipes choose it, and nobody else knows it."""
    choosing = ("keras_amalgam/training/methods/", "keras_amalgam/experiments/")
    for module, path in MODULES.items():
        place = path.relative_to(ROOT).as_posix()
        if path in (TERMS[term], ROOT / PACKAGE / "terms/__init__.py") or module == PACKAGE:
            continue
        if place.startswith(choosing) or (term, place) == DEFAULT_TERM:
            continue
        known = {name.split(".")[-1] for name in imports(path.read_text())}
        assert term not in names_in(path) and TERMS[term].stem not in known, place


@pytest.mark.parametrize("name", UNITS)
def test_only_the_composition_root_sees_the_islands(name):
    seen = {path.name for path in paths_of(name) if units_imported(path) & set(ISLANDS)}
    assert not seen or name in COMPOSITION_ROOT


@pytest.mark.parametrize("island", ISLANDS)
def test_islands_use_the_cores_value_objects_alone_and_never_each_other(island):
    for path in paths_of(island):
        assert units_imported(path) <= {island, *SHARED}, path


def test_imports_run_one_way_through_the_rooms_of_teachers():
    rooms = set().union(*TEACHERS_FLOORS)
    for path in paths_of("teachers"):
        own = path.relative_to(ROOT / "teachers").parts[0]
        ours = [name.split(".") for name in imports(path.read_text())]
        used = {name[2] for name in ours if name[:2] == [PACKAGE, "teachers"] and len(name) > 2}
        for imported in used & rooms - {own} if own in rooms else ():
            assert room_floor(imported) < room_floor(own), f"{path} imports {imported}."
        if own in rooms:
            assert not {name for name in used if name.startswith("from_")}, path


def test_every_room_of_teachers_has_its_floor():
    folders = {path.parent.name for path in (ROOT / "teachers").glob("*/__init__.py")}
    assert folders == set().union(*TEACHERS_FLOORS)
    doors = {path.stem for path in (ROOT / "teachers").glob("*.py")} - {"__init__"}
    assert all(door.startswith("from_") for door in doors), doors


def test_every_file_of_the_longest_tests_exists(pytestconfig):
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    assert all((ROOT / "tests" / name).is_file() for name in conftest.LONGEST)


def test_every_path_of_the_contributors_map_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("| ") and "`" in row]
    missing = []
    for row in rows:
        folder = ROOT
        for path in re.findall(r"`([\w/]+(?:/|\.py))`", row):
            # A name alone stands for a file beside the one before it, or for a room of the core.
            places = [ROOT / path, folder / path, ROOT / PACKAGE / path]
            found = [place for place in places if place.exists()]
            missing += [] if found else [path]
            if found:
                folder = found[0] if found[0].is_dir() else found[0].parent
    assert len(rows) > 30 and not missing


def test_package_itself_imports_the_core_alone():
    assert units_imported(ROOT / PACKAGE / "__init__.py") <= CORE


def test_every_import_is_absolute():
    for path in MODULES.values():
        assert not [name for name in imports(path.read_text()) if name.startswith(".")], path


def test_reading_of_imports_sees_every_form_and_no_type_checking():
    text = """
import os.path
from keras_amalgam import export, teachers as t
from keras_amalgam.models.taps import Tap
if TYPE_CHECKING:
    from keras_amalgam.training.amalgamator import Amalgamator
def late():
    from . import cli
"""
    modules = frozenset({f"{PACKAGE}.export", f"{PACKAGE}.teachers"})
    expected = {
        "os.path",
        "keras_amalgam.export",
        "keras_amalgam.teachers",
        "keras_amalgam.models.taps",
    }
    assert imports(text, modules) == {*expected, "."}


@pytest.mark.parametrize("island", ISLANDS)
def test_bare_import_of_an_island_names_the_right_path(island):
    command = [sys.executable, "-c", f"import {island}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: This package "), done.stderr
    assert f"`from {PACKAGE} import {island}`" in last


@pytest.mark.parametrize("island", ISLANDS)
def test_islands_stand_at_the_top_and_are_linked_into_the_package(island):
    assert os.readlink(ROOT / PACKAGE / island) == f"../{island}"


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_packages_of_the_wheel_are_those_of_the_tree(project):
    in_tree = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(in_tree)
    assert project["tool"]["setuptools"]["package-dir"] == {
        PACKAGE: PACKAGE,
        **{f"{PACKAGE}.{island}": island for island in ISLANDS},
    }


def test_every_folder_with_modules_is_a_package():
    for path in MODULES.values():
        assert (path.parent / "__init__.py").exists(), path


def distribution(requirement):
    """The name in `absl-py>=2.5,<3`, in PyPI's normal form."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
    return re.sub(r"[-_.]+", "-", name).lower()


def required():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {distribution(line) for line in lines if line.strip() and not line.startswith("#")}


def test_requirements_are_the_only_list_of_run_time_dependencies(project):
    assert "dependencies" not in project["project"]
    assert "dependencies" in project["project"]["dynamic"]
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
    others = {path.name for path in ROOT.glob("*") if path.name in ("setup.py", "setup.cfg")}
    assert others | {path.name for path in ROOT.glob("*requirements*")} == {"requirements.txt"}


def test_everything_that_is_imported_is_required(project):
    """By requirements.txt, by an extra, or by one of these itself, as protobuf by onnx."""
    extras = project["project"]["optional-dependencies"]
    optional = {distribution(r) for name in extras if name != "dev" for r in extras[name]}
    installed = {distribution(d.name): d for d in importlib.metadata.distributions()}
    by_these = {
        distribution(requirement)
        for name in required() & set(installed)
        for requirement in installed[name].requires or ()
        if "extra ==" not in requirement
    }
    providers = importlib.metadata.packages_distributions()
    missing = {}
    for path in MODULES.values():
        for name in {name.split(".")[0] for name in imports(path.read_text())}:
            if name in sys.stdlib_module_names or name == PACKAGE:
                continue
            provided_by = {distribution(d) for d in providers.get(name, [name])}
            if not provided_by & (required() | optional | by_these):
                missing[str(path.relative_to(ROOT))] = name
    assert missing == {}
