"""Images as files: what verification begins with, since that is what an application has."""

import dataclasses
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export.samples import check_range
from keras_amalgam.export.verification import runner
from keras_amalgam.images.decoding import JPEG_START, PNG_START
from keras_amalgam.images.folders import Walk, class_folders, composed, walk
from keras_amalgam.images.pillow_files import pixels_of

SHOWN = 8  # Of a list in a message.


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """Encoded images, and for some tasks the class of each.

    Attributes:
        contents: One file's bytes each.
        labels: Task to the classes of all images, -1 where an image is not of the task.
        tasks: The task that each image is of, `None` where that is not known.
    """

    contents: tuple[bytes, ...]
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    tasks: tuple[str | None, ...] = ()

    def of(self, task: str) -> np.ndarray:
        """Which images a task's decisions count on: its own, and those of no known task.

        What a head says of another task's images is no decision anybody asked for. If all images
        are of other tasks, they are all that there is.
        """
        known = np.array([owner in (None, task) for owner in self.tasks], bool)
        return known if known.any() else np.ones(len(self.contents), bool)

    def write(self, path: Path) -> None:
        """Writes them as a zip whose names are in order."""
        with zipfile.ZipFile(path, "w") as archive:
            for number, content in enumerate(self.contents):
                archive.writestr(f"{number:08}", content)

    def decoded(
        self, size: tuple[int, int] | None, channels: int, most: int, covers: bool = False
    ) -> np.ndarray:
        """Some of them as raw images of one size, uint8.

        Args:
            size: `(height, width)` in pixels; `None` leaves images of one size as they are.
            channels: 1 or 3.
            most: How many at most, evenly taken from all.
            covers: Whether those of another shape are cut about their centre, not squeezed.

        Returns:
            Shape `(count, height, width, channels)`.
        """
        count = min(most, len(self.contents))
        chosen = np.linspace(0, len(self.contents) - 1, count).astype(int)
        pixels = (pixels_of(self.contents[number]) for number in chosen)
        return np.stack([runner.shown(one, size, channels, covers) for one in pixels])


def collect(
    images: Any,
    labelled: Mapping[str, Any] | None,
    class_names: Mapping[str, Sequence[str]],
    argument: str = "images",
) -> EncodedImages:
    """The images for the comparison and those with labels, together.

    Args:
        images: A folder, a sequence of files or of bytes, or raw images `(count, height, width,
            channels)` in 0..255; or task to such, where it is known what they show; `None` for
            none beside the labelled ones.
        labelled: Task to a folder with one sub-folder for each class, or to a pair of images, as
            above, and their class numbers.
        class_names: Task to its classes in order.
        argument: What errors call `images`.

    Raises:
        ValueError: If there is no image, or a class or a task is not known.
    """
    contents, tasks = _unlabelled(images, class_names, argument)
    spans: dict[str, tuple[int, np.ndarray]] = {}
    for task, source in (labelled or {}).items():
        _check_task(task, class_names, "labelled images")
        added, classes = _labelled(source, task, tuple(class_names[task]))
        spans[task] = (len(contents), classes)
        contents += added
        tasks += [task] * len(added)
    if not contents:
        raise ValueError(
            "There is no image to verify with. Received: none. Expected: some dozens like those "
            "in use. Pass `images=` a folder, files, or an array."
        )
    labels = {}
    for task, (start, classes) in spans.items():
        labels[task] = np.full(len(contents), -1)
        labels[task][start : start + len(classes)] = classes
    return EncodedImages(tuple(contents), labels, tuple(tasks))


def _unlabelled(
    images: Any, class_names: Mapping[str, Sequence[str]], argument: str
) -> tuple[list[bytes], list[str | None]]:
    if images is None:
        return [], []
    if not isinstance(images, Mapping):
        contents = _contents(images, argument)
        return contents, [None] * len(contents)
    contents, tasks = [], []
    for task, source in images.items():
        _check_task(task, class_names, argument)
        added = _contents(source, f"{argument}[{task!r}]")
        contents += added
        tasks += [task] * len(added)
    return contents, tasks


def _check_task(task: str, class_names: Mapping[str, Sequence[str]], what: str) -> None:
    if task not in class_names:
        raise ValueError(
            f"There is no such task to measure. Received: {what} of {task!r}. Expected: one of "
            f"{sorted(class_names)}. Name the head."
        )


def _labelled(source: Any, task: str, names: tuple[str, ...]) -> tuple[list[bytes], np.ndarray]:
    argument = f"labelled[{task!r}]"
    if isinstance(source, (str, PathLike)):
        found = class_folders(source) if Path(source).is_dir() else {}
        numbers_of = {composed(name): number for number, name in enumerate(names)}
        if not found or not set(found) <= set(numbers_of):
            raise ValueError(
                f"The labelled images of task {task!r} are not sorted by its classes. Received: "
                f"'{source}' with the sub-folders {_some(list(found))}. Expected: sub-folders "
                f"named as its classes {_some(names)}. Rename them."
            )
        contents = {name: _contents(folder, argument) for name, folder in found.items()}
        numbers = [numbers_of[name] for name, files in contents.items() for _ in files]
        return [content for files in contents.values() for content in files], np.array(numbers)
    images, given = source
    contents, classes = _contents(images, argument), np.asarray(given)
    if classes.shape != (len(contents),) or not set(classes.tolist()) <= set(range(len(names))):
        raise ValueError(
            f"The labels of task {task!r} do not fit. Received: shape {classes.shape} with values "
            f"{_some(sorted(set(classes.ravel().tolist())))} for {len(contents)} images. Expected: "
            f"one class number from 0 to {len(names) - 1} for each image. Check their order."
        )
    return contents, classes


def _contents(images: Any, argument: str) -> list[bytes]:
    if isinstance(images, (str, PathLike)):
        return _in_folder(Path(images), argument)
    if isinstance(images, np.ndarray):
        return _as_files(images, argument)
    given = list(images) if isinstance(images, Iterable) else [images]
    if given and all(isinstance(item, (str, PathLike)) for item in given):
        return [_checked(Path(item).read_bytes(), str(item), argument) for item in given]
    if not all(isinstance(item, bytes) for item in given):
        raise ValueError(
            f"`{argument}` cannot be read. Received: a {type(images).__name__}. Expected: a "
            "folder, files, bytes of files, or an array of raw images. Write the images to files."
        )
    return [_checked(item, f"number {number}", argument) for number, item in enumerate(given)]


def _in_folder(folder: Path, argument: str) -> list[bytes]:
    found = walk(folder) if folder.is_dir() else Walk(folder)
    found.refuse_empty(argument)
    found.warn(argument)
    return [_checked(file.read_bytes(), str(file), argument) for file in found.files]


def _checked(content: bytes, name: str, argument: str) -> bytes:
    """A JPEG or PNG file, which all artifacts take; others' pixels become a PNG.

    What cannot be decoded would later look like the artifact's fault.
    """
    try:
        pixels = pixels_of(content)
    except ValueError as error:
        raise ValueError(
            f"`{argument}` holds what is no image. Received: '{name}' ({error}). Expected: files "
            "that can be decoded to their end. Remove it."
        ) from error
    return as_jpeg_or_png(content, pixels)


def as_jpeg_or_png(content: bytes, pixels: np.ndarray) -> bytes:
    """An image as a file that every artifact of files takes.

    Args:
        content: The file as it is.
        pixels: Its pixels as they were seen, which become a PNG where it is of another kind.
    """
    return content if content.startswith((JPEG_START, PNG_START)) else _as_png(pixels)


def _as_files(images: np.ndarray, argument: str) -> list[bytes]:
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"`{argument}` are not raw images. Received: shape {images.shape}. Expected: (count, "
            "height, width, 1 or 3). Stack them, or write them to files."
        )
    if len(images):
        check_range(float(images.min()), float(images.max()), argument)
    return [_as_png(image) for image in np.rint(images).astype(np.uint8)]


def _as_png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _some(values: Sequence[Any]) -> str:
    """The first few, saying so where there are more."""
    shown = str(list(values[:SHOWN]))
    return shown if len(values) <= SHOWN else f"{shown} and {len(values) - SHOWN} more"
