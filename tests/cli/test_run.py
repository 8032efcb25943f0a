"""Running a run.json again: the same student comes out, from wherever it is asked for."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_amalgam.cli.main import main
from keras_amalgam.training import state

RECIPE = """
from keras_amalgam.experiments import digits_fashion

def recipe():
    return digits_fashion.recipe(seed=1)
"""


@pytest.fixture
def begun(teachers, make, tmp_path, monkeypatch):
    """A training of one step, begun by `amalgamate` with relative paths."""
    monkeypatch.chdir(tmp_path)
    for number, teacher in enumerate(teachers):
        teacher.save(teacher.name)
        (tmp_path / "photos" / teacher.name).mkdir(parents=True)
        for index, image in enumerate(make.images(6, size=16, seed=number)):
            Image.fromarray(image[..., 0]).save(tmp_path / "photos" / teacher.name / f"{index}.bmp")
    words = ["--teacher=digits", "--teacher=shapes", "--images=photos", "--size=16", "--channels=1"]
    words += ["--batch_size=4", "--seed=3", "--hours=0.05", "--only=train", "--out=first"]
    # Hours become steps, as if a few had been timed: one is enough here.
    monkeypatch.setattr("keras_amalgam.experiments.shortening.steps_in", lambda *_: 2)
    assert main(["amalgamate", *words]) == 0
    return tmp_path


def weights_of(run):
    found, path = state.latest(run / "training" / "amalgamation" / "states")
    assert found.finished
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name.isdigit()}


@pytest.mark.slow
def test_run_json_is_run_to_its_end_from_another_folder(begun, monkeypatch, capsys):
    told = json.loads((begun / "first" / "run.json").read_text())
    assert told["steps"] == 2 and told["flags"]["hours"] == 0.05
    (begun / "elsewhere").mkdir()
    monkeypatch.chdir(begun / "elsewhere")
    monkeypatch.setattr(
        "keras_amalgam.experiments.shortening.steps_in", lambda *_: pytest.fail("timed again")
    )
    assert main(["run", "../first/run.json", "--only=train", "--out=again"]) == 0
    first, again = weights_of(begun / "first"), weights_of(begun / "elsewhere" / "again")
    assert first.keys() == again.keys() and first
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_run_json_whose_folder_or_recipe_is_another_is_refused(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text(RECIPE)
    told = {"command": "run", "arguments": [str(recipe)], "flags": {}, "recipe_sha256": "0" * 64}
    (tmp_path / "run.json").write_text(json.dumps(told))
    words = ["run", str(tmp_path / "run.json"), f"--out={tmp_path / 'out'}"]
    assert main(words) == 2
    assert "mine.py has changed since" in capsys.readouterr().err
    told = {"command": "demo", "arguments": [], "flags": {}, "folder": str(tmp_path / "gone")}
    (tmp_path / "run.json").write_text(json.dumps(told))
    assert main(words) == 2
    assert "begun in a folder that is gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("epochs", "many", "a positive integer, or null"),
        ("epochs", [3], "a positive integer, or null"),
        ("epochs", True, "a positive integer, or null"),
        ("epochs", 2.5, "a positive integer, or null"),
        ("batch_size", 0, "integer >= 2"),
        ("batch_size", None, "integer >= 2"),
        ("learning_rate", -1, "a non-negative number, or null"),
        ("learning_rate", 10**400, "a non-negative number, or null"),
        ("student", True, "a text"),
        ("images", 3, "a text, or null"),
        ("teacher", "digits", "a list of texts"),
        ("teacher", [3], "a list of texts"),
        ("size", [16, 16], "a list of texts, or null"),
        ("ownership", "mine", "one of ['joint', 'per_task', 'source'], or null"),
        ("flip", "maybe", "true or false"),
        ("flip", [True], "true or false"),
    ],
)
def test_value_of_a_run_json_is_checked_as_a_flags(tmp_path, capsys, flag, value, expected):
    told = {"command": "amalgamate", "arguments": [], "flags": {"images": "photos", flag: value}}
    (tmp_path / "run.json").write_text(json.dumps(told))
    assert main(["run", str(tmp_path / "run.json"), f"--out={tmp_path / 'out'}"]) == 2
    assert (
        f"run.json has a wrong value for --{flag}. Received: {json.dumps(value)}. "
        f"Expected: {expected}. Mend the file"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flags": {"images": ""}}, "--images must not be empty"),
        ({"flags": {"learning_rate": float("nan")}}, "--learning_rate must be finite"),
        ({"flags": {"hours": 1}, "steps": "many"}, 'for --steps. Received: "many"'),
        ({"flags": {"hours": 1}, "steps": 0}, "for --steps. Received: 0"),
        ({"folder": 3}, "is not the run.json of a run"),
        ({"arguments": "ab"}, "is not the run.json of a run"),
        ({"arguments": [1]}, "is not the run.json of a run"),
        ({"command": ["demo"]}, "is not the run.json of a run"),
    ],
)
def test_run_json_that_no_command_wrote_is_a_usage_error(tmp_path, capsys, change, said):
    told = {"command": "amalgamate", "arguments": [], "flags": {}, **change}
    (tmp_path / "run.json").write_text(json.dumps(told))
    assert main(["run", str(tmp_path / "run.json"), f"--out={tmp_path / 'out'}"]) == 2
    assert said in capsys.readouterr().err
