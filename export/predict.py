"""What an artifact says of photographs: each task's likeliest classes, and the joint decision."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_amalgam.export import decisions
from keras_amalgam.export.arguments import is_whole
from keras_amalgam.export.labels import Labels, classified
from keras_amalgam.export.prediction import choosing, opening
from keras_amalgam.export.prediction.opening import Opening
from keras_amalgam.export.prediction.results import ClassScore, ImagePrediction, Predictions
from keras_amalgam.images.folders import walk
from keras_amalgam.images.pillow_files import pixels_of
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.quiet import quiet
from keras_amalgam.tasks.label_space import LabelSpace

if TYPE_CHECKING:
    from keras_amalgam.models.teacher import Teacher


@keras_defaults()
def predict(
    path: "str | PathLike[str] | keras.Model | Teacher",
    images: str | PathLike[str] | Iterable[str | PathLike[str]],
    top: int = 3,
    *,
    artifact: str | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> Predictions:
    """Asks an artifact what is on photographs.

    The artifact runs in its own runtime: LiteRT, onnxruntime, TensorFlow or Keras. Photographs are
    decoded, turned as EXIF says, and handed over as the documentation tells an application to do: a
    bundle gets the files, an artifact of fixed size what the antialiased bilinear filter makes of
    them, the others the pixels. The score of a class is the softmax over its task's logits.

    Args:
        path: What any of this package's exporters wrote; the folder of a run, of a package or of a
            teacher; or a student or teacher in memory. A SavedModel is a program: ask only one
            that you would run.
        images: Files and folders, which are searched with their sub-folders.
        top: How many of the likeliest classes are named, at least 1; fewer where a task has fewer.
        artifact: The name of one in a folder. By default the `.keras` file, else the first that
            misses no threshold; of a bundle the newest version of its only model.
        class_names: Task to class names in the order of its logits, in place of those that travel
            with the artifact. A task without any has numbers.

    Returns:
        What was said of each image, and which images could not be read.

    Raises:
        TypeError: If a model in memory is not a functional one, or class names or images are of
            another type.
        FileNotFoundError: If a teacher's folder is not whole.
        ValueError: If there is no artifact or it cannot be opened, `top` is not a positive number,
            the class names do not fit, or no image can be read.

    Example:
        ```python
        said = export.predict("student_int8.tflite", "photos/", top=1)
        for one in said.images:
            print(one.image, one.tasks["birds"][0].name, one.tasks["birds"][0].score)
        ```
    """
    if not is_whole(top, 1):
        raise ValueError(
            f"`top` must be a number of classes. Received: {top!r}. Expected: 1 or more. Leave it "
            "out for the three likeliest."
        )
    files, unreadable = _files(images)
    opened = _opened(path, artifact)
    asked = _Asked(opened, _checked(class_names), top)
    said = []
    for file in files:
        try:
            content = file.read_bytes()
            pixels = pixels_of(content)
        except OSError as error:
            unreadable[file] = error.strerror or str(error)
        except ValueError as error:
            unreadable[file] = str(error)
        else:
            said.append(asked.about(file, content, pixels))
    if not said:
        first, why = next(iter(unreadable.items()))
        raise ValueError(
            f"No image can be read. Received: {len(unreadable)} that cannot, such as '{first}' "
            f"({why}). Expected: images that can be decoded to their end. Check the files."
        )
    return Predictions(
        opened.name, opened.format, asked.labels, tuple(said), unreadable, opened.notes
    )


class _Asked:
    """An artifact with the names of its classes, asked about one image at a time.

    Attributes:
        labels: Every task to its class names, none where they are not known; of the last image.
    """

    labels: Labels

    def __init__(self, opened: Opening, given: Labels, top: int) -> None:
        self._opened, self._given, self._top = opened, given, top
        self._subject = f"Artifact '{opened.name}'"

    def about(self, file: Path, content: bytes, pixels: np.ndarray) -> ImagePrediction:
        """What is on one image."""
        outputs = self._outputs(file, content, pixels)
        self.labels = labels = self._labels_of(outputs)
        tasks = {}
        for task, names in labels.items():
            scores = self._softmax(task, outputs[task][0], file)
            tasks[task] = self._top_of(scores, names, [(task,)] * len(scores))
        if len(tasks) < 2 or not all(map(_are_told_apart, labels.values())):
            return ImagePrediction(file, tasks)
        space = LabelSpace(labels)
        # An artifact's own joint prediction is over the label space of its own names.
        is_given = decisions.JOINT in outputs and decisions.JOINT not in labels and not self._given
        joint = outputs[decisions.JOINT] if is_given else decisions.joined(labels, outputs)
        scores = self._softmax(decisions.JOINT, joint[0], file)
        speakers = [space.speakers(name) for name in space.names]
        return ImagePrediction(file, tasks, self._top_of(scores, space.names, speakers))

    def _outputs(self, file: Path, content: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
        try:
            with quiet():  # LiteRT says at the first image how it computes.
                outputs = self._opened.answer(content, pixels)
        except Exception as error:  # The runtimes' exceptions have no common class.
            said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:200]
            raise ValueError(
                f"{self._subject} does not run on an image. Received: '{file}' of "
                f"{pixels.shape[1]} × {pixels.shape[0]} pixels ({said}). Expected: an artifact "
                "that `keras_amalgam.export` wrote, and an image that it takes. Export the student "
                "again, or leave the image out."
            ) from error
        return decisions.check_ids(outputs, self._opened.labels or {}, self._subject)

    def _labels_of(self, outputs: Mapping[str, np.ndarray]) -> Labels:
        """Every task to its class names; none where they are not known."""
        own = self._opened.labels
        labels: Labels = dict.fromkeys(outputs, ()) if own is None else classified(own)
        if _is_joint(labels):
            labels.pop(decisions.JOINT)
        labels |= self._given
        for task, names in labels.items():
            shape = outputs[task].shape if task in outputs else None
            if shape is None or len(shape) != 2 or len(names) not in (0, shape[1]):
                raise ValueError(
                    f"{self._subject} and its class names do not fit at task '{task}'. Received: "
                    f"{len(names) or 'no'} names, and an output of shape {shape}; the outputs are "
                    f"{sorted(outputs)}. Expected: one name for each logit, shape (1, classes). "
                    "Give the names of its tasks with `class_names=`."
                )
        return labels

    def _softmax(self, task: str, logits: np.ndarray, file: Path) -> np.ndarray:
        logits = np.asarray(logits, np.float64)
        largest = logits.max()
        if not np.isfinite(largest):  # NaN among them too.
            raise ValueError(
                f"{self._subject} gives no scores at '{task}'. Received: a largest logit of "
                f"{largest} for '{file}'. Expected: finite logits. Export the student again."
            )
        shares = np.exp(logits - largest)
        return shares / shares.sum()

    def _top_of(
        self, scores: np.ndarray, names: Sequence[str], tasks: Sequence[tuple[str, ...]]
    ) -> tuple[ClassScore, ...]:
        likeliest = map(int, np.argsort(-scores, kind="stable")[: self._top])
        return tuple(
            ClassScore(n, names[n] if names else None, float(scores[n]), tasks[n])
            for n in likeliest
        )


def _opened(path: Any, artifact: str | None) -> Opening:
    from keras_amalgam.models.teacher import Teacher

    if isinstance(path, (str, PathLike)):
        return opening.of_path(choosing.choose(Path(path), artifact))
    if artifact is not None:
        raise ValueError(
            f"`artifact=` chooses one in a folder. Received: artifact={artifact!r} and a "
            f"{type(path).__name__} in memory. Leave `artifact=` out."
        )
    return opening.of_teacher(path) if isinstance(path, Teacher) else opening.of_model(path)


def _files(images: Any) -> tuple[list[Path], dict[Path, str]]:
    """The image files that are meant, and what cannot be reached with the reason."""
    given = [images] if isinstance(images, (str, PathLike)) else list(images)
    files: list[Path] = []
    unreadable: dict[Path, str] = {}
    for one in map(_path, given):
        if one.is_dir():
            found = walk(one)
            if not found.lost:
                found.refuse_empty("images")
            files += found.files
            unreadable |= {path: why for why, paths in found.lost.items() for path in paths}
        elif one.is_file():
            files.append(one)
        else:
            raise ValueError(
                f"There is no such image. Received: '{one}', which is "
                f"{'no file' if one.exists() else 'not there'}. Expected: image files and folders. "
                "Check the path."
            )
    if not given:
        raise ValueError(
            "There is no image to ask about. Received: none. Expected: files or folders. Pass them "
            "as `images=`."
        )
    return files, unreadable


def _path(image: Any) -> Path:
    if not isinstance(image, (str, PathLike)):
        raise TypeError(
            f"`images` are files and folders. Received: a {type(image).__name__}. Expected: paths. "
            "Write an image in memory to a file, or run the artifact in its own runtime."
        )
    return Path(image)


def _checked(class_names: Mapping[str, Sequence[str]] | None) -> Labels:
    if class_names is None:
        return {}
    if not isinstance(class_names, Mapping):
        raise TypeError(
            f"`class_names` must say which task each list belongs to. Received: a "
            f"{type(class_names).__name__}. Expected: a mapping from tasks to their class names. "
            "Pass such as `class_names={'birds': [...]}`."
        )
    texts = [task for task, names in class_names.items() if isinstance(names, str)]
    if texts:
        raise TypeError(
            f"The class names of task '{texts[0]}' are not a list. Received: the text "
            f"{class_names[texts[0]]!r}. Expected: a sequence of names. Pass a list of them."
        )
    return {task: tuple(names) for task, names in class_names.items()}


def _is_joint(labels: Labels) -> bool:
    """Whether the output `joint` is the joint prediction, and not a head of that name."""
    others = {task: names for task, names in labels.items() if task != decisions.JOINT}
    if decisions.JOINT not in labels or not others:
        return False
    return all(map(_are_told_apart, others.values())) and (
        LabelSpace(others).names == labels[decisions.JOINT]
    )


def _are_told_apart(names: Sequence[str]) -> bool:
    """Whether the classes have names, each its own."""
    return bool(names) and len(set(names)) == len(names)
