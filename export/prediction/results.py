"""What an artifact said of some images, as plain values."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_amalgam.images.folders import printable


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """One class and how likely it is.

    Attributes:
        number: The class's place in its task's order, or in that of the label space; from 0.
        name: The class's name; `None` where the artifact holds none.
        score: Its softmax probability among the classes of its task, or of the label space, 0..1.
        tasks: The tasks that know the class.
    """

    number: int
    name: str | None
    score: float
    tasks: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name, or the number where there is none."""
        return str(self.number) if self.name is None else self.name

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return {"class": self.name, "number": self.number, "score": self.score}


@dataclasses.dataclass(frozen=True)
class ImagePrediction:
    """What was said of one image.

    Attributes:
        image: The image's file.
        tasks: Task to its likeliest classes, the likeliest first.
        joint: The likeliest classes over the label space, the union of all tasks' classes; empty
            where there is only one task, or a task has no class names.
    """

    image: Path
    tasks: Mapping[str, tuple[ClassScore, ...]]
    joint: tuple[ClassScore, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values; `joint` stands there where it is known."""
        tasks = {task: [one.to_dict() for one in scores] for task, scores in self.tasks.items()}
        joint = [one.to_dict() | {"tasks": list(one.tasks)} for one in self.joint]
        said = {"image": printable(self.image), "tasks": tasks}
        return said | ({"joint": joint} if joint else {})


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What an artifact said of some images.

    Attributes:
        artifact: The file or folder that was asked; of a model in memory its name.
        format: `"keras"`, `"saved_model"`, `"serving"`, `"tflite"`, `"onnx"` or `"teacher"`.
        class_names: Task to its class names in order, none where the artifact holds none.
        images: What was said of each image, in order.
        unreadable: File or folder to the reason why it could not be read.
        notes: What makes the answers doubtful, in sentences.
    """

    artifact: str
    format: str
    class_names: Mapping[str, tuple[str, ...]]
    images: tuple[ImagePrediction, ...]
    unreadable: Mapping[Path, str]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values, the images under `predictions`."""
        return {
            "artifact": self.artifact,
            "format": self.format,
            "class_names": {task: list(names) for task, names in self.class_names.items()},
            "predictions": [one.to_dict() for one in self.images],
            "unreadable": {printable(path): why for path, why in self.unreadable.items()},
            "notes": list(self.notes),
        }
