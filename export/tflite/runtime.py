"""Running a `.tflite` file with LiteRT, always through its named signature."""

import dataclasses
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export.signatures import INPUT_NAME
from keras_amalgam.quiet import quiet

MAX_BATCH = 32


@dataclasses.dataclass(frozen=True)
class LiteRtModel:
    """A loaded TFLite file.

    Attributes:
        interpreter: LiteRT's interpreter, which owns the memory of `runner`.
        runner: The signature: named arrays to a dict of named arrays.
        input_name: Name of the image tensor.
        image_shape: `(batch, height, width, channels)` of the image tensor; batch may be `None`.
        dtype: The image's NumPy dtype.
        quantization: The image's scale and zero point; `(0.0, 0)` for a float tensor.
    """

    interpreter: Any
    runner: Any
    input_name: str
    image_shape: tuple[int | None, ...]
    dtype: Any
    quantization: tuple[float, int]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one batch of raw images of `image_shape` in 0..255.

        Returns:
            The outputs by name; quantized ones as the float32 values they stand for.
        """
        outputs = self.runner(**{self.input_name: self.as_input(image)})
        details = self.runner.get_output_details()
        return {
            name: _dequantized(values, details[name]["quantization"])
            for name, values in outputs.items()
        }

    def as_input(self, image: np.ndarray) -> np.ndarray:
        """Raw images in the form that the image tensor has."""
        scale, zero_point = self.quantization
        if not scale or self.dtype == np.float32:
            return image.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        steps = np.rint(image / scale) + zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)


def _dequantized(values: np.ndarray, quantization: tuple[float, int]) -> np.ndarray:
    scale, zero_point = quantization
    if not scale or values.dtype == np.float32:
        return values
    return ((values.astype(np.float64) - zero_point) * scale).astype(np.float32)


def load(source: str | PathLike[str] | bytes, threads: int = 1) -> LiteRtModel:
    """Loads a TFLite file or flatbuffer.

    Args:
        source: Path of a `.tflite` file, or its content.
        threads: Threads that LiteRT may use.

    Returns:
        The loaded model.

    Raises:
        ValueError: If it is no TFLite model, or has not one signature with one input.
    """
    from ai_edge_litert.interpreter import Interpreter

    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    name = "the given bytes" if isinstance(source, bytes) else f"'{source}'"
    try:
        with quiet():
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"LiteRT cannot load the model. Received: {name} ({error}). Expected: a whole TFLite "
            "file. Export it again."
        ) from error
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1 or len(next(iter(signatures.values()))["inputs"]) != 1:
        raise ValueError(
            f"The TFLite model has no single signature with one image. Received: {name} with "
            f"{signatures}. Expected: one signature with one input, such as '{INPUT_NAME}'. Use a "
            "file written by `keras_amalgam.export`."
        )
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    ((input_name, details),) = runner.get_input_details().items()
    return LiteRtModel(
        interpreter=interpreter,
        runner=runner,
        input_name=input_name,
        image_shape=tuple(
            None if side < 0 else int(side)
            for side in details.get("shape_signature", details["shape"])
        ),
        dtype=details["dtype"],
        quantization=details["quantization"],
    )


def run(model: LiteRtModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """Runs raw images; returns the outputs by name with the images' batch axis.

    A file of fixed batch takes as many at a time, the last batch filled up. One of open batch takes
    the first image alone and the others together.
    """
    size = model.image_shape[0]
    if size is None:
        starts = [0, *range(1, len(images), MAX_BATCH)]
        batches = [images[a:b] for a, b in zip(starts, [*starts[1:], len(images)], strict=True)]
    else:
        filled = np.concatenate([images, np.repeat(images[-1:], -len(images) % size, axis=0)])
        batches = [filled[start : start + size] for start in range(0, len(filled), size)]
    outputs = [model(batch) for batch in batches]
    return {
        name: np.concatenate([output[name] for output in outputs])[: len(images)]
        for name in outputs[0]
    }
