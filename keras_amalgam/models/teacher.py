"""A teacher: a frozen network with all that is needed to learn from it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.files.provenance import (
    BATCH_NORM,
    CARD,
    TEACHER_FILES,
    Provenance,
    batch_norm_bytes,
    holds_own_network,
)
from keras_amalgam.files.writing import whole_directory
from keras_amalgam.images.built_in import (
    BuiltIn,
    SeveralWays,
    check_normalised_once,
    implied_preprocessing,
)
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.images.preprocessing import (
    Preprocessing,
    as_input_of,
    check_takes_images,
)
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.answering import answering_part
from keras_amalgam.models.heads import Kind
from keras_amalgam.models.outputs import Outputs, kind_of, to_logits
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.taps import Tap, as_functional, as_taps, features_at
from keras_amalgam.models.teacher_files import (
    CARD_VERSION,
    load_model,
    provenance_of,
    read_card,
    settings_of,
)
from keras_amalgam.tasks import Classification, Task
from keras_amalgam.tasks.names import check_task_name


class Teacher:
    """A frozen network, its own preprocessing, its task and its tap.

    The model stays as it is: taps and logits are read through a second graph over the same
    layers, always in inference mode.

    Args:
        model: A functional or sequential Keras model of one image input and one output.
        name: The task's name: of the student's head, in the history and in every artifact. ASCII
            letters, digits, `_`, `.` and `-`, a letter or a digit first; not `"image"`.
        class_names: Short for `task=Classification(class_names)`.
        task: What the teacher knows.
        tap: The layer whose output is imitated in the common space: a layer's name or path, a
            source name if the model was converted, or a `Tap`. Without a tap only terms that read
            answers alone can be used.
        outputs: What the model returns: `"logits"`, `"probabilities"`, `"sigmoid"` for one sigmoid
            a class of which exactly one holds, or `"auto"` to find out. Several sigmoids are taken
            for a multi-label head, which cannot teach, unless it is said that they are classes.
        preprocessing: How raw 0..255 images become the model's input. May be left out only for
            a model that normalises inside, as some of `keras.applications` do, by numbers that
            tell what it takes. Doing again what the model does itself is refused.
        taps: Several taps by name, such as `{"mid": "layer2", "top": "layer4"}`, for terms that
            read features at several depths; `tap="layer4"` is short for
            `taps={"features": "layer4"}`.

    Example:
    ```python
    teacher = Teacher(model, name="pets", class_names=["cat", "dog"], tap="conv5",
                      preprocessing=Preprocessing(size=(224, 224)))
    ```

    Attributes:
        in_graph: Whether the network runs inside the training step. A `RuntimeTeacher` does not:
            its signals come with the images.
        returns: What the model was found, or said, to return: `"logits"`, `"probabilities"` or
            `"sigmoid"`.
        taps: The taps by name; empty without any.

    Raises:
        TypeError: If `model` is no Keras model or a name is no string.
        ValueError: If the parts do not fit each other; the message says which and why.
    """

    in_graph = True

    @keras_defaults()
    def __init__(
        self,
        model: keras.Model,
        name: str,
        class_names: Sequence[str] | None = None,
        task: Task | None = None,
        tap: str | Tap | None = None,
        outputs: Outputs = "auto",
        preprocessing: Preprocessing | None = None,
        taps: Mapping[str, str | Tap] | None = None,
    ) -> None:
        check_task_name(name)
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"Teacher {name!r} needs a keras.Model. Received: {type(model).__name__}. "
                "keras_amalgam.teachers converts other formats, and what cannot be converted "
                "becomes a teacher by keras_amalgam.teachers.runtime_teacher."
            )
        if class_names is not None and task is None:
            task = Classification(class_names)
        elif class_names is not None or task is None:
            raise ValueError(
                f"Teacher {name!r} needs either `class_names` or `task`. Received: "
                f"{'neither' if task is None else 'both'}. `class_names` is short for "
                "task=Classification(class_names)."
            )
        self.name = str(name)
        with self._named_in_errors():
            as_functional(model)
        self.model = model
        self.task: Task = task
        self.outputs: Outputs = outputs
        self.provenance: Provenance | None = getattr(model, "provenance", None)
        named = as_taps(tap, taps, f"Teacher {name!r}")
        self.taps = {key: self._resolve_tap(one) for key, one in named.items()}
        self.preprocessing = self._complete(preprocessing)
        self._graph = self._build_graph()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the logits."""
        return self.task.class_names

    @property
    def tap(self) -> Tap | None:
        """The only tap; `None` without any.

        Raises:
            ValueError: If there are several.
        """
        if len(self.taps) > 1:
            raise ValueError(
                f"Teacher {self.name!r} has several taps. Received: {list(self.taps)}. Choose one "
                "of `teacher.taps`, or make the teacher with one: Teacher(…, tap=…)."
            )
        return next(iter(self.taps.values()), None)

    @keras_defaults()
    def signals(self, channels: int = 3) -> keras.Model:
        """The model from raw images to what a term reads.

        Args:
            channels: Of the raw images, 1 or 3.

        Returns:
            A model of raw images `(batch, height, width, channels)` in 0..255 to what
            `Signals.of` takes: `{"answers": {name: (batch, classes)}}` and, with taps,
            `"features"`: a map or a vector by tap.
        """
        images = keras.Input((None, None, channels), name="image")
        x = self.preprocessing.build(images, self.model.input_shape[-1])
        x = as_input_of(x, self.model.inputs[0].dtype)
        return keras.Model(images, self._graph(x), name=f"{self.name}_signals")

    @keras_defaults()
    def answering(self) -> keras.Model:
        """The part of the network from its tap to its answer; shares layers and weights.

        Returns:
            A model from features, as the teacher's signals have them, to the answer
            `(batch, classes)`.

        Raises:
            ValueError: If there is not exactly one tap, or the answer depends on more than it.
        """
        if self.tap is None or not self.in_graph:
            lacks = "no tap" if self.in_graph else "a network in its own runtime, without layers"
            raise ValueError(
                f"The head of teacher {self.name!r} cannot be had alone. Received: a teacher with "
                f"{lacks}. Expected: a network converted into Keras, tapped in front of its head."
            )
        with self._named_in_errors():
            return answering_part(to_logits(self.model, self.returns), self.tap)

    def answers(self, channels: int = 3) -> keras.Model:
        """The model from raw images to the answer alone, as a student of one task gives it.

        Args:
            channels: Of the raw images, 1 or 3.

        Returns:
            A model of raw images `(batch, height, width, channels)` in 0..255 to
            `{name: (batch, classes)}`.
        """
        signals = self.signals(channels)
        return keras.Model(signals.input, signals.output["answers"], name=self.name)

    def count_params(self) -> int:
        """Number of weights of the network."""
        return self.model.count_params()

    def fingerprint(self) -> str:
        """SHA-256 over the weights, in order; equal for equal weights."""
        digest = hashlib.sha256()
        for value in self.model.get_weights():
            digest.update(str((value.shape, value.dtype)).encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def card(self) -> dict[str, Any]:
        """All but the weights, JSON-ready: task, preprocessing, tap, provenance, hash."""
        return {
            "card_version": CARD_VERSION,
            "name": self.name,
            "task": self.task.to_config(),
            "outputs": self.outputs,
            "taps": {name: asdict(tap) for name, tap in self.taps.items()},
            "preprocessing": self.preprocessing.to_config(),
            "provenance": self.provenance.card() if self.provenance else None,
            "weights_sha256": self.fingerprint(),
        }

    def save(
        self,
        directory: str | Path,
        *,
        parity: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the network, `card.json` and `labels.txt`, whole or not at all.

        The network is `model.keras`; that of a `RuntimeTeacher` is its original file. Statistics of
        folded batch normalizations go into `batch_norm.npz`.

        Args:
            directory: A directory that does not exist yet.
            parity: A report of `keras_amalgam.teachers.check_teacher`, to be kept as `parity.json`.
            overwrite: Whether an earlier teacher there is replaced. Anything else never is.

        Raises:
            FileExistsError: If it exists, or holds something else than a teacher.
            OSError: If it cannot be written.
        """
        with whole_directory(
            directory, overwrite, CARD, TEACHER_FILES, holds_own_network
        ) as folder:
            self._write_network(folder)
            if self.provenance and self.provenance.batch_norm:
                (folder / BATCH_NORM).write_bytes(batch_norm_bytes(self.provenance.batch_norm))
            if parity is not None:
                (folder / "parity.json").write_text(json.dumps(parity, indent=2) + "\n")
            (folder / CARD).write_text(json.dumps(self.card(), indent=2) + "\n")
            labels = "\n".join(self.class_names) + "\n"
            (folder / "labels.txt").write_text(labels, encoding="utf-8")

    @classmethod
    @keras_defaults()
    def load(cls, directory: str | Path) -> "Teacher":
        """Read what `save` wrote.

        Args:
            directory: With `model.keras` and `card.json`.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, the weights are not the card's, or it is a
                `RuntimeTeacher`'s.
        """
        directory = Path(directory)
        card = read_card(directory / "card.json")
        if "runtime" in card:
            raise ValueError(
                f"Teacher {card['name']!r} in {directory} runs in a runtime of its own, which the "
                "core does not open. Use keras_amalgam.teachers.load(directory), which loads both "
                "kinds."
            )
        model = load_model(directory / "model.keras")
        teacher = cls(model, card["name"], **settings_of(card, directory))
        if card["provenance"]:
            # Not before: the card's tap is a layer's name already, not a source name.
            teacher.provenance = model.provenance = provenance_of(card, directory)
        if teacher.fingerprint() != card["weights_sha256"]:
            raise ValueError(
                f"The weights in {directory} are not those of its card: the file was changed "
                "after it was written. Convert or save the teacher again."
            )
        return teacher

    def _write_network(self, folder: Path) -> None:
        self.model.save(folder / "model.keras")

    def _resolve_tap(self, tap: Tap) -> Tap:
        source_names = self.provenance.names if self.provenance else {}
        return Tap(source_names.get(tap.layer, tap.layer), tap.tokens)

    def _complete(self, preprocessing: Preprocessing | None) -> Preprocessing:
        check_takes_images(self.model, f"Teacher {self.name!r}")
        shape = self.model.input_shape
        built_in = self._built_in()
        if preprocessing is None:
            preprocessing = implied_preprocessing(built_in, f"Teacher {self.name!r}")
        expected = shape[1:3]
        size = preprocessing.size
        if size is None and None not in expected:
            preprocessing = replace(preprocessing, size=expected)
        if size and any(e not in (None, s) for e, s in zip(expected, size, strict=True)):
            raise ValueError(
                f"Teacher {self.name!r} and its preprocessing disagree. Received: "
                f"preprocessing.size={size}, a model of input shape {shape}. "
                f"Set size={expected}."
            )
        check_normalised_once(built_in, preprocessing, f"Teacher {self.name!r}")
        return preprocessing

    def _built_in(self) -> BuiltIn | SeveralWays | None:
        """The normalisation inside the network, measured."""
        return built_in_normalisation(self.model)

    def _build_graph(self) -> keras.Model:
        """From the network's own input to its signals."""
        owner = f"Teacher {self.name!r}"
        with self._named_in_errors():
            self.preprocessing.build(keras.Input((None, None, 3)), self.model.input_shape[-1])
        self.returns: Kind = kind_of(self.model, self.outputs, owner)
        logits_model = to_logits(self.model, self.returns)
        self.task.check_output(tuple(logits_model.output.shape), owner)
        with self._named_in_errors():
            inputs, logits, features = self._with_features(logits_model)
        return keras.Model(inputs, Signals({self.name: logits}, features).as_dict())

    def _with_features(self, logits_model: keras.Model) -> tuple[Any, Any, dict[str, Any]]:
        """Input, logits and the features by tap of one forward pass."""
        return features_at(logits_model, self.taps)

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise ValueError(f"Teacher {self.name!r}: {error}") from error
