"""A teacher against its source, from the bytes of an image on: preprocessing and network."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import onnxruntime
import PIL
import tensorflow

from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.plausibility import TeacherWarning, doubt
from keras_amalgam.models.runtime_teacher import RuntimeTeacher
from keras_amalgam.models.taps import as_functional
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.teachers.comparison.image_bytes import (
    Preprocess,
    Received,
    TeacherOnImages,
    decoded,
    entering_source,
)
from keras_amalgam.teachers.comparison.noise import as_noise, may_be_noise, own_noise
from keras_amalgam.teachers.comparison.normalization_check import (
    NormalizationCheck,
    check_normalization,
)
from keras_amalgam.teachers.comparison.pairing import OutputsAndInside, Pair, Pairing, Source, pair
from keras_amalgam.teachers.comparison.parity import Errors, agreement, compare, is_past
from keras_amalgam.teachers.comparison.sample_images import sample_images
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.runtimes.own_source import AsSource, refuse_other_source
from keras_amalgam.teachers.runtimes.source_runtimes import (
    KerasRuntime,
    OnnxRuntime,
    SavedModelRuntime,
    SourceRuntime,
    as_dtype,
    in_another_order,
)

_REFERENCE = f"numpy {np.__version__}, pillow {PIL.__version__}"


@keras_defaults()
def check_teacher(
    teacher: Teacher,
    source: Source | None = None,
    *,
    images: Mapping[str, bytes] | None = None,
    preprocess: Preprocess | None = None,
    tolerance: float = 1e-4,
    allow_difference: bool = False,
) -> dict[str, Any]:
    """Compare a teacher with its source on encoded images.

    On one side an image is decoded and preprocessed by the source's own code, or by a second
    computation of the declared preprocessing in NumPy and Pillow, and runs through the source's own
    runtime. On the other side it is decoded by TensorFlow and runs through `teacher.signals`, as in
    a training. On the caller's own images the declared normalisation is compared with the running
    statistics of the network's batch normalizations, and a `UserWarning` says if another fits.

    Args:
        teacher: Of a converted model. Of a `RuntimeTeacher` the preprocessing is compared, and
            what becomes of the answers of its runtime.
        source: The file it came from, a SavedModel or its directory, a Keras model, or a runtime;
            not needed for a `RuntimeTeacher`.
        images: Content of JPEG or PNG files by name; by default a few generated ones.
        preprocess: The source's own code: an image's bytes to what enters the network, `(height,
            width, channels)` or channels first, with or without a batch axis of one.
        tolerance: Largest error allowed, as a fraction of the compared tensor's range or of 1,
            whichever is larger. More is allowed for the source's own noise, as in `check_parity`.
        allow_difference: Whether to report an error past the tolerance instead of raising it.

    Returns:
        JSON-ready: `passed`; `failure`, a sentence or None; `tolerance`; `images`, their names and
        hashes; `source` and `model`, which runtimes and preprocessings were compared; and the
        errors of `agreement`, the worst or for means the mean over the images, of `input`, what
        enters the network; `outputs`, what the source returns; `taps`, the teacher's features.
        `warnings` are sentences about what 16 and more `images` contradict: that a linear head
        returns logits. They are `TeacherWarning`s as well. `normalization` is what
        `NormalizationCheck.to_config` says of the caller's images, or None.

    Raises:
        ValueError: If an error is past the tolerance. The message says whether it is the
            preprocessing, or names the first node at which it appears. Also if an image cannot be
            decoded or the source does not belong to the teacher.

    Example:
    ```python
    report = check_teacher(teacher, "cars.onnx", images={"1.jpg": Path("1.jpg").read_bytes()})
    ```
    """
    check_tolerance(tolerance)
    are_users = images is not None
    if images is None:
        images = sample_images(teacher.model.input_shape, teacher.preprocessing.size)
    if not images:
        raise ValueError("At least one image is needed to compare on. Received: none.")
    pixels = [decoded(content, name) for name, content in images.items()]
    normalization = _normalization(teacher, pixels) if are_users else None
    pairing = _paired(teacher, source)
    expected = [entering_source(teacher, content, preprocess) for content in images.values()]
    ours = TeacherOnImages(teacher)
    received = [ours(each) for each in pixels]
    inputs = _combined(
        agreement(theirs, mine.input) for theirs, mine in zip(expected, received, strict=True)
    )
    outputs, taps = _from_bytes_on(teacher, pairing, expected, received, tolerance)
    failure = _failure(teacher, pairing, expected, inputs, outputs | taps, tolerance)
    if failure and not allow_difference:
        raise ValueError(failure)
    return _finite(
        {
            "passed": failure is None,
            "failure": failure,
            "tolerance": tolerance,
            "images": {name: hashlib.sha256(data).hexdigest() for name, data in images.items()},
            "source": {
                "runtime": _version(pairing.runtime),
                "preprocessing": _REFERENCE if preprocess is None else "the caller's",
            },
            "model": {"runtime": f"keras {keras.__version__}, tensorflow {tensorflow.__version__}"},
            "input": inputs,
            "outputs": outputs,
            "taps": taps,
            "warnings": _warned(teacher, received) if are_users else [],
            "normalization": normalization.to_config() if normalization else None,
        }
    )


def _warned(teacher: Teacher, received: Sequence[Received]) -> list[str]:
    """What the user's images tell of the teacher, warned of; generated ones tell nothing."""
    found = doubt(teacher, np.concatenate([ours.logits for ours in received]))
    if found is None:
        return []
    warnings.warn(found, TeacherWarning, stacklevel=3)
    return [found]


def _normalization(teacher: Teacher, images: Sequence[np.ndarray]) -> NormalizationCheck:
    """What running statistics say of the images, warned of if another normalisation fits."""
    check = check_normalization(teacher, images)
    if check.warning:
        warnings.warn(check.warning, TeacherWarning, stacklevel=3)
    return check


def _paired(teacher: Teacher, source: Source | None) -> Pairing:
    if isinstance(teacher, RuntimeTeacher):
        refuse_other_source(teacher, source)
        answer = teacher.model.outputs[0]
        runtime = AsSource(teacher.runtime)
        order = tuple(range(len(answer.shape)))
        output = Pair(runtime.outputs[0], answer, order, "the output")
        taps = {}
        if teacher.taps:
            tapped = teacher.runtime.run(np.zeros((1, *_closed(teacher)), np.float32))
            for tap in teacher.taps.values():
                order = tuple(range(tapped[tap.layer].ndim))
                taps[tap.layer] = Pair(tap.layer, None, order, "the tap")
        return Pairing(runtime, (output,), (), taps)
    if source is None:
        raise ValueError(
            f"Teacher {teacher.name!r} needs the source to be compared with. Received: none. Pass "
            "the file that it was converted from."
        )
    return pair(teacher.model, source)


def _closed(teacher: Teacher) -> tuple[int, ...]:
    """The shape of one image that the network takes."""
    height, width, channels = teacher.model.input_shape[1:]
    given = teacher.preprocessing.size or (64, 64)
    return height or given[0], width or given[1], channels


def _from_bytes_on(
    teacher: Teacher,
    pairing: Pairing,
    expected: Sequence[np.ndarray],
    received: Sequence[Received],
    tolerance: float,
) -> tuple[dict[str, Errors], dict[str, Errors]]:
    """Errors of the source's output and of the teacher's features, by the source's names."""
    output = pairing.outputs[0]
    as_source = _activation(received)
    theirs = _signals(teacher, pairing, pairing.runtime, expected)
    ours = {output.source: [as_source(each.logits) for each in received]}
    shapes = [array.shape for array in ours[output.source]]
    theirs[output.source] = [
        array.reshape(shape) for array, shape in zip(theirs[output.source], shapes, strict=True)
    ]
    for tap, paired in _taps(teacher, pairing).items():
        ours[paired.source] = [each.features[tap] for each in received]
    errors = {name: _combined(map(agreement, theirs[name], ours[name])) for name in ours}
    doubtful = any(may_be_noise(each, tolerance) for each in errors.values())
    other = in_another_order(pairing.runtime) if doubtful else None
    if other is not None:
        again = _signals(teacher, pairing, other, expected)
        for name in ours:
            pairs = zip(theirs[name], again[name], strict=True)
            noise = [agreement(one, two.reshape(one.shape)) for one, two in pairs]
            errors[name] |= as_noise(_combined(noise))
    outputs = {output.source: errors.pop(output.source)}
    return outputs, errors


def _signals(
    teacher: Teacher, pairing: Pairing, runtime: SourceRuntime, images: Sequence[np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """What a source gives for each image: its output, and features as the teacher's tap says."""
    output, taps = pairing.outputs[0], _taps(teacher, pairing)
    tokens = {paired.source: teacher.taps[tap].tokens for tap, paired in taps.items()}
    pairs = [output, *{paired.source: paired for paired in taps.values()}.values()]
    dtype = np.dtype(teacher.model.inputs[0].dtype)
    found: dict[str, list[np.ndarray]] = {each.source: [] for each in pairs}
    for image in images:
        # Where the batch is not the first axis, it is cut off only in the model's layout.
        fed = np.repeat(image, pairing.images or 1, axis=0)
        arrays = runtime.run(as_dtype(fed, dtype), list(found))
        for each in pairs:
            array = _of_first(each.in_model_layout(arrays[each.source]), len(fed))
            if each is not output:
                array = _features(array, tokens[each.source])
            found[each.source].append(array)
    return found


def _taps(teacher: Teacher, pairing: Pairing) -> dict[str, Pair]:
    """The teacher's taps that stand in the source, too."""
    found = {tap: pairing.names.get(one.layer) for tap, one in teacher.taps.items()}
    return {tap: paired for tap, paired in found.items() if paired is not None}


def _of_first(array: np.ndarray, images: int) -> np.ndarray:
    """The part of the first image, which is more than one row where windows are in the batch."""
    return array[: len(array) // images]


def _activation(received: Sequence[Received]) -> Callable[[np.ndarray], np.ndarray]:
    """What leads from our logits to the network's own output: nothing, a softmax or a sigmoid."""
    logits = np.concatenate([ours.logits for ours in received]).astype(np.float64)
    # Maps of 1×1 are compared as the vectors that they become.
    outputs = np.concatenate([ours.output for ours in received]).reshape(logits.shape)
    known = (_same, _softmax, _sigmoid)
    return min(known, key=lambda activation: np.abs(activation(logits) - outputs).max())


def _same(logits: np.ndarray) -> np.ndarray:
    return logits


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))


def _features(array: np.ndarray, tokens: str) -> np.ndarray:
    """The source's tokens as `Tap.tokens` says; maps and vectors as they are."""
    if array.ndim != 3:
        return array
    number = array.shape[1]
    class_token = math.isqrt(number) ** 2 != number
    side = math.isqrt(number - class_token)
    if tokens == "pooled" or side * side != number - class_token:
        return array.mean(axis=1)
    return array[:, int(class_token) :].reshape(len(array), side, side, -1)


def _failure(
    teacher: Teacher,
    pairing: Pairing,
    expected: Sequence[np.ndarray],
    inputs: Errors,
    signals: Mapping[str, Errors],
    tolerance: float,
) -> str | None:
    """What is wrong, if anything: the preprocessing, a node, or only all of it together."""
    owner = f"Teacher {teacher.name!r}"
    if is_past(inputs, tolerance):
        return (
            f"{owner} prepares images differently from its source: the error is in the "
            f"preprocessing, before the network. Received: a largest error of "
            f"{inputs['max_abs_error']:.3g} in a range of {inputs['range']:.3g} in what enters the "
            f"network (cosine {inputs['cosine']:.6f}). Expected at most {tolerance:g} of the "
            "range, or of 1. Check size, crop_fraction, interpolation, antialias, channels, scale, "
            f"mean and std: {teacher.preprocessing}."
        )
    same_shape = len({array.shape for array in expected}) == 1
    batch = np.concatenate(expected if same_shape else expected[:1])
    batch = as_dtype(batch, np.dtype(teacher.model.inputs[0].dtype))
    sizes = sorted({1, min(len(batch), 3)})
    try:
        compare(pairing, as_functional(teacher.model), "all", tolerance, sizes, batch)
    except ValueError as error:
        return f"{owner}: {error}"
    past = next((name for name, e in signals.items() if is_past(e, tolerance, True)), None)
    if past is None:
        return None
    return (
        f"{owner} differs from its source from image bytes on, at {past!r}, although what enters "
        "the network and every node of it agree for equal inputs. Received: a largest error of "
        f"{signals[past]['max_abs_error']:.3g} in a range of {signals[past]['range']:.3g}. "
        f"Expected at most {tolerance:g} of the range, or of 1. {own_noise(signals[past])}The "
        "network enlarges small differences of its input: allow a larger `tolerance=`."
    )


def _combined(errors: Iterable[Errors]) -> Errors:
    """Of several images: the worst, but for means the mean."""
    rows = list(errors)
    how = {"mean_abs_error": np.mean, "argmax_agreement": np.mean}
    how |= {"cosine": np.min, "correlation": np.min}
    return {key: float(how.get(key, np.max)([row[key] for row in rows])) for key in rows[0]}


def _version(runtime: Any) -> str:
    """The source's runtime with its version."""
    if isinstance(runtime, AsSource):
        return runtime.version
    if isinstance(runtime, OnnxRuntime):
        return f"onnxruntime {onnxruntime.__version__}"
    if isinstance(runtime, KerasRuntime):
        return f"keras {keras.__version__}"
    if isinstance(runtime, (SavedModelRuntime, OutputsAndInside)):
        return f"tensorflow {tensorflow.__version__}"
    return type(runtime).__name__


def _finite(report: Any) -> Any:
    """The report with None for numbers that are not finite, which JSON does not know."""
    if isinstance(report, Mapping):
        return {key: _finite(value) for key, value in report.items()}
    return None if isinstance(report, float) and not math.isfinite(report) else report
