"""The one walk through folders of images: what is found, what is passed over, and what is said."""

import os
import unicodedata
import warnings
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keras_amalgam.images.pillow_files import extensions

NAMED = 5  # Of what cannot be reached; a disk can have thousands.

_EFFECTIVE_IDS = os.access in os.supports_effective_ids

_FOLDER, _IMAGE, _REPEATED = "folder", "image", "linked again"
_DANGLING, _UNREADABLE, _MISNAMED = "dangling link", "unreadable", "name that is not UTF-8"


@dataclass
class Walk:
    """What is in a folder of images.

    Attributes:
        folder: Where the walk began.
        is_recursive: Whether its sub-folders were searched too.
        files: The image files, by their extensions, in an order that no file system changes.
        passed_over: How many entries are none of them, by kind: an extension such as `".txt"`,
            `"without extension"`, `"hidden"`, `"linked again"` (a second way to a file or folder,
            or a link upwards).
        lost: Entries that may be images, or hold some, and cannot be reached, by kind: `"dangling
            link"`, `"unreadable"`, `"name that is not UTF-8"`.
    """

    folder: Path
    is_recursive: bool = True
    files: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    lost: dict[str, list[Path]] = field(default_factory=dict)

    def note(self) -> str:
        """What was passed over, in a sentence; empty if nothing was."""
        counts = [f"{count} {kind}" for kind, count in sorted(self.passed_over.items())]
        parts = [*counts, *self._lost()]
        return f"Passed over in '{self.folder}': {', '.join(parts)}." if parts else ""

    def warning(self) -> str:
        """What cannot be reached, by name; empty if all can."""
        parts = list(self._lost())
        if not parts:
            return ""
        return (
            f"Images are left out. Received: '{self.folder}' with {', '.join(parts)}. Repair or "
            "remove what is named."
        )

    def refuse_empty(self, argument: str | None = None) -> None:
        """Refuses a folder without images.

        Args:
            argument: The caller's that names the folder, for the message.

        Raises:
            ValueError: If there is no image, saying what was passed over.
        """
        if self.files:
            return
        subject = f"Folder '{self.folder}'" if argument is None else f"`{argument}`"
        depth = "and its sub-folders" if self.is_recursive else "(sub-folders not searched)"
        note = f" {self.note()}" if self.note() else ""
        raise ValueError(
            f"{subject} holds no images. Received: '{self.folder}', without a file in it {depth} "
            f"ending in one of {', '.join(extensions())}.{note} Give a folder with images."
        )

    def warn(self, argument: str | None = None) -> None:
        """Warns, by name, of what may be images and cannot be reached.

        Args:
            argument: As in `refuse_empty`.
        """
        if self.lost:
            subject = "" if argument is None else f"`{argument}`: "
            # At the line that asked for the images of the folder.
            warnings.warn(f"{subject}{self.warning()}", stacklevel=4)

    def _lost(self) -> Iterator[str]:
        for kind, paths in sorted(self.lost.items()):
            names = [f"'{printable(path.relative_to(self.folder))}'" for path in paths[:NAMED]]
            more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
            yield f"{len(paths)} {kind}: {', '.join(names)}{more}"


def check_folder(path: str | os.PathLike[str]) -> Path:
    """The path of an existing folder.

    Raises:
        ValueError: If there is none.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise ValueError(
            f"An image folder is needed. Received: '{folder}', where there is {what}. Give an "
            "existing folder."
        )
    return folder


def walk(path: str | os.PathLike[str], recursive: bool = True) -> Walk:
    """Finds the image files of a folder.

    Linked files and folders are followed. Each file is found once, however many links lead to it,
    and by its own path if that lies in the folder. Names that begin with a dot are passed over, and
    so are links upwards.

    Args:
        path: The folder.
        recursive: Whether its sub-folders are searched too.

    Returns:
        What there is. It is no error here if that is no image.

    Raises:
        ValueError: If the folder is missing.
    """
    found, endings = Walk(check_folder(path), recursive), extensions()
    top = os.path.realpath(found.folder)
    seen = {top, *map(str, Path(top).parents)}
    # Links wait until all else is found, so that what has a path of its own is found by that.
    entries, links = deque(_entries(found, found.folder, top)), deque[tuple[Path, str]]()
    while entries or links:
        is_link = not entries
        entry, real = links.popleft() if is_link else entries.popleft()
        kind = _kind(entry, endings)
        if kind in (_FOLDER, _IMAGE) and os.path.islink(entry) and not is_link:
            links.append((entry, os.path.realpath(entry)))
        elif kind == _FOLDER and not recursive:
            continue
        elif kind in (_FOLDER, _IMAGE) and real in seen:
            found.passed_over[_REPEATED] += 1
        elif kind == _FOLDER:
            seen.add(real)
            entries.extend(_entries(found, entry, real))
        elif kind == _IMAGE:
            seen.add(real)
            found.files.append(entry)
        elif kind in (_DANGLING, _UNREADABLE, _MISNAMED):
            found.lost.setdefault(kind, []).append(entry)
        else:
            found.passed_over[kind] += 1
    for paths in (found.files, *found.lost.values()):
        paths.sort(key=lambda path: _order(path.relative_to(found.folder)))
    return found


def class_folders(path: str | os.PathLike[str]) -> dict[str, Path]:
    """The sub-folders of a folder, by class name, sorted.

    Names that begin with a dot are passed over. A class name is the folder's in Unicode's composed
    form: some file systems decompose what they are given.

    Args:
        path: A folder with one sub-folder per class.

    Raises:
        ValueError: If the folder is missing, or two sub-folders have one name but for its form.
    """
    folder = check_folder(path)
    folders: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or not os.path.isdir(folder / name):
            continue
        if composed(name) in folders:
            raise ValueError(
                f"Folder '{folder}' has two sub-folders of one name. Received: {composed(name)!r} "
                "with its accents composed and decomposed. Put their images into one."
            )
        folders[composed(name)] = folder / name
    return dict(sorted(folders.items()))


def composed(name: str) -> str:
    """A name as Unicode composes it: an accent may be a character of its own."""
    return unicodedata.normalize("NFC", name)


def _entries(found: Walk, folder: Path, real: str) -> list[tuple[Path, str]]:
    """What lies in a folder, with its path free of links above it."""
    try:
        names = os.listdir(folder)
    except OSError:
        found.lost.setdefault(_UNREADABLE, []).append(folder)
        return []
    return [(folder / name, os.path.join(real, name)) for name in sorted(names)]


def _kind(entry: Path, endings: Collection[str]) -> str:
    suffix = entry.suffix.lower()
    if entry.name.startswith("."):
        return "hidden"
    if os.path.isdir(entry):
        return _FOLDER if _is_text(entry.name) else _MISNAMED
    if suffix and suffix not in endings:
        return printable(suffix)
    if not os.path.exists(entry):
        return _DANGLING if os.path.islink(entry) else _UNREADABLE
    if not suffix:
        return "without extension"
    if not os.path.isfile(entry):
        return "neither file nor folder"
    if not os.access(entry, os.R_OK, effective_ids=_EFFECTIVE_IDS):
        return _UNREADABLE
    return _IMAGE if _is_text(entry.name) else _MISNAMED


def _is_text(name: str) -> bool:
    return printable(name) == name


def printable(name: str | Path) -> str:
    """A name that can be written, whatever bytes the file system holds."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _order(path: Path) -> tuple[tuple[str, ...], str]:
    return tuple(map(composed, path.parts)), str(path)
