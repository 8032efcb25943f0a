"""How long one image takes: median and 95th percentile."""

import dataclasses
import time
from collections.abc import Callable
from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_amalgam.export.signatures import (
    describe,
    float32_copy,
    serving_function,
    spatial_size,
)
from keras_amalgam.export.tflite import conversion, runtime
from keras_amalgam.keras_settings import keras_defaults


@dataclasses.dataclass(frozen=True)
class Latency:
    """Wall time of one call with one image.

    Attributes:
        median_ms: Median in milliseconds.
        p95_ms: 95th percentile in milliseconds.
        repeats: How many calls were timed.
        threads: Threads LiteRT used; `None` for a callable, which brings its own.
    """

    median_ms: float
    p95_ms: float
    repeats: int
    threads: int | None


@keras_defaults()
def measure_latency(
    target: str | PathLike[str] | keras.Model | Callable[[np.ndarray], Any],
    image: np.ndarray | None = None,
    *,
    repeats: int = 100,
    warmup: int = 10,
    threads: int = 1,
) -> Latency:
    """Times one image at a time.

    To compare teachers and student fairly, a Keras model is converted to float32 TFLite in memory
    and timed by the same runtime on as many threads as a file. A callable is timed as it is.

    Args:
        target: A `.tflite` file; a Keras model; or a callable from a batch of one raw image to
            anything made of arrays, which are waited for.
        image: One raw image in a batch, shape `(1, height, width, channels)` in 0..255; by
            default seeded noise. Needed for a callable.
        repeats: Timed calls, at least 1.
        warmup: Calls before the timed ones.
        threads: Threads for LiteRT.

    Returns:
        Median and 95th percentile in milliseconds.

    Raises:
        ValueError: If `repeats` is below 1, the image is missing or does not fit, or the file is
            no TFLite model.
        NotImplementedError: If a Keras model needs an operator that TFLite does not have.

    Example:
        ```python
        export.measure_latency("student_int8.tflite").median_ms
        ```
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"There is nothing to time. Received: repeats={repeats}, warmup={warmup}. Expected: "
            "at least one repeat and no negative warm-up. Raise `repeats`."
        )
    if isinstance(target, (str, PathLike, keras.Model)):
        source: Any = _converted(target, image) if isinstance(target, keras.Model) else target
        loaded = runtime.load(source, threads)
        image = _noise(loaded) if image is None else image
        if image.shape != _one_image(loaded):
            raise ValueError(
                f"The image does not fit the model. Received: shape {image.shape}. Expected: "
                f"{_one_image(loaded)}. Resize it."
            )
        # An application has the image in the file's own form.
        given = {loaded.input_name: loaded.as_input(image)}
        return _time(lambda _: loaded.runner(**given), image, repeats, warmup, threads)
    if image is None:
        raise ValueError(
            "A callable does not tell what image it takes. Received: image=None. Expected: one raw "
            "image of shape (1, height, width, channels). Pass `image=`."
        )
    call: Any = target
    return _time(lambda batch: _wait(call(batch)), image, repeats, warmup, None)


def _converted(model: keras.Model, image: np.ndarray | None) -> bytes:
    shape = None if image is None else image.shape[1:3]
    size = spatial_size(model, shape, remedy="`image=`")
    model = float32_copy(model)
    signature = describe(model)
    shape = (*size, signature.image_shape[2])
    flatbuffer, _ = conversion.convert(serving_function(model, signature), model, shape)
    return flatbuffer


def _noise(loaded: runtime.LiteRtModel) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, _one_image(loaded), dtype=np.uint8)


def _one_image(loaded: runtime.LiteRtModel) -> tuple[int, ...]:
    """The shape of the smallest call; one image where the batch is open."""
    return tuple(1 if side is None else side for side in loaded.image_shape)


def _wait(outputs: Any) -> Any:
    """Reads the outputs, so that work queued on a device is part of the measured time."""
    return keras.tree.map_structure(np.asarray, outputs)


def _time(
    call: Callable[[np.ndarray], Any],
    image: np.ndarray,
    repeats: int,
    warmup: int,
    threads: int | None,
) -> Latency:
    for _ in range(warmup):
        call(image)
    seconds = np.empty(repeats)
    for index in range(repeats):
        start = time.perf_counter()
        call(image)
        seconds[index] = time.perf_counter() - start
    return Latency(
        median_ms=float(np.median(seconds)) * 1e3,
        p95_ms=float(np.percentile(seconds, 95)) * 1e3,
        repeats=repeats,
        threads=threads,
    )
