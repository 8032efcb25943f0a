"""The student rebuilds each teacher's features, for the teacher's own head to answer from."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras import ops

from keras_amalgam.layers.moments import Moments
from keras_amalgam.losses.feature import squared_error
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms.term import AmalgamationTerm, Losses, ModelSpec, Observation


@keras.saving.register_keras_serializable(package="keras_amalgam")
class RebuiltFeatures(AmalgamationTerm):
    """Squared error of the features that a student with reused heads rebuilds.

    Each teacher's error is divided by the variance of its features, so that one is the error of
    their mean, whatever the teacher's scale. For students of `build_student(…, heads="reused")`,
    whose taps are `taps.rebuilt(teachers)`: a tap of the student per teacher, of its name. No
    image's owner needs to be known: rebuilt well, the teacher's features lead its own head to its
    own answer.

    Args:
        weight: The term's coefficient.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If `weight` is negative.

    Example:
    ```python
    student = build_student(backbone, teachers, heads="reused")
    model = Amalgamator(student, teachers, student_taps=taps.rebuilt(teachers),
                        terms=[RebuiltFeatures()])
    ```

    Reference:
        [Chen et al., 2022](https://arxiv.org/abs/2203.14001), SimKD, there with one teacher
    """

    def __init__(
        self, weight: float = 1.0, name: str | None = "rebuilt_features", **kwargs: Any
    ) -> None:
        super().__init__(weight=weight, name=name, **kwargs)
        self._reads: tuple[str, ...] = ()
        self._reads_of_teachers: tuple[str, ...] = ()

    @property
    def components(self) -> tuple[str, ...]:
        """The one loss per teacher."""
        return ("error",)

    @property
    def reads(self) -> tuple[str, ...]:
        """The student's taps that it reads, once it is connected."""
        return self._reads

    @property
    def reads_of_teachers(self) -> tuple[str, ...]:
        """Each teacher's one tap, whatever its name."""
        return self._reads_of_teachers

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Check that the student rebuilds what each teacher's tap gives."""
        for name, spec in teachers.items():
            own = student.taps.get(name)
            if own is None or len(spec.taps) != 1:
                raise ValueError(
                    "RebuiltFeatures needs a tap of the student per teacher, of its name, and one "
                    f"tap of each teacher. Received: student taps {list(student.taps)}, "
                    f"{spec.name}'s taps {list(spec.taps)}. Use build_student(…, heads='reused') "
                    "and Amalgamator(…, student_taps=keras_amalgam.taps.rebuilt(teachers))."
                )
            (tap,) = spec.taps.values()
            if own.shape != tap.shape:
                raise ValueError(
                    f"The student must rebuild features of the shape of {spec.name}'s. Received: "
                    f"{own.shape} at {own.layer!r}. Expected: {tap.shape}, as at {tap.layer!r}. "
                    "Build the student from these teachers."
                )
        self._reads = tuple(teachers)
        self._reads_of_teachers = tuple({tap for spec in teachers.values() for tap in spec.taps})
        self._variances = self.add_statistic("variances", (len(teachers),))

    def adapt(self, batches: Iterable[Observation]) -> None:
        """Find the variance of every teacher's features, the mean over its channels."""
        moments: dict[str, Moments] = {}
        for seen in batches:
            for name, signals in seen.teachers.items():
                features = ops.convert_to_numpy(_only(signals))
                moments.setdefault(name, Moments(variances_only=True)).update(features)
        for one in moments.values():
            one.check_varied()
        self._variances.assign([one.variances.mean() for one in moments.values()])

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """The error per sample and teacher."""
        return {
            name: {
                "error": squared_error(student.features[name], _only(signals))
                / self._variances[number]
            }
            for number, (name, signals) in enumerate(teachers.items())
        }


def _only(signals: Signals) -> Any:
    """Features at the only tap."""
    (features,) = signals.features.values()
    return features
