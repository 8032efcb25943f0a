"""Where artifacts may be written; each appears there whole and verified, or not at all."""

import contextlib
import errno
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from keras_amalgam.files.replacing import is_empty_directory
from keras_amalgam.files.writing import make_durable, named, whole_entries, whole_file


@contextlib.contextmanager
def staged(
    path: str | PathLike[str], *, suffix: str, overwrite: bool, beside: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Yields a path in a hidden folder next to the target; moves it into place on success.

    Whatever fails inside the `with` block leaves the target as it was.

    Args:
        path: The target.
        suffix: What the target's name must end with; `""` means that a directory is written.
        overwrite: Whether an existing target is replaced.
        beside: Names of further files that the block writes into the same folder.

    Yields:
        The path to write to. It has the target's name.

    Raises:
        ValueError: If the target cannot be written there, or exists and `overwrite` is `False`.
    """
    target = Path(path)
    _check_target(target, suffix, overwrite, beside)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(whole_entries(target.parent, *beside, target.name))
        except OSError as error:
            raise ValueError(
                f"The artifact's directory cannot be written to. Received: '{target}' ({error}). "
                "Expected: a writable directory. Choose another path or change its permissions."
            ) from error
        with named(target):
            yield folder / target.name


def system_error(what: str, said: str) -> OSError:
    """The system's error for what TensorFlow has its own words and no number.

    Args:
        what: What was written, for the message.
        said: TensorFlow's message, of a full or broken disk.
    """
    reason = said.split(";")[-1].split(" [Op:")[0].strip()
    return OSError(errno.EIO, f"{what} cannot be written: {reason}")


def _check_target(target: Path, suffix: str, overwrite: bool, beside: tuple[str, ...]) -> None:
    if not target.name.endswith(suffix) or target.name in ("", "..", suffix):
        raise ValueError(
            f"The artifact's name does not tell its format. Received: '{target}'. Expected: a "
            f"name ending in '{suffix}'. Call it 'student{suffix}'."
        )
    if not target.parent.is_dir():
        raise ValueError(
            f"The artifact's directory does not exist. Received: '{target}'. Expected: "
            f"'{target.parent}' to be a directory. Create it first."
        )
    existing = [name for name in (target.name, *beside) if (target.parent / name).exists()]
    if existing and not overwrite:
        raise ValueError(
            f"The artifact exists already. Received: '{target.parent / existing[0]}' and "
            "overwrite=False. Expected: a path that is free. Choose another path or pass "
            "`overwrite=True`."
        )
    for name in existing:
        _check_replaceable(target.parent / name, directory=not suffix)


def _check_replaceable(existing: Path, directory: bool) -> None:
    """Only an artifact of the same kind is ever replaced, never a folder of somebody's files."""
    if directory:
        kind = "a SavedModel directory"
        fits = (existing / "saved_model.pb").is_file() or is_empty_directory(existing)
    else:
        kind, fits = "a file", existing.is_file()
    if not fits:
        raise ValueError(
            f"What stands at the artifact's path is not an artifact of this kind. Received: "
            f"'{existing}' and overwrite=True. Expected: {kind}. Choose another path."
        )


@contextlib.contextmanager
def staged_text(path: Path, text: str) -> Iterator[None]:
    """Writes a small text file beside `path` and replaces `path` with it when the block succeeds.

    Args:
        path: The file.
        text: Its new content, written as UTF-8.
    """
    with whole_file(path) as partial:
        with named(path):
            partial.write_text(text, encoding="utf-8")
            make_durable(partial)  # A full disk is met before the block, not after it.
        yield
