"""Writing that leaves either the whole result or nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_directory(directory: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling that becomes `directory` when the block ends without an error.

    Args:
        directory: The target.
        overwrite: Whether an existing target is replaced.

    Yields:
        The directory to write into.

    Raises:
        FileExistsError: If the target exists and `overwrite` is false.
    """
    target = Path(directory)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already. Remove it or choose another directory.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private; the result is an ordinary directory.
        yield temporary
        if target.exists():
            replaced = temporary.with_name(f"{temporary.name}-replaced")
            target.rename(replaced)
            try:
                temporary.rename(target)
            except OSError:
                replaced.rename(target)  # The earlier result goes back to its place.
                raise
            shutil.rmtree(replaced)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary sibling that replaces `path` when the block ends without an error.

    Yields:
        The file to write, with the target's suffix.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
