"""What terms that read features share: which taps, maps of one size, and channels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_amalgam.terms.term import AmalgamationTerm, ModelSpec

Size = tuple[int, int] | None


class FeatureTerm(AmalgamationTerm):
    """A term that reads features at one tap or several.

    Subclasses call `connect_taps` in `connect`. Where there are several taps, the components of
    each bear its name: `mid.mmd` and `top.mmd`.

    Args:
        taps: Names of the taps to read, or one name; by default all that the student and every
            teacher have.
        **kwargs: Of the term.

    Raises:
        ValueError: If no tap is named, or one twice.
    """

    def __init__(self, taps: str | Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.taps = None if taps is None else (taps,) if isinstance(taps, str) else tuple(taps)
        if self.taps is not None and (not self.taps or len(set(self.taps)) < len(self.taps)):
            raise ValueError(
                f"`taps` must be one or more different names. Received: {taps!r}. Leave it out to "
                "read all that the student and every teacher have."
            )
        self._reads: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The taps it reads, once it is connected."""
        return self._reads

    @property
    def losses_per_tap(self) -> tuple[str, ...]:
        """Names of the losses at one tap."""
        raise NotImplementedError(f"{type(self).__name__} must name its `losses_per_tap`.")

    @property
    def components(self) -> tuple[str, ...]:
        """The losses per teacher, of every tap."""
        taps = self._reads or self.taps or ("",)
        return tuple(self.component(tap, loss) for tap in taps for loss in self.losses_per_tap)

    def component(self, tap: str, loss: str) -> str:
        """What a loss at a tap is called: by the tap, too, where there are several."""
        return f"{tap}.{loss}" if len(self._reads or self.taps or ()) > 1 else loss

    def connect_taps(
        self, student: ModelSpec, teachers: Mapping[str, ModelSpec], same_rank: bool = True
    ) -> None:
        """Find the taps to read, and check that student and teachers fit each other there.

        Args:
            student: As in `connect`.
            teachers: As in `connect`.
            same_rank: Whether maps and vectors must not meet at a tap.

        Raises:
            ValueError: If a model lacks a tap, or one has a map where another has a vector.
        """
        term = type(self).__name__
        models = (student, *teachers.values())
        for spec in models:
            if not spec.taps:
                raise ValueError(
                    f"{term} reads features. Received: {spec.name}, which has no tap. "
                    "Give Teacher(…, tap=…) and Amalgamator(…, student_tap=…)."
                )
        shared = [name for name in student.taps if all(name in spec.taps for spec in models)]
        wanted = shared if self.taps is None else self.taps
        for spec in models:
            if not wanted or any(name not in spec.taps for name in wanted):
                raise ValueError(
                    f"{term} reads features at the taps {list(wanted) or 'that all models have'}. "
                    f"Received: {spec.name}, with taps {list(spec.taps)}. Expected: one name for "
                    "the same depth in every model, such as Teacher(…, taps={'top': …}) and "
                    "Amalgamator(…, student_taps={'top': …})."
                )
        self._reads = tuple(wanted)
        for tap in self._reads if same_rank else ():
            _check_ranks(tap, student, teachers)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"taps": list(self.taps) if self.taps else None}


def shapes_at(
    tap: str, student: ModelSpec, teachers: Mapping[str, ModelSpec]
) -> list[tuple[int | None, ...]]:
    """Shapes of the features at a tap, the student's first."""
    return [spec.taps[tap].shape for spec in (student, *teachers.values())]


def channels_at(tap: str, spec: ModelSpec) -> int:
    """Channels of a model's features at a tap.

    Raises:
        ValueError: If they are not known.
    """
    channels = spec.taps[tap].shape[-1]
    if channels is None:
        raise ValueError(
            f"The channels of {spec.name}'s tap {spec.taps[tap].layer!r} must be known. Received: "
            f"features of shape {spec.taps[tap].shape}. Tap a layer whose last axis is fixed."
        )
    return channels


def common_size(shapes: Sequence[tuple[int | None, ...]]) -> Size:
    """The smallest height and the smallest width among maps; `None` for vectors.

    Raises:
        ValueError: If a size is not known.
    """
    if len(shapes[0]) != 3:
        return None
    heights = [shape[0] for shape in shapes if shape[0] is not None]
    widths = [shape[1] for shape in shapes if shape[1] is not None]
    if not len(heights) == len(widths) == len(shapes):
        raise ValueError(
            f"The maps at the taps must have known sizes. Received: shapes {list(shapes)}. Set "
            "`size` in the preprocessing, or build the backbone with a fixed input shape."
        )
    return min(heights), min(widths)


def pooled_to(features: Any, size: Size) -> Any:
    """Maps brought to a size by adaptive average pooling; vectors as they are.

    Args:
        features: Maps `(batch, height, width, channels)` or vectors `(batch, channels)`.
        size: Height and width, at most the features' own; `None` leaves them as they are.
    """
    if size is None or len(features.shape) != 4 or tuple(features.shape[1:3]) == size:
        return features
    # Two small matrix products; keras.ops.adaptive_average_pool fails for a size of 1.
    down = _averages(features.shape[1], size[0])
    across = _averages(features.shape[2], size[1])
    features = ops.einsum("ih,bhwc->biwc", ops.cast(down, features.dtype), features)
    return ops.einsum("jw,biwc->bijc", ops.cast(across, features.dtype), features)


def as_vector(features: Any) -> Any:
    """The mean of a map over its places; vectors as they are."""
    return ops.mean(features, axis=(1, 2)) if len(features.shape) == 4 else features


def _averages(size: int, parts: int) -> np.ndarray:
    """Adaptive average pooling of one axis as a matrix, shape `(parts, size)`."""
    matrix = np.zeros((parts, size), "float32")
    for part in range(parts):
        start, end = part * size // parts, -(-(part + 1) * size // parts)
        matrix[part, start:end] = 1.0 / (end - start)
    return matrix


def _check_ranks(tap: str, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
    own = student.taps[tap]
    for spec in teachers.values():
        other = spec.taps[tap]
        if len(other.shape) != len(own.shape):
            raise ValueError(
                f"{spec.name} and the student disagree at their taps. Received: teacher tap "
                f"{other.layer!r} of shape {other.shape}, student tap {own.layer!r} of shape "
                f"{own.shape}. Both must be maps or both vectors. Choose another tap for "
                "one of them; keras_amalgam.taps.candidates(model) lists them."
            )
