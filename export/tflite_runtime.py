"""Running a `.tflite` file with LiteRT, always through its named signature."""

import dataclasses
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export.quiet import quiet
from keras_amalgam.export.signatures import INPUT_NAME


@dataclasses.dataclass(frozen=True)
class LiteRtModel:
    """A loaded TFLite file.

    Attributes:
        interpreter: LiteRT's interpreter, which owns the memory of `runner`.
        runner: The signature: named arrays to a dict of named arrays.
        input_name: Name of the image tensor.
        image_shape: `(batch, height, width, channels)` of the image tensor.
        dtype: The image's NumPy dtype.
        quantization: The image's scale and zero point; `(0.0, 0)` for a float tensor.
    """

    interpreter: Any
    runner: Any
    input_name: str
    image_shape: tuple[int, ...]
    dtype: Any
    quantization: tuple[float, int]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one batch of raw images of `image_shape` in 0..255."""
        return self.runner(**{self.input_name: image.astype(self.dtype)})


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
        image_shape=tuple(int(side) for side in details["shape"]),
        dtype=details["dtype"],
        quantization=details["quantization"],
    )


def run(model: LiteRtModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """Runs raw images one at a time; returns head to values with the images' batch axis."""
    outputs = [model(images[index : index + 1]) for index in range(len(images))]
    return {head: np.concatenate([output[head] for output in outputs]) for head in outputs[0]}
