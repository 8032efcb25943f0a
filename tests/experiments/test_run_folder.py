"""Steps of a run: what is done again, what is not, and who may write."""

import json
import os
import subprocess
import sys

import pytest

from keras_amalgam.cli import run_flags
from keras_amalgam.experiments import settings
from keras_amalgam.experiments.run_folder import RunFolder, check_begun


@pytest.fixture
def said():
    return []


@pytest.fixture
def opened(tmp_path, said):
    """The folder of a run, opened by this process."""
    return lambda restart=False: RunFolder.opened(tmp_path / "run", restart, said.append)


class Counted:
    """A step that leaves a file and counts how often it was done."""

    def __init__(self, path):
        self.path, self.times = path, 0

    def __call__(self):
        self.times += 1
        self.path.write_text("result")
        return [self.path.name]


def test_step_is_done_once_and_again_when_what_it_was_made_from_has_changed(opened, said):
    with opened() as folder:
        step = Counted(folder.path / "a")
        assert folder.step("measure", {"seed": 1, "data": {"images": 3}}, step)
        assert not folder.step("measure", {"seed": 1, "data": {"images": 3}}, step)
        assert step.times == 1 and said == ["measure: done already."]
        assert folder.step("measure", {"seed": 1, "data": {"images": 4}}, step)
    assert step.times == 2
    assert "data.images: 4, was 3" in said[-1] and "seed" not in said[-1]


def test_step_is_remembered_by_the_next_process_and_done_again_if_its_file_is_gone(opened, said):
    with opened() as folder:
        folder.describe({"recipe": "tiny"})
        step = Counted(folder.path / "a")
        folder.step("measure", {}, step)
    with opened() as folder:
        folder.step("measure", {}, step)
        assert step.times == 1
        (folder.path / "a").unlink()
        folder.step("measure", {}, step)
        assert step.times == 2 and "a is missing" in said[-1]
        (folder.path / "a").write_text("resu")
        folder.step("measure", {}, step)
        assert step.times == 3 and "a is not as it was left" in said[-1]
        folder.step("measure", {}, step)
    assert step.times == 3


def test_many_changes_are_counted(opened, said):
    with opened() as folder:
        step = Counted(folder.path / "a")
        folder.step("measure", dict.fromkeys("abcdefg", 1), step)
        folder.step("measure", dict.fromkeys("abcdefg", 2), step)
    assert said[-1].endswith("a: 2, was 1; b: 2, was 1; c: 2, was 1; d: 2, was 1; and 3 more.")


def begin(folder):
    """What a training leaves."""
    state = folder / "training" / "main" / "states" / "state_000_000001_00000000.npz"
    state.parent.mkdir(parents=True)
    state.write_text("trained")
    return state


@pytest.mark.parametrize("told", [None, "", '{"kind": "keras-am'])
@pytest.mark.parametrize("reported", [False, True])
def test_run_is_known_by_its_training_where_run_json_is_damaged(opened, tmp_path, told, reported):
    state = begin(tmp_path / "run")
    if told is not None:
        (tmp_path / "run" / "run.json").write_text(told)
    if reported:
        for name in ("report.json", "report.html"):
            (tmp_path / "run" / name).write_text("{}")
    with opened() as folder:
        folder.describe({"recipe": "tiny"})
    assert state.read_text() == "trained"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"] == "tiny"


def test_steps_are_done_again_where_the_file_that_tells_of_them_is_damaged(opened):
    with opened() as folder:
        step = Counted(folder.path / "a")
        folder.step("measure", {}, step)
        (folder.path / "steps.json").write_text('{"measure": {"made')
        assert folder.steps == {} and folder.lost("measure") == []
        folder.step("measure", {}, step)
        assert step.times == 2 and list(folder.steps) == ["measure"]


@pytest.mark.parametrize("only", ["report", "evaluate", "package", "compare"])
def test_one_step_of_a_run_that_was_not_begun_is_refused(tmp_path, only):
    with pytest.raises(ValueError, match=f"Only the step '{only}' was wanted, and nothing was"):
        check_begun(tmp_path, only)
    check_begun(tmp_path, None)
    check_begun(tmp_path, "train")
    begin(tmp_path)
    check_begun(tmp_path, only)


def test_step_that_fails_is_not_done(opened):
    def fail():
        raise OSError(28, "No space left on device")

    with opened() as folder:
        step = Counted(folder.path / "a")
        folder.step("measure", {}, step)
        with pytest.raises(OSError, match="No space"):
            folder.step("measure", {"seed": 2}, fail)
        assert folder.step("measure", {"seed": 2}, step)
        assert folder.step("other", {}, step)
        assert set(folder.steps) == {"measure", "other"}


def test_step_that_is_wanted_is_done_again_though_nothing_has_changed(opened):
    with opened() as folder:
        step = Counted(folder.path / "a")
        for _ in range(2):
            assert folder.step("measure", {}, step, anew=True)
    assert step.times == 2


SECOND = """
import sys
from keras_amalgam.experiments.run_folder import RunFolder
try:
    with RunFolder.opened(sys.argv[1], False, print):
        print("entered")
except BlockingIOError as error:
    print(error)
"""


def enter_from_outside(path):
    command = [sys.executable, "-c", SECOND, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_second_entrance_is_refused_until_the_first_has_left(opened, tmp_path):
    with opened():
        with pytest.raises(BlockingIOError) as refused, opened():
            pass
        assert f"Another process runs in {tmp_path / 'run'}" in str(refused.value)
        assert f"Received: its number {os.getpid()}" in str(refused.value)
    with opened():
        pass


@pytest.mark.slow
def test_second_process_is_refused_until_the_first_has_left(opened, tmp_path):
    with opened():
        refused = enter_from_outside(tmp_path / "run")
        assert f"Received: its number {os.getpid()}" in refused
    assert enter_from_outside(tmp_path / "run") == "entered\n"


def test_restart_removes_what_a_run_left_and_nothing_else(opened, tmp_path):
    with opened() as folder:
        folder.describe({"recipe": "tiny"})
        for name in ("training/main/state.npz", "student_int8.tflite", "report.json", "notes.txt"):
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text("content")
    with opened() as folder:
        assert (folder.path / "training" / "main" / "state.npz").exists()
    with opened(restart=True) as folder:
        assert {path.name for path in folder.path.iterdir()} == {".run.lock", "notes.txt"}


@pytest.mark.parametrize("restart", [False, True])
def test_run_json_of_another_program_is_not_taken_for_a_run(opened, tmp_path, restart):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"kind": "marathon", "kilometres": 42}')
    with pytest.raises(FileExistsError, match="A run needs a folder"), opened(restart):
        pass
    assert "marathon" in (tmp_path / "run" / "run.json").read_text()


def test_what_a_killed_process_was_about_to_write_is_removed(opened, tmp_path):
    with opened() as folder:
        folder.describe({"recipe": "tiny"})
        states = folder.path / "training" / "main" / "states"
        (states / ".state_000_000001_00000000.npz-x1y2").mkdir(parents=True)
        (folder.path / ".package-abc").mkdir()
        (states / "state_000_000001_00000000.npz").write_text("whole")
    with opened() as folder:
        names = {path.name for path in folder.path.rglob("*")}
    assert names == {
        ".run.lock",
        "run.json",
        "training",
        "main",
        "states",
        "state_000_000001_00000000.npz",
    }


@pytest.mark.parametrize("restart", [False, True])
def test_folder_of_something_else_is_refused_and_left_alone(opened, tmp_path, restart):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "holiday.png").write_text("mine")
    with (
        pytest.raises(FileExistsError, match="neither empty nor the folder of a run"),
        opened(restart),
    ):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["holiday.png"]


def test_result_of_an_earlier_version_is_replaced_only_if_told_to(opened, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("report.json", "report.html"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(FileExistsError, match="restart=True"), opened():
        pass
    with opened(restart=True) as folder:
        folder.describe({"recipe": "tiny"})
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told == {"kind": "keras-amalgam run", "recipe": "tiny"}
    assert not (tmp_path / "run" / "report.json").exists()


def test_command_line_knows_the_steps_of_a_job():
    assert run_flags.STEPS == settings.STEPS
