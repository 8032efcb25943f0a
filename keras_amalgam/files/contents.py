"""What lies at a path, be it a file or a folder: its files, their bytes, their hash."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path


def files_below(path: str | Path) -> list[Path]:
    """All files of a folder and of the folders in it, sorted; of a file, itself."""
    path = Path(path)
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def bytes_on_disk(path: str | Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in files_below(path))


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_directory(directory: str | Path) -> str:
    """SHA-256 over the names and bytes of all files below a directory, in order of their names."""
    return _sha256_with_names(files_below(directory), Path(directory))


def sha256_of_files(files: Sequence[Path], folder: Path) -> str:
    """SHA-256 of one file's bytes; of several files, over their names and bytes by name.

    Args:
        files: At least one.
        folder: What the names are relative to.
    """
    return sha256_of(files[0]) if len(files) == 1 else _sha256_with_names(sorted(files), folder)


def _sha256_with_names(files: Iterable[Path], folder: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(folder)).encode() + b"\0")
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()
