"""A teacher whose original file runs in its own runtime, because it cannot be converted."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.files.contents import files_below, sha256_of_files
from keras_amalgam.files.provenance import NETWORK, Provenance
from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.images.coverage import check_covered
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.outputs import Outputs
from keras_amalgam.models.runtime import Runtime, RuntimeLayer
from keras_amalgam.models.taps import Tap, as_features
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.models.teacher_files import provenance_of, read_card, settings_of
from keras_amalgam.tasks import Task

Open = Callable[[Path, Sequence[str], Mapping[str, Any]], Runtime]
"""Opens a network by its path, the taps to read and `Origin.settings`."""


class RuntimeTeacher(Teacher):
    """A teacher that runs the original file in its own runtime: onnxruntime, LiteRT, TensorFlow.

    It has the face of a `Teacher`, but stays outside of the training step: its signals are
    computed in the data pipeline while the student trains, and come with the images; see
    `keras_amalgam.data.with_runtime_signals`. Its network has no Keras layers: it cannot
    initialise a student, and only what was asked for at opening can be tapped.

    Args:
        runtime: The network, from `keras_amalgam.teachers.open_runtime`.
        name: As in `Teacher`, like the others.
        class_names: Short for `task=Classification(class_names)`.
        task: What the teacher knows.
        tap: One of the runtime's taps.
        taps: Several of the runtime's taps by name, as in `Teacher`.
        outputs: What the runtime's answer is; probabilities become their logarithm.
        preprocessing: How raw 0..255 images become the network's input; may be left out where
            the runtime's `built_in` tells. One that does not show what is inside has none: if its
            network rescales, say `Preprocessing(scale=1.0)`.

    Example:
    ```python
    runtime = keras_amalgam.teachers.open_runtime("cars.onnx", taps=["layer4"])
    teacher = RuntimeTeacher(runtime, name="cars", class_names=CARS, tap="layer4",
                             preprocessing=Preprocessing(size=(224, 224), mean=MEAN, std=STD))
    ```

    Raises:
        RuntimeError: If the runtime cannot run an image.
        ValueError: If the parts do not fit each other; the message says which and why.
    """

    in_graph = False

    @keras_defaults()
    def __init__(
        self,
        runtime: Runtime,
        name: str,
        class_names: Sequence[str] | None = None,
        task: Task | None = None,
        tap: str | Tap | None = None,
        outputs: Outputs = "auto",
        preprocessing: Preprocessing | None = None,
        taps: Mapping[str, str | Tap] | None = None,
    ) -> None:
        origin = runtime.origin
        self.runtime = runtime
        self._sha256 = sha256_of_files(origin.files, _base(origin.path))
        images = keras.Input(runtime.image_shape, name="image")
        self._tensors = RuntimeLayer(runtime, f"Teacher {name!r}")(images)
        model = keras.Model(images, self._tensors[runtime.output], name="network")
        model.provenance = Provenance(
            source=origin.path.name,
            sha256=origin.sha256 or self._sha256,
            framework=origin.framework,
            converter=f"none: run by {origin.engine}",
            opset=origin.opset,
        )
        super().__init__(model, name, class_names, task, tap, outputs, preprocessing, taps)

    def count_params(self) -> int:
        """Number of weights in the original file."""
        return self.runtime.origin.num_parameters

    def fingerprint(self) -> str:
        """SHA-256 of the original file; of several files, over their names and hashes."""
        return self._sha256

    def card(self) -> dict[str, Any]:
        """All but the network, JSON-ready; `weights_sha256` is the original file's."""
        origin = self.runtime.origin
        return super().card() | {"runtime": {"file": origin.path.name, **origin.settings}}

    def _built_in(self) -> BuiltIn | SeveralWays | None:
        return getattr(self.runtime, "built_in", None)

    def _complete(self, preprocessing: Preprocessing | None) -> Preprocessing:
        complete = super()._complete(preprocessing)
        covers = getattr(self.runtime, "covers", None)
        if covers is not None:
            check_covered(covers, complete, f"Teacher {self.name!r}")
        return complete

    def _write_network(self, folder: Path) -> None:
        origin = self.runtime.origin
        base, target = origin.path.parent, folder / NETWORK
        copies = []
        for file in origin.files:
            copies.append(target / file.relative_to(base))
            copies[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copies[-1])
        if sha256_of_files(copies, _base(target / origin.path.name)) != self._sha256:
            raise ValueError(
                f"The file of teacher {self.name!r} was changed after it was opened. Received: "
                f"another hash of {origin.path}. Open it again."
            )

    def _resolve_tap(self, tap: Tap) -> Tap:
        if tap.layer not in self._tensors:
            raise ValueError(
                f"Teacher {self.name!r} does not read the tap {tap.layer!r}. Received: a runtime "
                f"opened with taps {list(self.runtime.taps)}. Open it with open_runtime(…, "
                f"taps=[{tap.layer!r}])."
            )
        return tap

    def _with_features(self, logits_model: keras.Model) -> tuple[Any, Any, dict[str, Any]]:
        features = {
            name: as_features(self._tensors[tap.layer], tap.tokens)
            for name, tap in self.taps.items()
        }
        return logits_model.input, logits_model.output, features


def load_teacher(directory: str | Path, open_runtime: Open) -> Teacher:
    """Read what `Teacher.save` or `RuntimeTeacher.save` wrote, as the card says.

    The original file is opened only if it is the card's.

    Args:
        directory: With `card.json` and the network.
        open_runtime: Opens original files.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the network is not the card's.
    """
    directory = Path(directory)
    card = read_card(directory / "card.json")
    if "runtime" not in card:
        return Teacher.load(directory)
    settings = card["runtime"]
    name = settings.get("file") if isinstance(settings, dict) else settings
    if not isinstance(name, str) or Path(name).name != name or name == "..":
        raise ValueError(
            f"The teacher card in {directory} is damaged. Received: the runtime's file {name!r}. "
            f"Expected: a name in the folder {NETWORK!r}. Save the teacher again."
        )
    _check_files(directory / NETWORK / name, card["weights_sha256"])
    said = settings_of(card, directory)
    taps = list(dict.fromkeys(tap.layer for tap in said["taps"].values()))
    runtime = open_runtime(directory / NETWORK / name, taps, settings)
    teacher = RuntimeTeacher(runtime, card["name"], **said)
    if card["provenance"]:
        teacher.provenance = provenance_of(card, directory)
    return teacher


def _base(path: Path) -> Path:
    """What the names of a network's files are relative to."""
    return path if path.is_dir() else path.parent


def _check_files(path: Path, expected: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"No network at {path}. A teacher's directory is what save wrote.")
    files = files_below(_base(path))
    if not files or sha256_of_files(files, _base(path)) != expected:
        raise ValueError(
            f"The network {path} is not that of its card: it was changed after it was written. "
            "Copy or save the teacher again."
        )
