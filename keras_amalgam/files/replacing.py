"""What may be replaced: an earlier result of the same kind, never somebody's own files."""

from collections.abc import Callable, Collection
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


def check_replaceable(
    target: Path,
    overwrite: bool,
    mark: str | None,
    contents: Collection[str] | None = None,
    is_own: Own | None = None,
) -> None:
    """Refuses a target where anything but an earlier result would be lost.

    Args:
        target: Where a directory is to be written.
        overwrite: Whether an earlier result may be replaced; an empty directory always may.
        mark: As in `is_replaceable`.
        contents: As in `is_replaceable`.
        is_own: As in `is_replaceable`.

    Raises:
        FileExistsError: If the target is not empty, and `overwrite` is false or it is no earlier
            result.
    """
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
