"""The student imitates all teachers' features in one common space."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.layers.moments import Moments
from keras_amalgam.layers.subspace import PrincipalSubspace
from keras_amalgam.layers.variants import VariantName, common_space_variant
from keras_amalgam.losses.feature import squared_error, unit_vectors
from keras_amalgam.losses.mmd import Estimator, check_kernel, median_bandwidth, mmd_squared
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms.features import (
    FeatureTerm,
    Size,
    as_vector,
    channels_at,
    common_size,
    pooled_to,
    shapes_at,
)
from keras_amalgam.terms.term import Losses, ModelSpec, Observation

# Of the published release, for rows normalised to length one.
BANDWIDTHS = (0.001, 0.01, 0.05, 0.1, 0.2, 1.0, 2.0)
# Around the median distance between rows.
MEDIAN_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@keras.saving.register_keras_serializable(package="keras_amalgam")
class CommonFeatures(FeatureTerm):
    """Common feature learning: MMD in a space shared by all, and the way back to each teacher.

    Every model's features pass an adapter of its own and one extractor common to all. There the
    student's are drawn to each teacher's by the squared MMD, and a decoder per teacher keeps the
    space from collapsing by reconstructing the teacher's features. The defaults are the published
    release's (variant A).

    Maps of different sizes are brought to the smallest height and the smallest width among them
    by adaptive average pooling, before the adapter; the reconstruction's target is the pooled map.
    Read at several taps, each model has an adapter, and each teacher a decoder, per tap; the
    extractor is common to them, too.

    Reconstruction trains adapters, extractor and decoders; the student feels it through them only.

    Args:
        units: Channels h of the common space.
        weight: The term's coefficient.
        reconstruction_weight: Of the reconstruction beside the MMD, at least zero.
        bandwidths: Gaussian widths of the MMD, in units of rows of length one; or `"median"`: a
            quarter to four times the median distance between the rows of student and teacher
            before the first step. Of the release's widths, those up to 0.2 are too narrow to see
            anything but pairs that nearly agree.
        estimator: Of the MMD: `"biased"` or `"unbiased"`.
        global_batch: Whether the MMD sees the features of all replicas under
            `tf.distribute`; by default each replica compares its own.
        name: Key in the history.
        taps: Where features are read; by default at all taps that the models share.
        variant: Of the layers: `"A"`, the published release, or `"B"`, the authors' later engine,
            with batch norm on maps, whose `units` were a quarter of the student's channels.
        pooled: Whether maps are averaged over their places first, so that vectors are compared:
            much cheaper, and maps and vectors may meet.
        subspace: At most so many principal directions of each teacher's features are compared and
            reconstructed, evenly scaled, instead of all channels as they are; found before the
            first step. It takes most of the cost out of wide teachers, and lets none outweigh
            another.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    term = CommonFeatures(units=128, weight=10.0)
    cheap = CommonFeatures(units=64, subspace=64, pooled=True, bandwidths="median", weight=1.0)
    ```

    Reference:
        - [Luo et al., 2019](https://arxiv.org/abs/1906.10546)
        - [Gretton et al., 2012](https://jmlr.org/papers/v13/gretton12a.html), the median heuristic
        - [Ranzinger et al., 2024](https://arxiv.org/abs/2410.01680), the subspace's scale
    """

    def __init__(
        self,
        units: int = 128,
        weight: float = 10.0,
        reconstruction_weight: float = 1.0,
        bandwidths: Sequence[float] | Literal["median"] = BANDWIDTHS,
        estimator: Estimator = "biased",
        global_batch: bool = False,
        name: str | None = "common_features",
        taps: str | Sequence[str] | None = None,
        variant: VariantName = "A",
        pooled: bool = False,
        subspace: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(taps=taps, weight=weight, name=name, **kwargs)
        self._widths = MEDIAN_MULTIPLES if bandwidths == "median" else tuple(bandwidths)
        check_kernel(self._widths, estimator)
        if units < 1 or reconstruction_weight < 0 or (subspace is not None and subspace < 1):
            raise ValueError(
                "`units` and `subspace` must be at least 1 and `reconstruction_weight` at least "
                f"zero. Received: units={units}, subspace={subspace}, "
                f"reconstruction_weight={reconstruction_weight}."
            )
        self._space = common_space_variant(variant, units)
        self.units = units
        self.reconstruction_weight = reconstruction_weight
        self.bandwidths = bandwidths if isinstance(bandwidths, str) else tuple(bandwidths)
        self.estimator: Estimator = estimator
        self.global_batch = global_batch
        self.variant: VariantName = variant
        self.pooled = pooled
        self.subspace = subspace

    @property
    def adapts(self) -> bool:
        """Whether bandwidths or subspaces come from real signals."""
        return self.bandwidths == "median" or self.subspace is not None

    @property
    def losses_per_tap(self) -> tuple[str, ...]:
        """The losses at one tap."""
        return ("mmd", "reconstruction") if self.reconstruction_weight else ("mmd",)

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Create adapters, extractor and decoders for these models' features."""
        self.connect_taps(student, teachers, same_rank=not self.pooled)
        shapes = {tap: shapes_at(tap, student, teachers) for tap in self.reads}
        self._sizes: dict[str, Size] = {
            tap: None if self.pooled else common_size(of_tap) for tap, of_tap in shapes.items()
        }
        if len({size is None for size in self._sizes.values()}) > 1:
            raise ValueError(
                "One extractor serves all taps, so that they must be all maps or all vectors. "
                f"Received: { ({tap: of_tap[0] for tap, of_tap in shapes.items()}) }. Use "
                "`pooled=True`, or a CommonFeatures for each, with names of their own."
            )
        places = _places(self._sizes[self.reads[0]])
        self._apart = self._space.mixes_batch(len(places) + 1)
        self.extractor = self._space.extractor(dtype=self.dtype_policy)
        self.extractor.build((*places, self._space.adapted_units))
        self.student_adapters: list[Any] = []
        self.teacher_adapters: list[Any] = []
        self.decoders: list[Any] = []
        self.subspaces: list[PrincipalSubspace] = []
        for tap in self.reads:
            self._connect_tap(tap, student, teachers)
        if self.bandwidths == "median":
            shape = (len(self.reads), len(teachers))
            self._medians = self.add_statistic("median_bandwidths", shape)

    def _connect_tap(self, tap: str, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        places = _places(self._sizes[tap])
        self.student_adapters.append(self._adapter(places, channels_at(tap, student)))
        targets = [channels_at(tap, spec) for spec in teachers.values()]
        if self.subspace is not None:
            for channels in targets:
                subspace = PrincipalSubspace(min(self.subspace, channels))
                subspace.build((*places, channels))
                self.subspaces.append(subspace)
            targets = [min(self.subspace, channels) for channels in targets]
        self.teacher_adapters += [self._adapter(places, channels) for channels in targets]
        for channels in targets if self.reconstruction_weight else ():
            decoder = self._space.decoder(channels, dtype=self.dtype_policy)
            decoder.build((*places, self.units))
            self.decoders.append(decoder)

    def adapt(self, batches: Iterable[Observation]) -> None:
        """Find the teachers' principal directions, and how far rows lie apart."""
        if self.subspaces:
            moments = [Moments() for _ in self.subspaces]
            for seen in batches:
                found = (
                    self._placed(signals.features[tap], tap)
                    for tap in self.reads
                    for signals in seen.teachers.values()
                )
                for one, features in zip(moments, found, strict=True):
                    one.update(ops.convert_to_numpy(features))
            for subspace, one in zip(self.subspaces, moments, strict=True):
                subspace.fit(one)
        if self.bandwidths == "median":
            self._medians.assign(self._median_distances(batches))

    def _median_distances(self, batches: Iterable[Observation]) -> np.ndarray:
        """By tap and teacher, the median distance among the rows of student and teacher."""
        rows: dict[tuple[str, int], list[np.ndarray]] = {}
        for seen in batches:
            for tap in self.reads:
                features = [signals.features[tap] for signals in seen.teachers.values()]
                # Batch norm is in training mode, as it will be where the rows are compared.
                targets = self.targets(features, tap)
                own = seen.student.features[tap]
                student, *common = self._embed(own, targets, tap, training=self._apart)
                for place, teacher in enumerate(common):
                    both = [ops.convert_to_numpy(_unit_rows(one)) for one in (student, teacher)]
                    rows.setdefault((tap, place), []).extend(both)
        medians = np.ones(self._medians.shape, "float32")
        for (tap, place), found in rows.items():
            medians[self.reads.index(tap), place] = median_bandwidth(np.concatenate(found))
        return medians

    @property
    def student_adapter(self) -> Any:
        """The student's adapter at the first tap."""
        # Checkpoints from before there were several taps know it by this name, as Keras saves by
        # the names of attributes, in alphabetical order.
        return self.student_adapters[0]

    def call(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        batch: Batch,
        training: bool | None = None,
    ) -> Losses:
        """The MMD, a scalar, and the reconstruction error, per sample, of each teacher."""
        losses: Losses = {name: {} for name in teachers}
        for number, tap in enumerate(self.reads):
            features = [signals.features[tap] for signals in teachers.values()]
            targets = self.targets(features, tap)
            common_student, *common = self._embed(student.features[tap], targets, tap, training)
            rows = self._rows(common_student)
            for place, name in enumerate(teachers):
                theirs = self._rows(common[place])
                scale = 1.0 / self._medians[number, place] if self.bandwidths == "median" else 1.0
                mmd = mmd_squared(scale * rows, scale * theirs, self._widths, self.estimator)
                losses[name][self.component(tap, "mmd")] = mmd
                if self.decoders:
                    decoder = self.decoders[number * len(teachers) + place]
                    error = squared_error(decoder(common[place], training=training), targets[place])
                    part = self.component(tap, "reconstruction")
                    losses[name][part] = self.reconstruction_weight * error
        return losses

    def embed(self, student: Any, teachers: Sequence[Any], tap: str | None = None) -> list[Any]:
        """All models' features in the common space, in inference mode.

        Args:
            student: The student's features.
            teachers: The teachers' features in their order.
            tap: Where they were read; by default at the last of the term's taps.

        Returns:
            The common features of the student and of each teacher, each
            `(batch, height, width, units)` or `(batch, units)`.
        """
        tap = self.reads[-1] if tap is None else tap
        return self._embed(student, self.targets(teachers, tap), tap, training=False)

    def targets(self, teachers: Sequence[Any], tap: str | None = None) -> list[Any]:
        """What of the teachers' features is compared and reconstructed.

        Args:
            teachers: The teachers' features in their order.
            tap: Where they were read; by default at the last of the term's taps.

        Returns:
            Features of the common size, in each teacher's subspace if there is one.
        """
        tap = self.reads[-1] if tap is None else tap
        placed = [self._placed(features, tap) for features in teachers]
        subspaces = _of_tap(self.subspaces, self.reads.index(tap), len(placed))
        pairs = zip(subspaces, placed, strict=True) if subspaces else ()
        return [subspace(features) for subspace, features in pairs] or placed

    def _embed(
        self, student: Any, targets: Sequence[Any], tap: str, training: bool | None
    ) -> list[Any]:
        number = self.reads.index(tap)
        adapters = [
            self.student_adapters[number],
            *_of_tap(self.teacher_adapters, number, len(targets)),
        ]
        features = [self._placed(student, tap), *targets]
        adapted = [
            adapter(one, training=training) for adapter, one in zip(adapters, features, strict=True)
        ]
        if self._apart:
            return [self.extractor(one, training=training) for one in adapted]
        # One call on the concatenated batch instead of one per model: the layers are shared, and
        # without batch norm it is the same.
        common = self.extractor(ops.concatenate(adapted, axis=0), training=training)
        return ops.split(common, len(adapted), axis=0)

    def _placed(self, features: Any, tap: str) -> Any:
        """Features at a tap as they enter the adapters: pooled, or of the common size."""
        return as_vector(features) if self.pooled else pooled_to(features, self._sizes[tap])

    def student_embedding(self, features: Any) -> Any:
        """The student's place in the common space, as the MMD sees it.

        Made of stock layers alone, so that a model that holds it loads without this package.

        Args:
            features: The student's, at the last of the term's taps.

        Returns:
            Rows of length one, `(batch, height * width * units)` or `(batch, units)`, float32.
        """
        common = self.student_adapters[-1].call(self._placed(features, self.reads[-1]))
        for block in self.extractor.blocks:  # `call` leaves our own layers out of the trace.
            common = block.call(common)
        rows = keras.layers.Flatten(dtype="float32")(common)
        return keras.layers.UnitNormalization(dtype="float32")(rows)

    def _adapter(self, places: tuple[int | None, ...], channels: int) -> Any:
        adapter = self._space.adapter(dtype=self.dtype_policy)
        adapter.build((*places, channels))
        return adapter

    def _rows(self, common: Any) -> Any:
        """Common features as rows of length one, of all replicas if asked for."""
        rows = _unit_rows(common)
        return _of_all_replicas(rows) if self.global_batch else rows

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "units": self.units,
            "reconstruction_weight": self.reconstruction_weight,
            "bandwidths": "median" if self.bandwidths == "median" else list(self.bandwidths),
            "estimator": self.estimator,
            "global_batch": self.global_batch,
            "variant": self.variant,
            "pooled": self.pooled,
            "subspace": self.subspace,
        }


def _places(size: Size) -> tuple[int | None, ...]:
    """The axes of common features before the channels."""
    return (None, *(size or ()))


def _of_tap(layers: Sequence[Any], number: int, teachers: int) -> Sequence[Any]:
    """The teachers' layers at one tap, of those at all taps one after the other."""
    return layers[number * teachers : (number + 1) * teachers]


def _unit_rows(common: Any) -> Any:
    return unit_vectors(ops.reshape(common, (ops.shape(common)[0], -1)))


def _of_all_replicas(rows: Any) -> Any:
    import tensorflow as tf  # The rest of the term is free of any backend.

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return rows
    return context.all_gather(rows, axis=0)
