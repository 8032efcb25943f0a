"""Another backend of Keras is refused in a sentence, wherever the package is entered."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import keras_amalgam as ka
from keras_amalgam import backend

ROOMS = ["data", "evaluation", "experiments", "export", "layers", "losses", "models", "report"]
ROOMS += ["tasks", "teachers", "terms", "training"]
NAMES = [name for name in ka.__all__ if not name.startswith("__")]
SENTENCE = "keras-amalgam needs Keras on TensorFlow. Received: the backend 'jax'"

ENTER = """
import importlib, json, sys
import keras_amalgam

def refusal(enter):
    try:
        enter()
    except ImportError as error:
        return str(error)
    return "entered"

rooms, names = json.loads(sys.argv[1])
found = {room: refusal(lambda: importlib.import_module(f"keras_amalgam.{room}")) for room in rooms}
found |= {name: refusal(lambda: getattr(keras_amalgam, name)) for name in names}
found["loaded"] = sorted({"keras", "tensorflow"} & set(sys.modules))
print(json.dumps(found))
"""


def python(*arguments, **variables):
    """A process of its own, with nothing said about the backend but by `variables`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KERAS_")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment | variables,
    )


@pytest.fixture
def keras_home(tmp_path):
    """A folder with a user's `keras.json`."""

    def write(**settings):
        (tmp_path / "keras.json").write_text(json.dumps(settings))
        return str(tmp_path)

    return write


def test_every_entrance_refuses_another_backend_before_keras_is_imported():
    done = python("-c", ENTER, json.dumps([ROOMS, NAMES]), KERAS_BACKEND="jax")
    found = json.loads(done.stdout)
    assert found.pop("loaded") == []
    assert found.keys() == {*ROOMS, *NAMES}
    for entrance, said in found.items():
        assert said.startswith(SENTENCE), (entrance, said)
        assert "KERAS_BACKEND=tensorflow" in said


def test_rooms_of_the_test_are_all_that_import_keras():
    package = pathlib.Path(ka.__file__).parent
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert rooms - {"cli", "files", "images"} == set(ROOMS)


@pytest.mark.parametrize("name", ["torch", "numpy", "openvino"])
def test_sentence_names_the_backend_and_what_chose_it(name, keras_home):
    by_variable = python("-c", "import keras_amalgam.losses", KERAS_BACKEND=name)
    assert f"the backend {name!r}, by the environment variable KERAS_BACKEND" in by_variable.stderr
    home = keras_home(backend=name)
    by_file = python("-c", "import keras_amalgam.losses", KERAS_HOME=home)
    assert f"the backend {name!r}, by 'backend' in {home}/keras.json" in by_file.stderr


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"backend": "jax"}, "tensorflow"),
        ({"floatx": "float64"}, ""),
        ({"backend": "tensorflow"}, ""),
        ([], ""),
    ],
)
def test_tensorflow_is_let_in_as_keras_would_choose_it(settings, variable, keras_home, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    check = "import keras_amalgam.backend, sys; print('keras' in sys.modules)"
    done = python("-c", check, KERAS_HOME=str(tmp_path), KERAS_BACKEND=variable)
    assert done.stdout == "False\n", done.stderr


def test_keras_that_is_imported_already_is_asked_itself(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # Too late to matter.
    backend.refuse_other_backends()


@pytest.mark.parametrize("command", ["demo", "inspect", "convert", "amalgamate", "export", "run"])
def test_command_line_refuses_another_backend_and_writes_nothing(command, tmp_path):
    arguments = ["-m", "keras_amalgam", command, "--out", tmp_path / "out", "somewhere"]
    if command == "inspect":
        arguments = ["-m", "keras_amalgam", command, "somewhere"]
    done = python(*arguments, KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert done.stderr.startswith(f"keras-amalgam {command} failed.\nImportError: {SENTENCE}")
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_need_no_backend():
    for arguments in (["--version"], ["--help"], ["demo", "--help"]):
        done = python("-m", "keras_amalgam", *arguments, KERAS_BACKEND="jax")
        assert (done.returncode, done.stderr) == (0, "")


def test_light_import_stays_light():
    check = "import keras_amalgam, sys; print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    assert python("-c", check).stdout == "set()\n"


@pytest.mark.slow
def test_users_keras_json_does_not_change_what_a_command_makes(keras_home, tmp_path):
    """What is converted under it has the same weights and layers."""
    demo = pathlib.Path(ka.__file__).parent / "data/demo/teachers/digits.onnx"
    home = keras_home(floatx="float16", image_data_format="channels_first")
    command = ["-m", "keras_amalgam", "inspect", "--json", demo]
    expected, received = python(*command), python(*command, KERAS_HOME=home)
    assert received.returncode == 0, received.stderr
    assert received.stdout == expected.stdout
