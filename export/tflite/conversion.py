"""A Keras model as TFLite bytes, with no operator outside TFLite's own."""

import contextlib
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export.interrupts import held_back
from keras_amalgam.export.signatures import INPUT_NAME, flat_operations
from keras_amalgam.export.tflite.plan import Plan
from keras_amalgam.export.tflite.quantizers import QUANTIZERS, SIGNATURE_KEY
from keras_amalgam.export.to_saved_model import write
from keras_amalgam.quiet import quiet

FLOAT32 = Plan()


def convert(
    function: Callable[[Any], dict[str, Any]],
    model: keras.Model,
    shape: Sequence[int],
    plan: Plan = FLOAT32,
    calibration: np.ndarray | None = None,
) -> tuple[bytes, dict[str, int]]:
    """Converts what a float32 model computes.

    Args:
        function: From the image to named tensors.
        model: Whose layers are named where an operator is refused.
        shape: `(height, width, channels)` of the artifact's image.
        plan: What kind of file.
        calibration: Raw float32 images of that size; needed for integer activations.

    Returns:
        The flatbuffer. Its signature `serving_default` takes `image`, of shape `(batch, height,
        width, channels)`, and returns the named tensors. And how often each operator occurs in it.

    Raises:
        NotImplementedError: If an operator is none of TFLite's own, naming it and its layer, or
            has no form in the precision.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    spec = tf.TensorSpec((plan.batch, *shape), tf.float32, name=INPUT_NAME)
    with tempfile.TemporaryDirectory() as directory:
        write({SIGNATURE_KEY: (function, spec)}, Path(directory))
        with held_back(), quiet(), _without_interpreter_warnings():
            try:
                quantizer = QUANTIZERS[plan.quantizer]
                flatbuffer, foreign = quantizer(Path(directory), plan, calibration), []
            except ConverterError as error:
                foreign = _foreign_operators(model, error)
                if not foreign:
                    raise
                flatbuffer = b""
            except RuntimeError as error:
                _refuse_precision(model, plan, error)
                raise
    if foreign:
        raise _not_in_tflite(model, foreign)
    counts = operator_counts(flatbuffer)
    if foreign := [name for name in counts if name.startswith("custom ")]:
        raise _not_in_tflite(model, foreign)
    return flatbuffer, counts


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


def _refuse_precision(model: keras.Model, plan: Plan, error: RuntimeError) -> None:
    """Raises if the converter has no integer form of an operator, in its own words."""
    said = re.search(r"not yet supported for op: '(\w+)'", str(error))
    overflow = "no_integer_overflow_from_quantization" in str(error)
    if said or overflow:
        reason = f"the operator {said[1]}" if said else "activations that are nearly constant"
        remedy = "Use another precision, such as 'int8' or 'float16'."
        if said and said[1] == "TOPK_V2":
            remedy = f"Leave `top_k` out, or use{remedy.removeprefix('Use')}"
        raise NotImplementedError(
            f"Model '{model.name}' cannot be written as {plan.precision}. Received: {reason}, for "
            "which the converter has no integer form. Expected: operators and ranges that have "
            f"one. {remedy}"
        ) from error


@contextlib.contextmanager
def _without_interpreter_warnings() -> Iterator[None]:
    """Both quantizers calibrate with an interpreter that warns of what only they can change."""
    with warnings.catch_warnings():
        for message in ("tf.lite.Interpreter is deprecated", "Enabling `experimental_preserve_all"):
            warnings.filterwarnings("ignore", message=rf"\s*Warning: {re.escape(message)}")
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
        "bilinear or nearest without antialias, or that of `Preprocessing`, which antialiases in "
        "stock operations; or export with `to_saved_model` or `to_onnx`."
    )
