"""Writing leaves the whole result or what was there before, and never anything beside it."""

import errno
import os
import stat
from pathlib import Path

import pytest

from keras_amalgam.files.writing import whole_directory, whole_entries, whole_file


class Interrupted(RuntimeError):
    """Stands for whatever ends the writing in its middle."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_directory_appears_whole_with_its_parents(tmp_path):
    target = tmp_path / "a" / "b"
    with whole_directory(target) as folder:
        (folder / "one.txt").write_text("1")
        assert not target.exists()
        # A rename within one file system is atomic.
        assert (folder.name, folder.parent.parent) == (target.name, target.parent)
    assert (target / "one.txt").read_text() == "1"
    assert names(tmp_path / "a") == ["b"]
    assert stat.S_IMODE(target.stat().st_mode) & 0o755 == 0o755


def test_failure_inside_leaves_no_directory(tmp_path):
    with pytest.raises(Interrupted), whole_directory(tmp_path / "new") as folder:
        (folder / "one.txt").write_text("1")
        raise Interrupted
    assert names(tmp_path) == []


@pytest.mark.parametrize("writing", [whole_directory, whole_file])
def test_failure_inside_leaves_no_new_folder_above(writing, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(Interrupted), writing(tmp_path / "there" / "a" / "b" / "new"):
        raise Interrupted
    assert names(tmp_path / "there") == []


def test_folder_that_somebody_else_writes_into_stays(tmp_path):
    with pytest.raises(Interrupted), whole_directory(tmp_path / "a" / "new"):
        (tmp_path / "a" / "mine.txt").write_text("1")
        raise Interrupted
    assert names(tmp_path / "a") == ["mine.txt"]


def test_existing_directory_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "one.txt").write_text("1")
    with (
        pytest.raises(FileExistsError, match="old exists already"),
        whole_directory(tmp_path / "old"),
    ):
        pytest.fail("The block must not run.")
    assert names(tmp_path) == ["old"]


def test_empty_directory_is_no_loss(tmp_path):
    (tmp_path / "new").mkdir()
    with whole_directory(tmp_path / "new") as folder:
        (folder / "one.txt").write_text("1")
    assert names(tmp_path / "new") == ["one.txt"]
    assert names(tmp_path) == ["new"]


def test_overwriting_replaces_the_directory_as_a_whole(tmp_path):
    target = tmp_path / "old"
    target.mkdir()
    (target / "before.txt").write_text("before")
    with whole_directory(target, overwrite=True, mark="before.txt") as folder:
        (folder / "after.txt").write_text("after")
        assert names(target) == ["before.txt"]
    assert names(target) == ["after.txt"]
    assert names(tmp_path) == ["old"]


def test_failure_while_overwriting_keeps_the_old_directory(tmp_path):
    target = tmp_path / "old"
    target.mkdir()
    (target / "before.txt").write_text("before")
    with pytest.raises(Interrupted), whole_directory(target, True, "before.txt") as folder:
        (folder / "after.txt").write_text("after")
        raise Interrupted
    assert (target / "before.txt").read_text() == "before"
    assert names(target) == ["before.txt"]
    assert names(tmp_path) == ["old"]


@pytest.mark.parametrize("mark", [None, "report.json"])
def test_overwriting_refuses_a_folder_without_its_mark(tmp_path, mark):
    target = tmp_path / "photos"
    target.mkdir()
    (target / "holiday.png").write_text("mine")
    with (
        pytest.raises(FileExistsError, match="Only an earlier result"),
        whole_directory(target, overwrite=True, mark=mark),
    ):
        pytest.fail("The block must not run.")
    assert names(tmp_path) == ["photos"]
    assert (target / "holiday.png").read_text() == "mine"


def test_overwriting_refuses_a_file(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with (
        pytest.raises(FileExistsError, match="Only an earlier result"),
        whole_directory(tmp_path / "notes", overwrite=True, mark="report.json"),
    ):
        pytest.fail("The block must not run.")
    assert (tmp_path / "notes").read_text() == "mine"


def test_overwriting_takes_an_empty_directory(tmp_path):
    (tmp_path / "empty").mkdir()
    with whole_directory(tmp_path / "empty", overwrite=True, mark="report.json") as folder:
        (folder / "one.txt").write_text("1")
    assert names(tmp_path / "empty") == ["one.txt"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_files_that_came_meanwhile_are_kept(tmp_path, overwrite):
    target = tmp_path / "out"
    with pytest.raises(FileExistsError), whole_directory(target, overwrite, "report.json"):
        target.mkdir()
        (target / "holiday.png").write_text("mine")
    assert names(target) == ["holiday.png"]
    assert names(tmp_path) == ["out"]


def test_overwriting_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "report.json").write_text("earlier")
    (tmp_path / "latest").symlink_to(tmp_path / "first")
    with whole_directory(tmp_path / "latest", overwrite=True, mark="report.json") as folder:
        (folder / "report.json").write_text("new")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "first" / "report.json").read_text() == "new"
    assert names(tmp_path) == ["first", "latest"]


def test_a_parent_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(OSError, match=r"written into the folder .*file\. Received: "),
        whole_directory(tmp_path / "file" / "out"),
    ):
        pytest.fail("The block must not run.")


def test_overwriting_nothing_writes_a_new_directory(tmp_path):
    with whole_directory(tmp_path / "new", overwrite=True) as folder:
        (folder / "one.txt").write_text("1")
    assert names(tmp_path / "new") == ["one.txt"]


def test_file_appears_whole_under_its_own_suffix(tmp_path):
    target = tmp_path / "a" / "report.html"
    with whole_file(target) as path:
        path.write_text("whole")
        assert (path.suffix, target.exists()) == (".html", False)
    assert target.read_text() == "whole"
    assert names(tmp_path / "a") == ["report.html"]


@pytest.mark.parametrize("before", [None, "before"])
def test_failure_inside_leaves_the_file_as_it_was(tmp_path, before):
    target = tmp_path / "report.html"
    if before is not None:
        target.write_text(before)
    with pytest.raises(Interrupted), whole_file(target) as path:
        path.write_text("half")
        raise Interrupted
    assert names(tmp_path) == ([] if before is None else ["report.html"])
    assert before is None or target.read_text() == before


def test_block_that_wrote_no_file_is_an_error_and_leaves_the_old_one(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("before")
    with pytest.raises(FileNotFoundError), whole_file(target):
        pass
    assert target.read_text() == "before"


def test_failure_of_the_last_rename_puts_the_old_directory_back(tmp_path, monkeypatch):
    """The one moment in which the target is not there."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename = os.rename

    def failing(source, destination):
        if Path(destination) == target and (Path(source) / "new.txt").exists():
            raise OSError("no more")
        return rename(source, destination)

    monkeypatch.setattr(os, "rename", failing)
    with (
        pytest.raises(OSError, match="no more"),
        whole_directory(target, True, "old.txt") as folder,
    ):
        (folder / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "old.txt").read_text() == "old"


@pytest.mark.parametrize("interrupted", [1, 2], ids=["after the first", "before the second"])
def test_interruption_between_the_renames_puts_the_old_directory_back(
    interrupted, tmp_path, monkeypatch
):
    """By Ctrl-C, which is no OSError, and comes wherever it likes."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename, calls = os.rename, []

    def interrupting(source, destination):
        calls.append(source)
        if interrupted == 1 and len(calls) == 1:
            rename(source, destination)
            raise KeyboardInterrupt
        if interrupted == 2 and len(calls) == 2:
            raise KeyboardInterrupt
        return rename(source, destination)

    monkeypatch.setattr(os, "rename", interrupting)
    with (
        pytest.raises(KeyboardInterrupt),
        whole_directory(target, True, "old.txt") as folder,
    ):
        (folder / "new.txt").write_text("new")
    assert names(tmp_path) == ["out"]
    assert (target / "old.txt").read_text() == "old"


def test_directory_whose_folders_hold_something_else_is_never_replaced(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with (
        pytest.raises(FileExistsError, match="each as it was written"),
        whole_directory(target, True, "old.txt", ["old.txt"], lambda folder: False),
    ):
        pytest.fail("The block must not run.")
    with whole_directory(target, True, "old.txt", ["old.txt"], lambda folder: True) as folder:
        (folder / "new.txt").write_text("new")
    assert names(target) == ["new.txt"]


@pytest.fixture
def steps(monkeypatch):
    """What was flushed and moved, in order, by name."""
    done = []

    def noted(name):
        original = getattr(os, name)

        def step(*arguments):
            last = arguments[-1]
            path = os.readlink(f"/proc/self/fd/{last}") if name == "fsync" else last
            done.append((name, Path(path).name))
            return original(*arguments)

        return step

    for name in ("fsync", "replace", "rename"):
        monkeypatch.setattr(os, name, noted(name))
    return done


def test_file_is_on_the_disk_before_it_is_in_place_and_its_folder_after(steps, tmp_path):
    with whole_file(tmp_path / "report.html") as path:
        path.write_text("whole")
    flush, put, known = steps
    assert (flush, put) == (("fsync", "report.html"), ("replace", "report.html"))
    assert known == ("fsync", tmp_path.name)


def test_directory_is_on_the_disk_from_its_files_up_before_it_is_in_place(steps, tmp_path):
    with whole_directory(tmp_path / "new" / "out") as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "one.txt").write_text("1")
    assert steps == [
        ("fsync", "one.txt"),
        ("fsync", "inside"),
        ("fsync", "out"),
        ("replace", "out"),
        ("fsync", "new"),
        ("fsync", tmp_path.name),
    ]


@pytest.mark.parametrize("writing", [whole_directory, whole_file])
def test_disk_that_is_full_at_the_flush_leaves_nothing_and_names_the_file(
    writing, tmp_path, monkeypatch
):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*one\.txt'"):
        if writing is whole_file:
            with whole_file(tmp_path / "one.txt") as path:
                path.write_text("1")
        else:
            with whole_directory(tmp_path / "out") as folder:
                (folder / "one.txt").write_text("1")
    assert names(tmp_path) == []


def test_folder_that_its_file_system_does_not_flush_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    with whole_directory(tmp_path / "out") as folder:
        (folder / "one.txt").write_text("1")
    assert names(tmp_path / "out") == ["one.txt"]


def test_files_for_reading_alone_are_written_too(tmp_path):
    """As a copy of somebody's network is."""
    with whole_directory(tmp_path / "out") as folder:
        (folder / "one.txt").write_text("1")
        (folder / "one.txt").chmod(0o444)
    assert (tmp_path / "out" / "one.txt").read_text() == "1"


def test_a_file_never_replaces_a_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").write_text("mine")
    with pytest.raises(IsADirectoryError), whole_file(tmp_path / "photos") as path:
        path.write_text("whole")
    assert names(tmp_path / "photos") == ["holiday.png"]
    assert names(tmp_path) == ["photos"]


def test_entries_appear_in_their_order(steps, tmp_path):
    with whole_entries(tmp_path, "labels.json", "student.keras") as folder:
        (folder / "student.keras").write_text("model")
        (folder / "labels.json").write_text("labels")
    assert [name for step, name in steps if step == "replace"] == ["labels.json", "student.keras"]
    assert names(tmp_path) == ["labels.json", "student.keras"]


def test_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    name = "a" * 255
    with whole_file(tmp_path / name) as path:
        path.write_text("whole")
    assert names(tmp_path) == [name]
