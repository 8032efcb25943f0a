"""Flags that say nothing are refused before any work, and no stream ends a command."""

import importlib
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags as absl_flags

import keras_amalgam as ka
from keras_amalgam.cli.main import COMMANDS, MODULES, main

DIGITS = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ten.txt").write_text("\n".join(map(str, range(10))) + "\n")
    return tmp_path


def convert(*flags):
    given = ["--classes", "ten.txt", "--name", "digits", "--out", "out"]
    given += ["--mean", "0.1307", "--std", "0.3081"]
    return main(["convert", str(DIGITS), *given, *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--signature", "nowhere"], "--signature is for the directory of a SavedModel"),
        (["--architecture", "MobileNetV2"], "--architecture is for Keras files of weights"),
        (["--tolerance", "nan"], "--tolerance must be finite"),
        (["--tolerance", "inf"], "--tolerance must be finite"),
        (["--tolerance", "-1"], "tolerance"),
    ],
    ids=str,
)
def test_flag_that_says_nothing_about_the_file_is_refused_unread(flags, said, capsys):
    assert convert(*flags) == 2
    told = capsys.readouterr()
    assert said in told.err and "Reading" not in told.out
    assert not pathlib.Path("out").exists()


def float_flags():
    """Every number with a fraction that some command takes."""
    for command in COMMANDS:
        values = absl_flags.FlagValues()
        module = importlib.import_module(f"keras_amalgam.cli.{MODULES.get(command, command)}")
        module.define_flags(values)
        for name in values:
            if isinstance(values[name].parser, absl_flags.FloatParser):
                yield command, name


@pytest.mark.parametrize(("command", "flag"), [*float_flags()])
def test_number_that_is_not_finite_is_refused_by_every_command(command, flag, capsys):
    for value in ("nan", "inf", "1e999"):
        assert main([command, f"--{flag}={value}"]) == 2
        error = capsys.readouterr().err
        assert f"--{flag} must be finite. Received: {float(value)}. Give a number" in error


def test_signature_of_a_file_without_one_is_refused_by_inspect(capsys):
    assert main(["inspect", str(DIGITS), "--signature", "a"]) == 2
    assert "--signature is for the directory of a SavedModel" in capsys.readouterr().err


def test_own_file_in_the_network_folder_is_kept_from_overwriting(capsys):
    assert convert() == 0
    pathlib.Path("out/network").mkdir()
    pathlib.Path("out/network/my_notes.txt").write_text("mine")
    assert convert("--overwrite") == 2
    assert "each as it was written" in capsys.readouterr().err
    assert pathlib.Path("out/network/my_notes.txt").read_text() == "mine"


def inspected(closing="", **environment):
    command = f"{sys.executable} -m keras_amalgam inspect {DIGITS} {closing}"
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, env=os.environ | environment, check=False
    )


@pytest.mark.slow
def test_command_runs_with_a_closed_error_stream():
    done = inspected("2>&-")
    assert done.returncode == 0 and b"digits.onnx" in done.stdout


@pytest.mark.slow
def test_character_that_a_terminal_lacks_is_replaced():
    done = inspected(PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert done.returncode == 0 and not done.stderr
    assert "--mean ?" in done.stdout.decode("latin-1")
