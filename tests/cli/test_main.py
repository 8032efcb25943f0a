"""The command line as a user meets it: in processes of its own."""

import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

import keras_amalgam as ka
from keras_amalgam.cli.main import COMMANDS, RUNS, main


def keras_amalgam(*arguments, cwd=None):
    command = [sys.executable, "-m", "keras_amalgam", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_help_names_every_command_and_its_own_help(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)


def test_help_says_which_format_a_flag_is_for(capsys):
    assert main(["export", "--help"]) == 0
    assert "ONNX operator set. (For onnx.)" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_gives_an_example_and_every_flag(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"keras-amalgam {command}" in said
    replaces = "--restart" if command in RUNS else "--overwrite"
    assert command == "inspect" or ("--out" in said and replaces in said)


def test_no_command_and_an_unknown_one_are_usage_errors(capsys):
    assert main([]) == 2
    assert main(["merge"]) == 2
    assert "no command 'merge'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--ful"], "Unknown command line flag 'ful'"),
        (["demo", "runs/demo"], "Only flags are expected"),
        (["run"], "One RECIPE is expected"),
        (["inspect"], "One FILE is expected"),
        (["inspect", "nowhere.onnx"], "no file or directory nowhere.onnx"),
        (["convert", "--out", "x"], "One FILE is expected"),
        (["run", "recipe.py"], "--out=FOLDER is needed"),
        (["amalgamate", "--images", ".", "--out", "x"], "At least one --teacher"),
        (
            ["amalgamate", "--teacher", "nowhere", "--images", ".", "--out", "x"],
            "--teacher must be a folder. Received: nowhere",
        ),
        (
            ["amalgamate", "--teacher", ".", "--images", ".", "--out", "x", "--epochs", "0"],
            "epochs",
        ),
        (
            ["amalgamate", "--teacher", ".", "--images", ".", "--out", "x", "--test", "a"],
            "TEACHER=DIR",
        ),
    ],
)
def test_a_wrong_command_line_is_refused_with_advice(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "--help` explains" in error


@pytest.mark.parametrize("flag", [[], ["--restart"]])
@pytest.mark.parametrize("command", [["demo"], ["run", "digits_fashion"]])
def test_a_run_refuses_a_folder_that_is_no_earlier_run(tmp_path, capsys, command, flag):
    (tmp_path / "kept.txt").write_text("mine")
    assert main([*command, "--out", str(tmp_path), *flag]) == 2
    said = capsys.readouterr().err
    assert f"A run needs a folder of its own. Received: {tmp_path}" in said
    assert "Choose another --out." in said
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_result_of_an_earlier_version_is_replaced_only_if_told_to(tmp_path, capsys):
    for name in ("report.json", "report.html"):
        (tmp_path / name).write_text("{}")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "replace it with --restart" in capsys.readouterr().err


def test_restart_removes_nothing_that_only_would_build_upon(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--restart", "--only", "report"]) == 2
    assert "Give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [("seed", "--set wants NAME=VALUE"), ("speed=3", "does not take these settings")],
)
def test_wrong_setting_of_a_recipe_is_refused(tmp_path, capsys, setting, said):
    code = main(["run", "digits_fashion", "--set", setting, "--out", str(tmp_path / "out")])
    assert code in (1, 2) and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["{}", "[", '{"command": "convert", "arguments": [], "flags": {}}']
)
def test_file_that_is_not_the_run_json_of_a_run_is_refused(tmp_path, capsys, content):
    (tmp_path / "run.json").write_text(content)
    assert main(["run", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "is not the run.json of a run" in said or "names a command that runs nothing" in said


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    done = keras_amalgam("run", "digits_fashion", "--out", tmp_path / "file" / "out")
    assert done.returncode == 1
    assert f"Nothing can be written into the folder {tmp_path / 'file'}." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_that_needs_arguments_is_refused_by_name(tmp_path, capsys):
    assert main(["run", "own_teachers", "--out", str(tmp_path / "out")]) == 1
    assert (
        "recipe() of own_teachers needs the arguments teachers, images" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_failing_run_says_why_and_leaves_nothing(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text("def recipe():\n    return 3\n")
    done = keras_amalgam("run", recipe, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "must return a Recipe. Received: 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["recipe.py"]


@pytest.mark.slow
def test_standard_error_is_empty_where_nothing_is_wrong():
    shipped = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"
    ran = keras_amalgam("inspect", shipped)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "* layer2" in ran.stdout


def test_home_folder_is_found_behind_a_flags_sign(tmp_path, monkeypatch, capsys):
    """The shell writes it in `--images ~/photos`, and leaves `--images=~/photos` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    student = str(tmp_path / "a.keras")
    flags = (["--images=~/photos"], ["--images", "t1=~/photos"], ["--test=t1=~/photos"])
    for images in flags:
        assert main(["export", "onnx", student, *images, "--out=~/out"]) == 2
        assert (
            f"must be a folder. Received: {tmp_path}/photos, which does not exist"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("arguments", "empty"),
    [
        (["inspect", ""], "argument 1"),
        (["inspect", "{file}", "--images", ""], "--images"),
        (["export", "onnx", "{file}", "--images", "", "--out", "x"], "--images"),
        (["export", "onnx", "{file}", "--images", ".", "--out", ""], "--out"),
        (["export", "tflite", "{file}", "--images", ".", "--precision=", "--out", "x"], "--prec"),
        (["amalgamate", "--teacher", "", "--images", ".", "--out", "x"], "--teacher"),
        (["amalgamate", "--teacher", ".", "--teacher=", "--images", "."], "--teacher"),
        (["convert", "", "--out", "x"], "argument 1"),
        (["run", "", "--out", "x"], "argument 1"),
    ],
)
def test_what_an_unset_variable_leaves_is_no_folder(
    arguments, empty, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.keras").touch()
    assert main([argument.format(file="a.keras") for argument in arguments]) == 2
    assert re.match(rf"{empty}\w* must not be empty. Received: ''.", capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


@pytest.mark.parametrize("flag", ["", "--images="])
def test_path_that_the_system_refuses_is_a_sentence(flag, capsys):
    arguments = [f"{flag}{'a' * 300}"] if not flag else [__file__, f"{flag}{'a' * 300}"]
    assert main(["inspect", *arguments]) == 1
    error = capsys.readouterr().err
    assert "File name too long" in error and "Traceback" not in error


@pytest.mark.slow
def test_nothing_foreign_is_printed_by_a_command_whose_check_needs_keras(tmp_path):
    """TensorFlow greets whoever imports it first, before it heeds any log level."""
    demo = pathlib.Path(ka.__file__).parent / "data/demo/teachers/digits.onnx"
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(map(str, range(10))))
    named = ("--name", "digits", "--classes", classes, "--mean", "0.13", "--std", "0.31")
    done = keras_amalgam("convert", demo, *named, "--out", tmp_path / "digits")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("Reading digits.onnx\n")


SAYING = """
from keras_amalgam.cli.run_flags import _say
for number in range(1000):
    _say(f"line {number} " + 1000 * "x")
open("went_on", "w").close()
"""


def test_reader_that_goes_away_does_not_end_a_run(tmp_path):
    command, pipe = [sys.executable, "-c", SAYING], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=tmp_path) as reading:
        assert reading.stdout.readline().startswith(b"line 0 ")
        reading.stdout.close()
        assert reading.stderr.read() == b""
    assert reading.returncode == 0 and (tmp_path / "went_on").exists()
