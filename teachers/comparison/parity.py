"""A converted network against its source, in the source's own runtime."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import keras
import numpy as np

from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.taps import as_functional
from keras_amalgam.teachers.comparison.noise import is_noise, may_be_noise, own_noise, source_noise
from keras_amalgam.teachers.comparison.pairing import Pair, Pairing, Source, pair
from keras_amalgam.teachers.comparison.patterns import ODD_SIZES, closed, patterns
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.runtimes.source_runtimes import run_model

Errors = dict[str, float]
_MAX_ELEMENTS = 2**26  # Compared at a time: 2 × 256 MiB of arrays.
_ROUNDING = 1e-6  # What float32 leaves of numbers around 1.
_SAME_DIRECTION = 0.999


@keras_defaults()
def check_parity(
    model: keras.Model,
    source: Source,
    *,
    taps: Sequence[str] | Literal["all"] = "all",
    tolerance: float = 1e-4,
    batch_sizes: Sequence[int] = (1, 3),
    images: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Errors]]:
    """Compare a converted network with its source on the same images.

    Args:
        model: From any function of `keras_amalgam.teachers`.
        source: The file it came from, a SavedModel directory, a Keras model, or a runtime.
        taps: What is compared beside the outputs: tensors inside by any source name or layer
            name, or `"all"`. A runtime shows none, a SavedModel those of its ONNX form.
        tolerance: Largest error allowed, as a fraction of the compared tensor's range or of 1,
            whichever is larger. Where the source differs from itself, computing in another order,
            twice as much is allowed, but never more than 1e-3; not to quantized networks.
        batch_sizes: Numbers of images to compare with. Taps are compared with the first, or with
            the one that the file is made for.
        images: What to compare on, as the model takes it: `(batch, height, width, channels)`; fewer
            than a batch takes are repeated. By default patterns with coarse and fine structure
            in -2..2, or 0..255 for a model of integers; where sizes are open 64 by 96 pixels, and
            from the second batch on 65 by 97 if the source takes them.
        seed: Of the patterns.

    Returns:
        `{"outputs": {name: errors}, "taps": {name: errors}}`, where errors are those of
        `agreement`, the worst over the batches, and `source_noise` and `mean_source_noise` where
        the tolerance was missed by little: the differences of the source from itself.

    Raises:
        TypeError: If `taps` is a single name, or `tolerance` no number.
        ValueError: If an error is past the tolerance; the message names the first node at which it
            appears. Also if there are no images or batch sizes, the tolerance is no bound, the
            source does not belong to the model, or a tap is not in it.
    """
    check_tolerance(tolerance)
    sizes = tuple(batch_sizes)
    if not sizes or not all(isinstance(size, (int, np.integer)) and size > 0 for size in sizes):
        raise ValueError(
            f"`batch_sizes` must be numbers of images, at least one. Received: {batch_sizes!r}. "
            "Expected for example (1, 3)."
        )
    if images is not None and not len(images):
        raise ValueError("At least one image is needed to compare on. Received: `images` of none.")
    if isinstance(taps, str) and taps != "all":
        raise TypeError(
            f"`taps` must be 'all' or a list of names. Received: {taps!r}. Use [{taps!r}]."
        )
    pairing = pair(model, source)
    return compare(pairing, as_functional(model), taps, tolerance, batch_sizes, images, seed)


def compare(
    pairing: Pairing,
    model: keras.Model,
    taps: Sequence[str] | Literal["all"],
    tolerance: float,
    batch_sizes: Sequence[int] = (1, 3),
    images: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Errors]]:
    """`check_parity` for tensors that are paired already."""
    inside = _chosen(pairing, taps)
    report: dict[str, dict[str, Errors]] = {"outputs": {}, "taps": {}}
    first = (pairing.images or batch_sizes[0]) if inside else batch_sizes[0]
    for index, size in enumerate((first, *batch_sizes[1:])):
        if images is not None:
            batch = images[np.arange(size) % len(images)]
        elif index and _takes_odd_sizes(pairing, model):
            batch = patterns(model, size, seed + index, ODD_SIZES)
        else:
            batch = patterns(model, size, seed + index)
        pairs = [*(inside if index == 0 else ()), *pairing.outputs]
        found = _errors(pairing, model, pairs, batch, tolerance)
        if any(is_past(found[p.source], tolerance, p in pairing.outputs) for p in pairs):
            everything = [*pairing.inside, *pairing.outputs]
            found = _errors(pairing, model, everything, batch, tolerance)
            raise _difference(pairing, found, tolerance)
        for p in pairs:
            part = report["taps" if p in inside else "outputs"]
            part[p.source] = _worse(part.get(p.source, found[p.source]), found[p.source])
    return report


def _takes_odd_sizes(pairing: Pairing, model: keras.Model) -> bool:
    """Whether sizes are open, and the source gives something for odd ones."""
    if closed(model.input_shape[1:]) == closed(model.input_shape[1:], ODD_SIZES):
        return False
    outputs = [pair.source for pair in pairing.outputs]
    try:
        found = pairing.runtime.run(patterns(model, 1, 0, ODD_SIZES), outputs)
    except Exception:  # Each runtime's own.
        return False
    return all(array.size for array in found.values())


def agreement(expected: np.ndarray, received: np.ndarray) -> Errors:
    """How well two arrays agree.

    Args:
        expected: What the source gives, channels last.
        received: What the converted network gives, of the same shape.

    Returns:
        `max_abs_error` and `mean_abs_error`, in the tensor's own units; `range`, the source's
        largest minus its smallest value; `cosine` of the angle between the two, and `correlation`,
        the same of their deviations from their means;
        `argmax_agreement`, the fraction of positions where the largest channel is the same.
        Numbers that are infinite, or not a number, on both sides in the same way are left out;
        where one side alone has such a number the errors are infinite.

    Raises:
        ValueError: If the shapes differ.
    """
    if not expected.size:
        raise ValueError(
            f"The source gives an empty tensor, of shape {expected.shape}, so nothing can be "
            "compared. Convert with `verify=False`."
        )
    if expected.shape != received.shape:
        raise ValueError(
            f"Source and converted network give different shapes. Received: {received.shape}. "
            f"Expected {expected.shape}, as the source gives."
        )
    a, b = expected.astype(np.float64), received.astype(np.float64)
    same = {"argmax_agreement": float((a.argmax(-1) == b.argmax(-1)).mean())}
    finite = np.isfinite(a)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(b[finite]).all()
    ):
        nothing = {"cosine": 0.0, "correlation": 0.0, "argmax_agreement": 0.0}
        return {"max_abs_error": np.inf, "mean_abs_error": np.inf, "range": np.inf} | nothing
    a, b = (a[finite], b[finite]) if finite.any() else (np.zeros(1), np.zeros(1))
    error = np.abs(a - b)
    return {
        "max_abs_error": float(error.max()),
        "mean_abs_error": float(error.mean()),
        "range": float(a.max() - a.min()),
        "cosine": _cosine(a, b),
        # Deviations that are nothing but rounding point nowhere.
        "correlation": _cosine(a - a.mean(), b - b.mean())
        if np.ptp(a) > _ROUNDING * np.abs(a).max()
        else 1.0,
    } | same


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / lengths if lengths else float(np.array_equal(a, b))


def worst(report: Mapping[str, Mapping[str, Errors]]) -> dict[str, Errors]:
    """The tap with the largest error for its range: `{name: errors}`, empty without taps."""

    def relative(name: str) -> float:
        errors = report["taps"][name]
        return errors["max_abs_error"] / max(1.0, errors["range"])

    name = max(report["taps"], key=relative, default=None)
    return {} if name is None else {name: report["taps"][name]}


def _chosen(pairing: Pairing, taps: Sequence[str] | Literal["all"]) -> list[Pair]:
    if taps == "all":
        return list(pairing.inside)
    unknown = [tap for tap in taps if tap not in pairing.names]
    if unknown:
        raise ValueError(
            f"Nothing inside the source goes by {unknown}. Known are {list(pairing.names)[-20:]}, "
            "among others."
        )
    return [pairing.names[tap] for tap in taps]


def _errors(
    pairing: Pairing,
    model: keras.Model,
    pairs: Sequence[Pair],
    images: np.ndarray,
    tolerance: float,
) -> dict[str, Errors]:
    """Of all pairs, with the source's own noise where it could be all that there is."""
    found: dict[str, Errors] = {}
    for group in _groups(pairs, len(images)):
        found |= _errors_together(pairing, model, group, images)
    doubtful = [p for p in pairs if may_be_noise(found[p.source], tolerance)]
    for group in _groups(doubtful, len(images)):
        names = [p.source for p in group]
        for name, noise in source_noise(pairing.runtime, images, names, agreement).items():
            found[name] |= noise
    return found


def _groups(pairs: Sequence[Pair], images: int) -> Iterator[list[Pair]]:
    """The pairs, a few at a time where together they would fill the memory."""
    group: list[Pair] = []
    elements = 0
    for p in pairs:
        size = images * math.prod(closed(p.tensor.shape[1:]))
        if group and elements + size > _MAX_ELEMENTS:
            yield group
            group, elements = [], 0
        group.append(p)
        elements += size
    if group:
        yield group


def _errors_together(
    pairing: Pairing, model: keras.Model, pairs: Sequence[Pair], images: np.ndarray
) -> dict[str, Errors]:
    expected = pairing.runtime.run(images, [p.source for p in pairs])
    try:
        received = run_model(model, images, [p.tensor for p in pairs])
    except Exception as error:  # Keras' and TensorFlow's have no class in common.
        raise ValueError(
            f"The converted network does not run on images of shape {images.shape}, as its source "
            f"does: {error} Convert with `verify=False` to look into the model."
        ) from error
    for p in pairs:
        if p in pairing.outputs and not np.isfinite(expected[p.source]).all():
            raise ValueError(
                f"The source itself gives numbers that are not finite at its output {p.source!r}, "
                f"on images in {images.min():.3g}..{images.max():.3g}. Nothing can be learned from "
                "them, and nothing compared: mend the network, compare on images of its own, or "
                "convert with `verify=False`."
            )
    return {
        p.source: _agreement_at(p, p.in_model_layout(expected[p.source]), ours)
        for p, ours in zip(pairs, received, strict=True)
    }


def _agreement_at(place: Pair, expected: np.ndarray, received: np.ndarray) -> Errors:
    try:
        return agreement(expected, received)
    except ValueError as error:
        raise ValueError(
            f"At {place.where}, tensor {place.source!r}: {error} Where the file leaves sizes open, "
            "pass `input_shape=(height, width, channels)`."
        ) from error


def is_past(errors: Errors, tolerance: float, is_signal: bool = False) -> bool:
    """Whether an error is larger than a fraction of the tensor's range, or of 1, or infinite.

    It is not where the source differs from itself by as much, see `noise.is_noise`.

    Small numbers are small against those that they are computed from, and so against their
    rounding. A signal, which a training reads, must all the same point in the same direction, and
    so must its deviations: the probabilities of many classes are all small and nearly alike. Other
    tensors inside may be nothing but rounding.
    """
    error, scale = errors["max_abs_error"], errors["range"]
    if not np.isfinite(error) or error > tolerance * max(1.0, scale) and not is_noise(errors):
        return True
    is_rounding = error <= max(tolerance * scale, _ROUNDING)
    same = min(errors["cosine"], errors["correlation"])
    return is_signal and not is_rounding and same < _SAME_DIRECTION


def _difference(pairing: Pairing, found: dict[str, Errors], tolerance: float) -> ValueError:
    """The error for the first pair past the tolerance, in the order of the graph."""
    inside = (p for p in pairing.inside if is_past(found[p.source], tolerance))
    outside = (p for p in pairing.outputs if is_past(found[p.source], tolerance, is_signal=True))
    first = next(itertools.chain(inside, outside))
    errors = found[first.source]
    return ValueError(
        "The converted network differs from its source. The error appears first at "
        f"{first.where}, tensor {first.source!r}. Received: a largest error of "
        f"{errors['max_abs_error']:.3g} in a range of {errors['range']:.3g} (cosine "
        f"{errors['cosine']:.6f}). Expected at most {tolerance:g} of the range, or of 1, "
        f"and outputs in the same direction. {own_noise(errors)}If the source computes in less "
        "than float32, pass a larger `tolerance=`; to look into the model, convert with "
        "`verify=False`."
    )


def _worse(one: Errors, other: Errors) -> Errors:
    least = ("cosine", "correlation", "argmax_agreement")
    both = one | other
    return {
        key: (min if key in least else max)(one.get(key, both[key]), other.get(key, both[key]))
        for key in both
    }
