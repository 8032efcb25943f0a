"""Writing that leaves the whole result or nothing, and replaces nothing but earlier results."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

Own = Callable[[Path], bool]
"""Whether a directory holds nothing but a result, its own folders looked into."""


def is_replaceable(
    directory: str | Path,
    mark: str | None,
    contents: Collection[str] | None = None,
    is_own: Own | None = None,
) -> bool:
    """Whether nothing but an earlier result is lost with `directory`.

    Args:
        directory: What exists there.
        mark: The file that an earlier result holds; None if there is no such file.
        contents: All that an earlier result can hold, if that is known.
        is_own: What looks into the folders among them.

    Returns:
        True for an empty directory and for one that holds `mark` and nothing beside `contents`;
        false for somebody's own files.
    """
    target = Path(directory)
    if not target.is_dir():
        return False
    held = {path.name for path in target.iterdir()}
    is_result = mark is not None and (target / mark).is_file()
    is_result = is_result and (contents is None or held <= set(contents))
    return not held or (is_result and (is_own is None or is_own(target)))


def is_empty_directory(path: str | Path) -> bool:
    """Whether nothing is lost where a result is put there."""
    target = Path(path)
    return target.is_dir() and next(target.iterdir(), None) is None


def in_words(mark: str | None, contents: Collection[str] | None, is_own: Own | None) -> str:
    """What `is_replaceable` takes for an earlier result, for messages."""
    if contents is None:
        return f"{mark}" + ("" if is_own is None else " and only what was written with it")
    beside = f"{mark} and nothing beside {', '.join(sorted(contents))}"
    return beside + ("" if is_own is None else ", each as it was written")


@contextmanager
def whole_directory(
    directory: str | Path,
    overwrite: bool = False,
    mark: str | None = None,
    contents: Collection[str] | None = None,
    is_own: Own | None = None,
) -> Iterator[Path]:
    """A temporary sibling that becomes `directory` when the block ends without an error.

    Args:
        directory: The target.
        overwrite: Whether an earlier result there is replaced. Anything else never is; an empty
            directory always.
        mark: The file by which an earlier result is known, such as `"report.json"`; without it
            only an empty directory is replaced.
        contents: As in `is_replaceable`.
        is_own: As in `is_replaceable`.

    Yields:
        The directory to write into.

    Raises:
        FileExistsError: If the target is not empty, and `overwrite` is false or it is no earlier
            result.
        OSError: If nothing can be written there.
    """
    # Resolved, as "." has no name and a link to an earlier result is to go on being one.
    target = Path(directory).resolve()
    _check_target(target, overwrite, mark, contents, is_own)
    with contextlib.ExitStack() as made:
        temporary = _temporary_beside(target, made)
        temporary.chmod(0o755)  # mkdtemp makes it private; the result is an ordinary directory.
        yield temporary
        # Somebody may have put files there meanwhile.
        _check_target(target, overwrite, mark, contents, is_own)
        _put_in_place(temporary, target)


def _check_target(
    target: Path,
    overwrite: bool,
    mark: str | None,
    contents: Collection[str] | None,
    is_own: Own | None,
) -> None:
    if not target.exists() or is_empty_directory(target):
        return
    if not overwrite:
        raise FileExistsError(f"{target} exists already. Remove it or choose another directory.")
    if not is_replaceable(target, mark, contents, is_own):
        raise FileExistsError(
            f"Only an earlier result is ever replaced. Received: {target}, which is neither an "
            f"empty directory nor one that holds {in_words(mark, contents, is_own)}. Choose "
            "another directory."
        )


def _temporary_beside(target: Path, made: contextlib.ExitStack) -> Path:
    """A directory that vanishes with `made` unless it is renamed, as do folders made for it."""
    try:
        made.enter_context(folders(target.parent))
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise type(error)(
            f"Nothing can be written into the folder {target.parent}. Received: "
            f"{error.strerror}. Choose another place for {target.name}."
        ) from error
    made.callback(shutil.rmtree, temporary, ignore_errors=True)
    return temporary


def _put_in_place(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    replaced = temporary.with_name(f"{temporary.name}-replaced")
    try:
        target.rename(replaced)
        temporary.rename(target)
    except BaseException:  # Also an interruption between the two.
        if replaced.exists() and not target.exists():
            replaced.rename(target)  # The earlier result goes back to its place.
        raise
    shutil.rmtree(replaced)


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
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # It was not made, or somebody else writes into it.
                folder.rmdir()
        raise


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary sibling that replaces `path` when the block ends without an error.

    Yields:
        The file to write, with the target's suffix.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.partial{target.suffix}")
    with folders(target.parent):
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
