"""The training of a student from several teachers, without labels."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_amalgam.files.keras_bounds import read_member
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.student import check_names
from keras_amalgam.models.taps import FEATURES, Tap, as_taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.onednn import say_if_off
from keras_amalgam.terms import AmalgamationTerm, Observation, SoftTargets
from keras_amalgam.training.adaptation import adapt, check_adapted
from keras_amalgam.training.epoch_numbers import SetEpoch, epoch_numbers
from keras_amalgam.training.graphs import Graphs
from keras_amalgam.training.guards import (
    StopOnNonFiniteLoss,
    check_signals_of,
    checked,
    named_errors,
    refuse_weights,
)
from keras_amalgam.training.manifest import check_manifest, manifest_entry
from keras_amalgam.training.objective import check_terms, history_keys, weighted_losses
from keras_amalgam.training.replicas import with_share
from keras_amalgam.training.signals import delivered


@keras.saving.register_keras_serializable(package="keras_amalgam")
class Amalgamator(keras.Model):
    """Trains a student to imitate several frozen teachers on unlabelled images.

    In each step every teacher runs once, in inference mode and outside the gradient; the student
    runs once and yields its heads and its tap together; the terms' losses are added up with their
    weights. The history has `loss`, `<term>`, `<term>/<teacher>`, and where a term has several
    components `<term>/<teacher>/<component>`, all weighted, so that each is the sum of its parts.

    Train with plain `compile(optimizer=…)` and `fit(images)`. Images are RGB or grey in 0..255:
    a `tf.data.Dataset` of batches, an array, or either of them as
    `{"image": images, "source": numbers}`, where source k means the k-th teacher's collection and
    -1 an unknown one. The signals of a `RuntimeTeacher` are computed in the data set, while the
    student trains on the batch before, and may also come with the images, as `"signals"`. An
    integer per image that is its own, `"id"`, reaches the terms as `batch.ids`.

    Args:
        student: Takes raw images and returns `{task name: logits}`, as `build_student` makes it.
        teachers: Each name must be one of the student's heads.
        student_tap: The student's layer to imitate with; needed by terms that read features.
        terms: What is minimised; by default `[SoftTargets()]`.
        name: The model's name.
        student_taps: Several layers of the student by tap name, as `Teacher(…, taps=…)` has them:
            a term compares taps of one name. `student_tap="top"` is short for
            `student_taps={"features": "top"}`.

    Example:
    ```python
    model = Amalgamator(student, [cars, birds], student_tap="top",
                        terms=[SoftTargets(), CommonFeatures()])
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    model.fit(images, epochs=30)
    ```

    Raises:
        ValueError: If student, teachers, taps and terms do not fit each other.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)
    """

    @keras_defaults(keep_policy=True)
    def __init__(
        self,
        student: keras.Model,
        teachers: Sequence[Teacher],
        student_tap: str | Tap | None = None,
        terms: Iterable[AmalgamationTerm] | None = None,
        name: str = "amalgamator",
        student_taps: Mapping[str, str | Tap] | None = None,
    ) -> None:
        super().__init__(name=name, dtype=student.dtype_policy)
        check_names(teachers)
        _freeze_inside(student)
        self.student = student
        self.student_taps = as_taps(student_tap, student_taps, "The student")
        self.terms = list(terms) if terms is not None else [SoftTargets()]
        self.manifest = [manifest_entry(teacher) for teacher in teachers]
        check_terms(self.terms)
        self._graphs = Graphs(student, teachers, self.student_taps)
        for term in self.terms:
            term.attach(self._graphs.student_spec, self._graphs.teacher_specs)
        self._graphs.reads = frozenset(t for term in self.terms for t in term.reads_of_teachers)
        self._means: dict[str, keras.metrics.Mean] = {}
        for key in ("loss", *history_keys(self.terms, self._graphs.teacher_specs)):
            self._means[key] = keras.metrics.Mean(name=key)
        self.built = True

    def compile(self, optimizer: Any = "adam", jit_compile: bool | str = "auto", **kwargs: Any):
        """Configure training.

        Args:
            optimizer: As in `keras.Model.compile`.
            jit_compile: Whether XLA compiles the step; `"auto"` leaves it to Keras, but never
                compiles what XLA cannot, teachers included.
            **kwargs: `steps_per_execution`, `run_eagerly` and what else `keras.Model.compile`
                takes, except losses and metrics: nothing is labelled.

        Raises:
            ValueError: If a loss or metric is given, or `jit_compile=True` cannot be.
        """
        refused = sorted(set(kwargs) & {"loss", "loss_weights", "metrics", "weighted_metrics"})
        if refused:
            raise ValueError(
                f"Nothing is labelled, so there is nothing for {refused} to compare with. The "
                "objective is Amalgamator(…, terms=…); keras_amalgam.evaluation measures accuracy "
                "on labelled data."
            )
        if not self._graphs.supports_jit:
            if jit_compile is True:
                raise ValueError(
                    "XLA must be able to compile student and teachers. Received: jit_compile=True, "
                    "and a network that resizes without antialiasing by an interpolation other "
                    "than bilinear and nearest, or has a layer that XLA cannot compile. Use "
                    "jit_compile='auto', or Preprocessing(…, antialias=True)."
                )
            jit_compile = False
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self._compile_options = {"jit_compile": jit_compile, **kwargs}

    def get_compile_config(self) -> dict[str, Any] | None:
        """The optimizer and the options of `compile`, for saving."""
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            **self._compile_options,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as before saving; the optimizer's state comes with the weights."""
        options = dict(config)
        optimizer = keras.saving.deserialize_keras_object(options.pop("optimizer"))
        self.compile(optimizer=optimizer, **options)
        self.optimizer.build(self.trainable_variables)

    @keras_defaults(keep_policy=True)
    def fit(self, x: Any = None, y: None = None, *, callbacks: Any = None, **kwargs: Any) -> Any:
        """Train on unlabelled images; otherwise as `keras.Model.fit`.

        Args:
            x: Images, or a data set of them; see the class.
            y: Must be `None`: nothing is labelled.
            callbacks: As in `keras.Model.fit`.
            **kwargs: As in `keras.Model.fit`; `validation_data` are unlabelled images, too.

        Returns:
            The `keras.callbacks.History`.

        Raises:
            TypeError: If images are a list, or of another type than uint8 or float.
            ValueError: If there are labels, weights, no images, or images that are not 0..255.
            FloatingPointError: If a loss stops being finite; names the term and the teacher.
            RuntimeError: If a runtime teacher fails; names it.
        """
        say_if_off()
        refuse_weights(kwargs)
        set_epoch = SetEpoch(epoch_numbers(x))
        x = self._checked(x, y)
        size = kwargs.get("batch_size")
        if kwargs.get("validation_data") is not None:
            images = self._checked(kwargs["validation_data"])
            kwargs["validation_data"] = delivered(
                images, self._graphs.outside, kwargs.get("validation_batch_size") or size
            )
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default for data sets.
        shuffle, split_off = kwargs.get("shuffle", True), kwargs.get("validation_split", 0.0)
        images, x = x, delivered(x, self._graphs.outside, size, shuffle, split_off)
        if x is not images:  # Shuffled already, if it was an array.
            kwargs["shuffle"] = False
        with named_errors():
            adapt(self.terms, x, self._observe, len(self._graphs.teacher_specs))
        given = [] if callbacks is None else callbacks
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        with named_errors():
            own = [set_epoch, StopOnNonFiniteLoss()]
            return super().fit(x, callbacks=[*own, *given], **kwargs)

    @keras_defaults(keep_policy=True)
    def evaluate(self, x: Any = None, y: None = None, **kwargs: Any) -> Any:
        """The losses on unlabelled images; otherwise as `keras.Model.evaluate`.

        Args:
            x: Images, or a data set of them; see the class.
            y: Must be `None`: nothing is labelled.
            **kwargs: As in `keras.Model.evaluate`.

        Returns:
            As `keras.Model.evaluate`: the losses, in a list or by key.

        Raises:
            TypeError: As in `fit`.
            ValueError: As in `fit`.
            RuntimeError: If a term has not looked at signals yet; see `adapt`.
        """
        refuse_weights(kwargs)
        if not kwargs.get("_use_cached_eval_dataset"):  # Then `fit` calls, which has checked.
            x = self._checked(x, y, "evaluate")
            x = delivered(x, self._graphs.outside, kwargs.get("batch_size"))
        with named_errors():
            return super().evaluate(x, **kwargs)

    @keras_defaults(keep_policy=True)
    def adapt(self, x: Any) -> None:
        """Let the terms that have to look at real signals before the first step.

        `fit` does it by itself. By hand it is needed before `train_on_batch` or `evaluate` of a
        training that was not begun. Terms that have looked already are left as they are.

        Args:
            x: Images, or a data set of them; see the class.

        Raises:
            ValueError: As in `fit`.
        """
        images = delivered(self._checked(x, caller="adapt"), self._graphs.outside)
        with named_errors():
            adapt(self.terms, images, self._observe, len(self._graphs.teacher_specs))

    def make_train_function(self, force: bool = False) -> Any:
        """As Keras does, once no term is left that must look at signals first."""
        check_adapted(self.terms)
        return super().make_train_function(force)

    def make_test_function(self, force: bool = False) -> Any:
        """As Keras does, once no term is left that must look at signals first."""
        check_adapted(self.terms)
        return super().make_test_function(force)

    def _observe(self, batch: Batch) -> Observation:
        return Observation(*self.signals(batch), batch)

    def _checked(self, x: Any, y: Any = None, caller: str = "fit") -> Any:
        by_source = any(term.uses_source for term in self.terms)
        owners = list(self._graphs.teacher_specs) if by_source else None
        channels = self.student.input_shape[-1]
        found = checked(x, y, channels=channels, owners=owners, caller=caller)
        check_signals_of(x, self.manifest)
        return found

    def call(self, images: Any, training: bool | None = None) -> Any:
        """The student's answer, `{task: logits}`."""
        return self.student(Batch.of(images).images, training=training)

    def signals(self, x: Any, training: bool = False) -> tuple[Signals, dict[str, Signals]]:
        """What student and teachers give the terms on a batch.

        Args:
            x: A `Batch`, raw images in 0..255 of shape `(batch, height, width, channels)`, or a
                dict with these as `"image"`.
            training: Whether the student runs in training mode; teachers never do.

        Returns:
            The student's signals, and each teacher's by name.
        """
        batch = Batch.of(x)
        return self._graphs.student(batch.images, training), self._graphs.teachers(batch)

    @property
    def student_signals(self) -> keras.Model:
        """From raw images to what `Signals.of` takes of the student; shares its weights."""
        return self._graphs.student_model

    def term_losses(
        self, student: Signals, teachers: Mapping[str, Signals], x: Any, training: bool = False
    ) -> dict[str, Any]:
        """Every weighted loss on a batch's signals.

        Args:
            student: As `signals` returns it.
            teachers: As `signals` returns it.
            x: The batch, as in `signals`.
            training: Whether the terms' own layers run in training mode.

        Returns:
            Scalars by history key, from `<term>` down to `<term>/<teacher>/<component>`.
        """
        return weighted_losses(self.terms, student, teachers, Batch.of(x), training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of one replica."""
        batch, share = with_share(Batch.of(data))
        teachers = self._graphs.teachers(batch)
        with tf.GradientTape() as tape:
            student = self._graphs.student(batch.images, training=True)
            losses = self.term_losses(student, teachers, batch, training=True)
            loss = self._total(losses)
            scaled = self.optimizer.scale_loss(loss * share)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return self._log(losses, loss, batch.images)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The losses of one batch; no variable but the means changes."""
        batch, _ = with_share(Batch.of(data))
        student, teachers = self.signals(batch)
        losses = self.term_losses(student, teachers, batch)
        return self._log(losses, self._total(losses), batch.images)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means behind the history."""
        return list(self._means.values())

    def get_config(self) -> dict[str, Any]:
        """What `Amalgamator.load` rebuilds from, with the manifest of the teachers."""
        return {
            "name": self.name,
            "student": keras.saving.serialize_keras_object(self.student),
            "student_taps": {name: asdict(tap) for name, tap in self.student_taps.items()},
            "terms": [keras.saving.serialize_keras_object(term) for term in self.terms],
            "manifest": self.manifest,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Amalgamator":
        """Refuse: teachers are not saved with the student."""
        raise ValueError(
            "An amalgamator is not complete without its teachers, which are not saved with it. "
            "Load it with Amalgamator.load(path, teachers); the student alone is "
            "`amalgamator.student`."
        )

    @classmethod
    def load(cls, path: str | Path, teachers: Sequence[Teacher]) -> "Amalgamator":
        """Rebuild what `save` wrote, with optimizer, to train on.

        Args:
            path: A `.keras` file written by `amalgamator.save` or `ModelCheckpoint`.
            teachers: The teachers of that training, in the same order.

        Returns:
            The amalgamator, compiled if it was.

        Raises:
            ValueError: If the teachers are not those of the manifest; says what differs.
        """
        saved = _read_config(Path(path))
        settings = saved["config"]
        check_manifest(settings["manifest"], teachers)
        student = keras.saving.deserialize_keras_object(settings["student"])
        student.class_names = {teacher.name: teacher.class_names for teacher in teachers}
        amalgamator = cls(
            student,
            teachers,
            terms=[keras.saving.deserialize_keras_object(term) for term in settings["terms"]],
            name=settings["name"],
            student_taps=_saved_taps(settings),
        )
        if saved.get("compile_config"):
            amalgamator.compile_from_config(saved["compile_config"])
        amalgamator.load_weights(path)
        return amalgamator

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Under a strategy Keras builds a model on the mean over the replicas of the first batch,
        # which fails where their shares are unequal. Here all but the optimizer is built already.
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _total(self, losses: Mapping[str, Any]) -> Any:
        terms = [losses[term.name] for term in self.terms]
        regularization = [ops.cast(value, "float32") for value in self.losses]
        return sum([*terms[1:], *regularization], terms[0])

    def _log(self, losses: Mapping[str, Any], total: Any, images: Any) -> dict[str, Any]:
        for key, value in {"loss": total, **losses}.items():
            self._means[key].update_state(value, sample_weight=ops.shape(images)[0])
        return {key: mean.result() for key, mean in self._means.items()}


def _freeze_inside(model: keras.Model) -> None:
    """Freeze what is inside frozen layers, such as attention: Keras loads that as trainable."""
    for layer in model._flatten_layers():
        if not layer.trainable and not isinstance(layer, keras.Model):
            for inner in layer._flatten_layers(include_self=False):
                inner.trainable = False


def _saved_taps(settings: Mapping[str, Any]) -> dict[str, Tap]:
    """The student's taps of a checkpoint, also of one from when there was one without a name."""
    if "student_taps" in settings:
        return {name: Tap(**tap) for name, tap in settings["student_taps"].items()}
    tap = settings["student_tap"]
    return {FEATURES: Tap(**tap)} if tap else {}


def _read_config(path: Path) -> dict[str, Any]:
    """What `save` wrote beside the weights: the configuration, and how it was compiled."""
    if not path.is_file():
        raise ValueError(f"There is no file to load. Received: {path}. Give what `save` wrote.")
    try:
        saved = json.loads(read_member(path, "config.json") or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a whole .keras file: {error}. It may be truncated; use an earlier "
            "checkpoint."
        ) from error
    kind = saved.get("class_name") if isinstance(saved, dict) else None
    if kind != "Amalgamator":
        raise ValueError(
            f"{path} does not hold an Amalgamator. Received: a {kind!r}. "
            "A student alone is loaded with keras.saving.load_model."
        )
    return saved
