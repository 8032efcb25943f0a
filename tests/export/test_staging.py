import os
from pathlib import Path

import pytest

from keras_amalgam.export.staging import staged


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_staged_file_appears_only_when_the_block_is_done(tmp_path):
    target = tmp_path / "a.onnx"
    with staged(target, suffix=".onnx", overwrite=False) as partial:
        partial.write_text("whole")
        assert not target.exists()
        assert partial.name == target.name
    assert entries(tmp_path) == ["a.onnx"]
    assert target.read_text() == "whole"


@pytest.mark.parametrize("suffix", [".onnx", ""])
def test_failure_leaves_nothing_and_keeps_the_old(tmp_path, suffix):
    target = tmp_path / f"a{suffix}"

    def write(path, text):
        if not suffix:
            path.mkdir()
            path = path / "saved_model.pb"
        path.write_text(text)

    with pytest.raises(RuntimeError), staged(target, suffix=suffix, overwrite=False) as partial:
        write(partial, "half")
        raise RuntimeError
    assert entries(tmp_path) == []
    with staged(target, suffix=suffix, overwrite=False) as partial:
        write(partial, "old")
    with pytest.raises(KeyboardInterrupt), staged(target, suffix=suffix, overwrite=True) as partial:
        write(partial, "new")
        raise KeyboardInterrupt
    assert entries(tmp_path) == [target.name]
    assert (target if suffix else target / "saved_model.pb").read_text() == "old"


def test_overwrite_replaces_a_directory_as_a_whole(tmp_path):
    target = tmp_path / "model"
    for name in ("old", "new"):
        with staged(target, suffix="", overwrite=True) as partial:
            partial.mkdir()
            (partial / "saved_model.pb").write_text(name)
            (partial / name).write_text(name)
    assert entries(target) == ["new", "saved_model.pb"]
    assert entries(tmp_path) == ["model"]


def test_failed_replacement_of_a_directory_puts_the_old_one_back(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "saved_model.pb").write_text("old")
    rename = os.rename

    def failing(source, destination):
        if str(destination) == str(target) and "saved_model.pb" not in os.listdir(source):
            raise OSError("disk full")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", failing)
    with (
        pytest.raises(OSError, match="disk full"),
        staged(target, suffix="", overwrite=True) as partial,
    ):
        partial.mkdir()
        (partial / "other").write_text("new")
    assert (target / "saved_model.pb").read_text() == "old"
    assert entries(tmp_path) == ["model"]


def test_companions_are_moved_with_the_artifact(tmp_path):
    target = tmp_path / "a.keras"
    with staged(target, suffix=".keras", overwrite=False, beside=("a.labels.json",)) as partial:
        partial.write_text("model")
        partial.with_name("a.labels.json").write_text("labels")
    assert entries(tmp_path) == ["a.keras", "a.labels.json"]
    target.unlink()
    with (
        pytest.raises(ValueError, match=r"exists already. Received: '.*a\.labels\.json'"),
        staged(target, suffix=".keras", overwrite=False, beside=("a.labels.json",)),
    ):
        pass


def test_bad_targets_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "file.onnx").write_text("somebody's")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("somebody's")
    cases = [
        (tmp_path / "a.txt", ".onnx", False, r"does not tell its format.*ending in '\.onnx'"),
        (tmp_path / ".onnx", ".onnx", False, "does not tell its format"),
        (tmp_path / "missing" / "a.onnx", ".onnx", False, "directory does not exist"),
        (tmp_path / "file.onnx" / "a.onnx", ".onnx", False, "to be a directory"),
        (tmp_path / "file.onnx", ".onnx", False, "exists already.*overwrite=True"),
        (tmp_path / "folder", "", True, "not an artifact of this kind"),
        (tmp_path / "file.onnx", "", True, "Expected: a SavedModel directory"),
        # Not even root can write there.
        (Path("/proc/self/a.onnx"), ".onnx", False, "cannot be written to"),
    ]
    for target, suffix, overwrite, message in cases:
        with (
            pytest.raises(ValueError, match=message),
            staged(target, suffix=suffix, overwrite=overwrite),
        ):
            pass
    assert entries(tmp_path) == ["file.onnx", "folder"]
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "somebody's"
