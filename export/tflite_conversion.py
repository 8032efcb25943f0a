"""A Keras model as TFLite bytes: precisions, calibration, and no operator outside TFLite's own."""

import contextlib
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export.quiet import quiet
from keras_amalgam.export.samples import spanning_full_range
from keras_amalgam.export.signatures import INPUT_NAME, Signature, flat_operations
from keras_amalgam.export.to_saved_model import SIGNATURE_KEY, float_endpoint, write

PRECISIONS = ("float32", "float16", "dynamic", "int8")


def convert(
    model: keras.Model,
    signature: Signature,
    size: tuple[int, int],
    precision: str = "float32",
    calibration: np.ndarray | None = None,
) -> bytes:
    """Converts a float32 model for one image at a time.

    Args:
        model: A model that computes in float32.
        signature: Its interface.
        size: `(height, width)` of the artifact's image.
        precision: One of `PRECISIONS`.
        calibration: Raw float32 images of that size; needed for `"int8"`.

    Returns:
        The flatbuffer. Its signature `serving_default` takes `image`, float32 (int8: uint8) of
        shape `(1, height, width, channels)`, and returns float32 heads by name.

    Raises:
        NotImplementedError: If an operator is none of TFLite's own, naming it and its layer.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    channels = signature.image_shape[2]
    with tempfile.TemporaryDirectory() as directory:
        endpoint = float_endpoint(model, signature, (1, *size, channels))
        write({SIGNATURE_KEY: endpoint}, Path(directory))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            directory, signature_keys=[SIGNATURE_KEY]
        )
        _configure(converter, precision, calibration)
        with quiet(), _without_interpreter_warning():
            try:
                flatbuffer, operators = converter.convert(), []
            except ConverterError as error:
                operators = _foreign_operators(model, error)
                if not operators:
                    raise
                flatbuffer = b""
    if operators:
        raise _not_in_tflite(model, operators)
    foreign = sorted(name for name in operator_counts(flatbuffer) if name.startswith("custom "))
    if foreign:
        raise _not_in_tflite(model, foreign)
    return flatbuffer


def operator_counts(flatbuffer: bytes) -> dict[str, int]:
    """How often each operator occurs in a TFLite file; foreign ones read `"custom <name>"`."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    codes = [
        f"custom {_text(code.customCode)}"
        if code.builtinCode == schema.BuiltinOperator.CUSTOM
        else names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes or []
    ]
    counts = Counter(
        codes[operator.opcodeIndex]
        for subgraph in model.subgraphs or []
        for operator in subgraph.operators or []
    )
    return dict(sorted(counts.items()))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _configure(converter: Any, precision: str, calibration: np.ndarray | None) -> None:
    import tensorflow as tf

    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8" and calibration is not None:
        images = spanning_full_range(calibration)
        converter.representative_dataset = lambda: (
            {INPUT_NAME: images[index : index + 1]} for index in range(len(images))
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8


@contextlib.contextmanager
def _without_interpreter_warning() -> Iterator[None]:
    """The converter calibrates with TensorFlow's own interpreter, which announces its removal."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated"
        )
        yield


def _foreign_operators(model: keras.Model, error: Any) -> list[str]:
    """What the converter could not express in TFLite's operators, with the layers it came from."""
    found = []
    for entry in getattr(error, "errors", []):
        operator = entry.operator.name.removeprefix("tf.")
        if operator:
            calls = [call.name for call in entry.location.call]
            found.append(f"{operator} from {_origin(model, calls[0])}" if calls else operator)
    return sorted(set(found))


def _origin(model: keras.Model, location: str) -> str:
    """`model_1/resizing_1/resize/X@f` -> the Keras layer, whose scope may bear a suffix.

    A bare operation, such as `keras.ops.image.resize`, leaves only its path in the graph.
    """
    parts = location.split("@")[0].split("/")
    for layer in flat_operations(model):
        for part in parts if isinstance(layer, keras.Layer) else ():
            if re.fullmatch(re.escape(layer.name) + r"(_\d+)?", part):
                return f"layer '{layer.name}' ({type(layer).__name__})"
    return f"'{'/'.join(parts)}'"


def _not_in_tflite(model: keras.Model, operators: list[str]) -> NotImplementedError:
    return NotImplementedError(
        f"Model '{model.name}' needs operators that TFLite does not have. Received: "
        f"{'; '.join(operators)}. Expected: TFLite's own operators only, so that the file runs on "
        "every device without Flex or custom kernels. Replace the layer: a resizing must be "
        "bilinear or nearest without antialias; or export with `to_saved_model` or `to_onnx`."
    )
