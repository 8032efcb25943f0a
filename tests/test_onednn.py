"""oneDNN is on where the package starts TensorFlow, is named where it is off, and never mixed."""

import os
import platform
import subprocess
import sys

import pytest

from keras_amalgam import onednn
from keras_amalgam.cli.main import main
from keras_amalgam.versions import versions

HAS_BOTH = sys.platform == "linux" and platform.machine() == "x86_64"

# TensorFlow has read the variable when it is asked, so what the user said can be taken back.
ASK = """
import logging, os, sys
from keras_amalgam import onednn
from keras_amalgam.versions import versions
print(versions()["onednn"], onednn.uses_onednn())
os.environ.pop(onednn.VARIABLE)
onednn.say_if_off()
onednn.say_if_off()
"""


def fresh(code, **variables):
    environment = {k: v for k, v in os.environ.items() if k != onednn.VARIABLE}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )


@pytest.mark.slow
def test_report_says_that_it_is_off_and_the_user_hears_it_once():
    done = fresh(ASK, TF_ENABLE_ONEDNN_OPTS="0")
    assert done.stdout == "off False\n"
    said = done.stderr.count("TF_ENABLE_ONEDNN_OPTS=1 before TensorFlow is imported")
    assert said == (1 if HAS_BOTH else 0)


@pytest.mark.slow
def test_report_says_that_it_is_on_and_the_user_hears_nothing():
    done = fresh(ASK, TF_ENABLE_ONEDNN_OPTS="1")
    assert done.stdout == ("on True\n" if HAS_BOTH else "off False\n")
    assert "TF_ENABLE_ONEDNN_OPTS" not in done.stderr.replace(
        "`TF_ENABLE_ONEDNN_OPTS=0`",
        "",  # TensorFlow's own greeting.
    )


@pytest.mark.parametrize(("said", "expected"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_command_line_turns_it_on_unless_the_user_has_chosen(said, expected):
    code = (
        "import os; from keras_amalgam.cli.main import main; main(['demo', '--help']);"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    done = fresh(code, **({} if said is None else {onednn.VARIABLE: said}))
    assert done.stdout.splitlines()[-1] == expected


def test_command_line_leaves_a_tensorflow_that_runs_and_its_children_alone(monkeypatch):
    """Processes that one starts would round otherwise than it does itself."""
    import tensorflow  # noqa: F401

    monkeypatch.delenv(onednn.VARIABLE)
    assert main(["demo", "--help"]) == 0
    assert onednn.VARIABLE not in os.environ


def test_nothing_is_said_where_the_user_has_chosen(caplog, monkeypatch):
    monkeypatch.setenv(onednn.VARIABLE, "0")
    monkeypatch.setattr(onednn, "uses_onednn", lambda: False)
    onednn.say_if_off()
    assert caplog.text == ""


@pytest.mark.slow
def test_fit_says_it(build, make, caplog, monkeypatch):
    monkeypatch.delenv(onednn.VARIABLE)
    monkeypatch.setattr(onednn, "uses_onednn", lambda: False)
    monkeypatch.setattr(onednn, "_said", False)
    model = build()
    model.fit(make.images(), verbose=0)
    model.fit(make.images(), verbose=0)
    assert caplog.text.count("TF_ENABLE_ONEDNN_OPTS=1") == (1 if HAS_BOTH else 0)


def test_every_process_of_the_tests_has_the_same_setting():
    assert versions()["onednn"] == ("on" if os.environ[onednn.VARIABLE] == "1" else "off")
