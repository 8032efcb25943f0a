"""The one way in which results are written: beside their place, made durable, then moved there.

Whoever looks, at any moment and after a power cut too, finds the whole result or what was there
before. What may be replaced at all is for `replacing` to say.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_amalgam.files.replacing import Own, check_replaceable

# What a file system answers that keeps its folders durable by itself, as some network ones do.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP}


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file in a hidden folder that replaces `path` when the block ends without an error.

    Args:
        path: The target. Folders above it are made.

    Yields:
        The file to write, with the target's name.
    """
    target = Path(path)
    with whole_entries(target.parent, target.name) as folder:
        yield folder / target.name


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Args:
        path: The target. Folders above it are made.
        text: Its content, written as UTF-8.
    """
    with whole_file(path) as partial, named(Path(path)):
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file, indented, whole or not at all.

    Args:
        path: The target. Folders above it are made.
        content: What JSON can hold.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def whole_directory(
    directory: str | Path,
    overwrite: bool = False,
    mark: str | None = None,
    contents: Collection[str] | None = None,
    is_own: Own | None = None,
) -> Iterator[Path]:
    """A directory in a hidden folder that becomes `directory` when the block ends without an error.

    Args:
        directory: The target. Folders above it are made.
        overwrite: Whether an earlier result there is replaced. Anything else never is; an empty
            directory always.
        mark: The file by which an earlier result is known, such as `"report.json"`; without it
            only an empty directory is replaced.
        contents: As in `is_replaceable`.
        is_own: As in `is_replaceable`.

    Yields:
        The directory to write into, with the target's name.

    Raises:
        FileExistsError: If the target is not empty, and `overwrite` is false or it is no earlier
            result.
        OSError: If nothing can be written there.
    """
    # Resolved, as "." has no name and a link to an earlier result is to go on being one.
    target = Path(directory).resolve()
    check_replaceable(target, overwrite, mark, contents, is_own)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(whole_entries(target.parent, target.name))
        except OSError as error:
            raise type(error)(
                f"Nothing can be written into the folder {target.parent}. Received: "
                f"{error.strerror}. Choose another place for {target.name}."
            ) from error
        temporary = folder / target.name
        temporary.mkdir()
        yield temporary
        # Somebody may have put files there meanwhile.
        check_replaceable(target, overwrite, mark, contents, is_own)


@contextmanager
def whole_entries(directory: Path, *names: str) -> Iterator[Path]:
    """A hidden folder whose files and folders move into `directory` when the block ends well.

    It lies in `directory`, so that moving is a rename within one file system. Whatever is there
    under the same names is replaced: the caller has looked at it.

    Args:
        directory: Where the entries belong. It and the folders above it are made.
        names: What the block writes, in the order in which it appears in its place: whoever sees
            the last one finds the others there already. The folder is called after it.

    Yields:
        The folder to write into.

    Raises:
        OSError: If the folder cannot be made, or an entry was not written.
    """
    with folders(directory):
        # Cut, as a name may be as long as the file system allows already.
        hidden = Path(tempfile.mkdtemp(prefix=f".{names[-1][:40]}-", dir=directory))
        try:
            yield hidden
            for name in names:
                make_durable(hidden / name)
            for name in names:
                _move(hidden / name, directory / name, hidden / f"{name}.replaced")
            _flush_folder(directory)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)  # The error at hand is the one to tell.
            raise
        shutil.rmtree(hidden)


@contextmanager
def folders(directory: Path) -> Iterator[None]:
    """Makes a folder and those above it; removes again what it made if the block fails.

    Args:
        directory: The folder.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
        for folder in missing:
            _flush_folder(folder.parent)
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # It was not made, or somebody else writes into it.
                folder.rmdir()
        raise


def make_durable(path: Path) -> None:
    """Waits until a file, or a folder with all below it, would survive a power cut.

    Args:
        path: Nobody writes there any more.

    Raises:
        OSError: If the disk cannot take it, naming `path`.
    """
    if not path.is_dir():
        with named(path):
            _flush(path)
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            if (file := Path(folder, name)).is_file():
                with named(file):
                    _flush(file)
        _flush_folder(Path(folder))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Lets an error of the system name a path where it names none, as that of a full disk.

    Args:
        path: What is written in the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _move(source: Path, target: Path, aside: Path) -> None:
    if not (source.is_dir() and target.is_dir()):
        os.replace(source, target)
        return
    # A directory cannot be replaced in one step: the old one steps aside, and back on failure.
    try:
        os.rename(target, aside)
        os.rename(source, target)
    except BaseException:  # Also an interruption between the two.
        if aside.exists() and not target.exists():
            os.rename(aside, target)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)  # A file that is copied may be for reading alone.
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(path: Path) -> None:
    try:
        _flush(path)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
