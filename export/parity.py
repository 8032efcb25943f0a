"""Does an artifact compute what the Keras model computes? Measured per head, judged by bounds."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_amalgam.export.arguments import check_limit
from keras_amalgam.export.signatures import Signature, serving_function

REFERENCE_BATCH = 32


@dataclasses.dataclass(frozen=True)
class HeadParity:
    """How far one head's values in the artifact are from the Keras model's.

    Attributes:
        max_abs_error: Largest absolute difference, in logits.
        mean_abs_error: Mean absolute difference, in logits.
        argmax_agreement: Share of positions with the same largest class, 0..1; `None` of an output
            without classes.
        largest: Largest absolute value the Keras model gives, the measure for relative bounds.
    """

    max_abs_error: float
    mean_abs_error: float
    argmax_agreement: float | None
    largest: float


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What an artifact must keep to.

    Attributes:
        max_abs_error: Largest allowed absolute difference, in logits, or `None`.
        max_share: Largest allowed absolute difference as a share of the head's largest logit, or
            `None`. Where `max_abs_error` is given too, it is enough to keep one of the two: the
            rounding of float32 grows with the logits.
        mean_share: Largest allowed mean absolute difference as a share of the head's largest
            logit, or `None`. Rounding hardly moves the mean; a wrong normalisation does.
        min_agreement: Smallest allowed share of equal decisions, 0..1.
    """

    max_abs_error: float | None = None
    max_share: float | None = None
    mean_share: float | None = None
    min_agreement: float = 0.0

    def with_agreement(self, least: float | None) -> "Bounds":
        """The same with another smallest share of equal decisions, if one is given."""
        return self if least is None else dataclasses.replace(self, min_agreement=least)


class Exceeded(NamedTuple):
    """A bound that is exceeded: where, what came, what was expected, and what argument moves it."""

    head: str
    received: str
    expected: str
    argument: str


DEFAULT_BOUNDS = {
    "float32": Bounds(max_abs_error=1e-4, max_share=1e-5),
    "float16": Bounds(max_share=0.01),
    "dynamic": Bounds(max_share=0.10, mean_share=0.03, min_agreement=0.9),
    "int8": Bounds(max_share=0.25, mean_share=0.05, min_agreement=0.9),
    "int16": Bounds(max_share=0.10, mean_share=0.03, min_agreement=0.9),
}
"""Bounds per precision. A float32 artifact computes the same sums in another order, up to 1e-4 away
or, of logits beyond 10, up to 1e-5 of the largest; the others round weights or activations, so that
their error grows with the logits from the start."""


# A Keras file keeps the student's policy, and is held against the student in float32.
_POLICY_BOUNDS = {
    "float64": DEFAULT_BOUNDS["float32"],
    "mixed_float16": Bounds(max_share=0.02),
    "mixed_bfloat16": Bounds(max_share=0.10),
    "bfloat16": Bounds(max_share=0.10),
}


def bounds_for(precision: str, tolerance: float | None, min_agreement: float | None) -> Bounds:
    """The documented bounds of a precision, with the caller's instead where given.

    Args:
        precision: A key of `DEFAULT_BOUNDS`, or a dtype policy of Keras; any other one, such as
            that of a quantized layer, is judged as `"dynamic"`.
        tolerance: Largest allowed absolute difference, in logits.
        min_agreement: Smallest allowed share of equal decisions, 0..1.

    Raises:
        ValueError: If one of the two is no such number.
    """
    check_limit("tolerance", tolerance, 0.0, math.inf, "the precision's own")
    check_limit("min_agreement", min_agreement, 0.0, 1.0, "the precision's own")
    bounds = (DEFAULT_BOUNDS | _POLICY_BOUNDS).get(precision, DEFAULT_BOUNDS["dynamic"])
    if tolerance is not None:
        bounds = dataclasses.replace(
            bounds, max_abs_error=tolerance, max_share=None, mean_share=None
        )
    return bounds.with_agreement(min_agreement)


def reference(
    model: keras.Model, signature: Signature, images: np.ndarray
) -> dict[str, np.ndarray]:
    """The Keras model's own outputs on raw images, in inference mode, float32."""
    serve = serving_function(model, signature)
    batches = [
        serve(images[start : start + REFERENCE_BATCH])
        for start in range(0, len(images), REFERENCE_BATCH)
    ]
    return {
        head: np.concatenate([np.asarray(batch[head]) for batch in batches])
        for head in signature.heads
    }


def compare(
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
    subject: str,
    without_classes: Collection[str] = (),
    decided_on: Mapping[str, np.ndarray] | None = None,
) -> dict[str, HeadParity]:
    """Measures the difference per head.

    Args:
        expected: The Keras model's outputs, head to an array with a batch axis.
        actual: The artifact's outputs on the same images.
        subject: What is compared, for messages.
        without_classes: Outputs that decide nothing.
        decided_on: Head to which images its decisions count on; by default all.

    Returns:
        Head to its measurements, in the order of `expected`.

    Raises:
        ValueError: If the heads' names or shapes differ.
    """
    if set(expected) != set(actual):
        raise ValueError(
            f"{subject} does not have the model's heads. Received: {sorted(actual)}. Expected: "
            f"{sorted(expected)}. Export the student again; heads are told apart by name only."
        )
    for head, values in expected.items():
        if actual[head].shape != values.shape:
            raise ValueError(
                f"{subject} gives another shape at head '{head}'. Received: "
                f"{actual[head].shape}. Expected: {values.shape}. Check that it was written from "
                "this model and that its heads are not exchanged."
            )
    return {
        head: _measure(
            values,
            actual[head],
            head not in without_classes,
            (decided_on or {}).get(head, slice(None)),
        )
        for head, values in expected.items()
    }


def exceeded(measured: Mapping[str, HeadParity], bounds: Bounds) -> Iterator[Exceeded]:
    """The bounds that measurements exceed, of every head.

    Args:
        measured: Head to its measurements.
        bounds: What they must keep to.
    """
    for head, parity in measured.items():
        largest = parity.largest or 1.0
        error, share = parity.max_abs_error, bounds.max_share
        absolute = bounds.max_abs_error
        if absolute is not None and share is not None:
            absolute, share = max(absolute, share * largest), None
        limits = (
            ("largest absolute error", error, absolute),
            ("largest error over largest logit", error / largest, share),
            ("mean error over largest logit", parity.mean_abs_error / largest, bounds.mean_share),
        )
        for name, value, limit in limits:
            # Written so that a NaN fails.
            if limit is not None and not value <= limit:
                yield Exceeded(head, f"{name} {value:.3g}", f"at most {limit:.3g}", "tolerance")
        agreement = parity.argmax_agreement
        if agreement is not None and not agreement >= bounds.min_agreement:
            yield Exceeded(
                head,
                f"the same decision on {agreement:.1%}",
                f"at least {bounds.min_agreement:.1%}",
                "min_agreement",
            )


def check(measured: Mapping[str, HeadParity], bounds: Bounds, subject: str) -> None:
    """Refuses measurements that exceed the bounds.

    Args:
        measured: Head to its measurements.
        bounds: What they must keep to.
        subject: What was compared, for messages.

    Raises:
        ValueError: Naming the head, the measurement, the bound and the argument that moves it.
    """
    if one := next(exceeded(measured, bounds), None):
        raise ValueError(
            f"{subject} disagrees with the Keras model at head '{one.head}'. Received: "
            f"{one.received}. Expected: {one.expected}. Compare on real images with `images=`, "
            f"or accept more with `{one.argument}=`; a TFLite file may want a finer `precision=`."
        )


def summary(measured: Mapping[str, HeadParity], images: int) -> dict[str, Any]:
    """The measurements as JSON-ready values, the worst head's on top.

    Args:
        measured: Head to its measurements.
        images: How many images were compared.
    """
    heads = {
        head: {
            "max_abs_error": parity.max_abs_error,
            "mean_abs_error": parity.mean_abs_error,
            "argmax_agreement": parity.argmax_agreement,
        }
        for head, parity in measured.items()
    }
    return {
        "max_abs_error": max(head["max_abs_error"] for head in heads.values()),
        "mean_abs_error": max(head["mean_abs_error"] for head in heads.values()),
        "argmax_agreement": min(
            parity.argmax_agreement
            for parity in measured.values()
            if parity.argmax_agreement is not None
        ),
        "images": images,
        "heads": heads,
    }


def _measure(expected: np.ndarray, actual: np.ndarray, decides: bool, where: Any) -> HeadParity:
    error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    same = np.argmax(actual, axis=-1) == np.argmax(expected, axis=-1)
    return HeadParity(
        max_abs_error=float(error.max()),
        mean_abs_error=float(error.mean()),
        argmax_agreement=float(same[where].mean()) if decides else None,
        largest=float(np.abs(expected).max()),
    )
