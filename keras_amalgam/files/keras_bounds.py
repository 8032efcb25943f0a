"""What a Keras file may hold: how much, and nothing from outside."""

import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

MAX_BYTES = 8 * 2**30
MAX_CONFIG_BYTES = 64 * 2**20
MAX_MEMBERS = 10_000
# Weights do not compress; what unfolds further than this is no network. Small files may.
MAX_EXPANSION = 100
SMALL = 64 * 2**20
# What the members of a damaged, encrypted or foreign archive lead to.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # NotImplementedError of an unknown compression is one.
    EOFError,
    UnicodeDecodeError,
    struct.error,
    OSError,
)
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def is_archive(path: Path) -> bool:
    """Whether a file is a `.keras` archive; before 2.13, Keras wrote HDF5 under that name too."""
    return path.suffix == ".keras" and not h5py.is_hdf5(path)


def check_file(path: Path) -> None:
    """Refuse a file before anything of it is read into memory.

    Args:
        path: A `.keras` archive or an HDF5 file.

    Raises:
        ValueError: If it unfolds to more than it may, is damaged, or refers to other files.
    """
    _refuse_damaged(path)
    if is_archive(path):
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path.name)
            if not _is_whole(archive):
                raise ValueError(
                    f"{path.name!r} is cut off or damaged. Received: {path.stat().st_size:,} bytes "
                    "with a wrong checksum inside. Copy or save it again."
                )
    with opened_weights(path) as file:
        _check_hdf5(file, path)


def read_config(path: Path) -> Any:
    """The configuration of the model in a file, parsed; `None` where there is none.

    Raises:
        ValueError: If it is no JSON, or too large.
    """
    text = (read_member(path, _CONFIG) or "null") if is_archive(path) else _config_attribute(path)
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path.name!r} is damaged. Received: a configuration that is no JSON ({error}). Save "
            "the model again."
        ) from error


def read_version(path: Path) -> str:
    """The Keras version that wrote a file, as far as it says."""
    try:
        if is_archive(path):
            return str(json.loads(read_member(path, _METADATA) or "")["keras_version"])
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("keras_version", "of unknown version"))
    except (OSError, KeyError, ValueError, TypeError, RecursionError):
        return "of unknown version"


def read_member(path: Path, name: str) -> bytes | None:
    """A text in a `.keras` archive; `None` where there is none.

    Raises:
        ValueError: If it is too large, or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            member = archive.getinfo(name)
            if member.file_size > MAX_CONFIG_BYTES:
                what = f"{path.name!r}, member {name!r}"
                raise _too_large(what, member.file_size, member.compress_size)
            return archive.read(name)
    except UNREADABLE as error:
        raise ValueError(
            f"{path.name!r} is cut off or damaged. Received: {name!r}, which cannot be read "
            f"({error}). Copy or save it again."
        ) from error


@contextmanager
def opened_weights(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file that holds the weights.

    Args:
        path: A `.keras` archive, or the HDF5 file itself.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    with ExitStack() as stack:
        try:
            source: Any = path
            if is_archive(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                source = stack.enter_context(_opened(archive, path, _WEIGHTS))
            file = stack.enter_context(h5py.File(source, "r"))
        except (*UNREADABLE, KeyError) as error:
            raise ValueError(
                f"{path.name!r} is cut off or damaged. Received: weights that cannot be read "
                f"({error}). Copy or save it again."
            ) from error
        yield file


def _opened(archive: zipfile.ZipFile, path: Path, name: str) -> Any:
    """A member to read from; in place where it is not compressed, as Keras writes it."""
    member = archive.getinfo(name)
    stream = archive.open(member)  # Refuses what is damaged or encrypted.
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        return stream
    stream.close()
    return _InPlace(path, member)


class _InPlace(io.RawIOBase):
    """An uncompressed member of an archive.

    Before Python 3.12, `zipfile` reads from the start again at each step back, of which HDF5 takes
    thousands: a minute for a network of 200 MB and 800 layers.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo) -> None:
        self._file = path.open("rb")
        self._file.seek(member.header_offset + 26)  # Two lengths close the local header.
        name, extra = (int.from_bytes(self._file.read(2), "little") for _ in range(2))
        self._start = member.header_offset + 30 + name + extra
        self._size, self._position = member.file_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        left = max(0, self._size - self._position)
        count = self._file.readinto(memoryview(buffer).cast("B")[:left])
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _refuse_damaged(path: Path) -> None:
    what = "a .keras archive" if is_archive(path) else "an HDF5 file"
    if not _opens(path):
        raise ValueError(
            f"{path.name!r} is cut off or damaged. Received: {path.stat().st_size:,} bytes that "
            f"are not {what}. Copy or save it again."
        )


def _opens(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) if is_archive(path) else h5py.File(path, "r"):
            return True
    except UNREADABLE:
        return False


def _check_archive(archive: zipfile.ZipFile, name: str) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    outside = [n for n in names if n.startswith("/") or ".." in PurePosixPath(n).parts]
    if outside or len(set(names)) < len(names) or len(names) > MAX_MEMBERS:
        raise ValueError(
            f"{name!r} is no archive that Keras writes. Received: {len(names):,} members, of which "
            f"{outside} lie outside. Expected at most {MAX_MEMBERS:,}, each once, inside."
        )
    for member in members:
        limit = MAX_CONFIG_BYTES if member.filename == _CONFIG else MAX_BYTES
        folded = member.file_size > max(SMALL, MAX_EXPANSION * member.compress_size)
        if folded or member.file_size > limit:
            raise _too_large(
                f"{name!r}, member {member.filename!r}", member.file_size, member.compress_size
            )
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise _too_large(repr(name), total, sum(member.compress_size for member in members))


def _is_whole(archive: zipfile.ZipFile) -> bool:
    try:
        return archive.testzip() is None
    except UNREADABLE:
        return False


def declared_bytes(path: Path) -> int:
    """Size of all weights in a file as its arrays declare it, compressed or not."""
    with opened_weights(path) as file:
        declared, _, _ = _added_up(file)
    return declared


def _config_attribute(path: Path) -> Any:
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            return "null"
        attribute = file.attrs.get_id("model_config")
        size = attribute.dtype.itemsize
        if attribute.shape != ():
            raise ValueError(
                f"{path.name!r} is damaged. Received: a configuration of shape {attribute.shape}, "
                "where one text is expected. Save the model again."
            )
        text = "" if size > MAX_CONFIG_BYTES else file.attrs["model_config"]
    size = max(size, len(text) if isinstance(text, (str, bytes)) else 0)
    if size > MAX_CONFIG_BYTES:
        raise _too_large(f"The configuration of {path.name!r}", size, size)
    return text


def _check_hdf5(file: h5py.File, path: Path) -> None:
    """Add up what the arrays declare; nothing of them is read."""

    def elsewhere(name: str, link: Any) -> str | None:
        return name if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)) else None

    # A callback must not raise: h5py's locks do not survive that. Its result ends the visit.
    name = file.visititems_links(elsewhere)
    declared, stored, further = (0, 0, None) if name else _added_up(file)
    if name or further:
        raise ValueError(
            f"{path.name!r} keeps {name or further!r} in another file or place. Received: an "
            "external, virtual or linked array, or one of texts of open length. Other files are "
            "never read, and texts are no weights: save the model again, whole."
        )
    if declared > min(MAX_BYTES, max(SMALL, MAX_EXPANSION * stored)):
        raise _too_large(f"{path.name!r}, all arrays", declared, stored)


def _added_up(file: h5py.File) -> tuple[int, int, str | None]:
    """Bytes that all arrays declare, bytes stored of them, and the first that is no such array."""
    stored = declared = 0

    def add_up(name: str, item: Any) -> str | None:
        nonlocal stored, declared
        if not isinstance(item, h5py.Dataset):
            return None
        declared += math.prod(item.shape or ()) * item.dtype.itemsize
        stored += item.id.get_storage_size()
        # Elements of open length lie elsewhere, and many can be the same place.
        is_other = item.external or item.is_virtual or item.dtype.kind == "O"
        return name if is_other else None

    further = file.visititems(add_up)
    return declared, stored, further


def _too_large(what: str, unfolded: int, stored: int) -> ValueError:
    return ValueError(
        f"{what} is too large to be read. Received: {unfolded:,} bytes, of which {stored:,} are "
        f"stored. Expected at most {MAX_BYTES:,}, and {MAX_EXPANSION} times what is stored. If it "
        "is a network, load it yourself with Keras and pass the model."
    )
