"""The two ways to a TFLite file: TensorFlow's converter alone, or with its announced successor."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export.samples import spanning_full_range
from keras_amalgam.export.signatures import INPUT_NAME
from keras_amalgam.export.tflite.plan import CALIBRATED, Plan

SIGNATURE_KEY = "serving_default"
_IN_A_RESIZE = r".*/(resize|cover)_\d+x\d+[^/;]*/"

Quantizer = Callable[[Path, Plan, np.ndarray | None], bytes]
"""From a SavedModel, a plan and raw float32 images for calibration to a flatbuffer."""


def with_converter(saved_model: Path, plan: Plan, calibration: np.ndarray | None) -> bytes:
    """TensorFlow's converter, which quantizes as well."""
    import tensorflow as tf

    converter = _converter(saved_model)
    if plan.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if plan.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if calibration is not None:
        converter.representative_dataset = lambda: _samples(calibration)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            if plan.precision == "int8"
            else tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        converter.inference_input_type = tf.as_dtype(str(plan.image_dtype))
        converter.inference_output_type = tf.as_dtype(plan.head_dtype)
    return converter.convert()


def with_litert(saved_model: Path, plan: Plan, calibration: np.ndarray | None) -> bytes:
    """LiteRT's quantizer, on the converter's float32 file.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from litert_quantizer import calibrator, quantizer, recipe, recipe_manager
        from litert_quantizer.qtyping import TFLOperationName
        from litert_quantizer.utils import qsv_utils
    except ImportError as error:
        raise ImportError(
            f"quantizer='litert' needs LiteRT's quantizer. Received: {error}. Expected: the "
            "package litert-quantizer. Run `pip install 'keras-amalgam[quantizer]'`."
        ) from error
    recipes = {
        "dynamic": recipe.dynamic_wi8_afp32,
        "int8": recipe.static_wi8_ai8,
        "int16": recipe.static_wi8_ai16,
    }
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipes[plan.precision]())
    # Its integer form of the resize's products is none that LiteRT runs, or a wrong one.
    for product in (TFLOperationName.BATCH_MATMUL, TFLOperationName.FULLY_CONNECTED):
        manager.add_quantization_config(_IN_A_RESIZE, product, algorithm_key="no_quantize")
    ends = {TFLOperationName.INPUT: plan.image_dtype, TFLOperationName.OUTPUT: plan.head_dtype}
    for operation in [end for end, dtype in ends.items() if dtype == "float32"]:
        if plan.precision in CALIBRATED:
            manager.add_quantization_config(".*", operation, algorithm_key="no_quantize")
    flatbuffer = _converter(saved_model).convert()
    with contextlib.redirect_stdout(io.StringIO()):  # It reports sizes and times.
        quantized = quantizer.Quantizer(flatbuffer, manager.get_quantization_recipe())
        ranges = None
        if calibration is not None:
            # Its own default is a moving average, which cuts off what is seen rarely.
            seen = calibrator.Calibrator(flatbuffer, qsv_update_func=qsv_utils.min_max_update)
            seen.calibrate({SIGNATURE_KEY: list(_samples(calibration))}, manager)
            ranges = seen.get_model_qsvs()
        return bytes(quantized.quantize(ranges).quantized_model)


QUANTIZERS: dict[str, Quantizer] = {"converter": with_converter, "litert": with_litert}


def _converter(saved_model: Path) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[SIGNATURE_KEY]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _samples(calibration: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    images = spanning_full_range(calibration)
    for index in range(len(images)):
        yield {INPUT_NAME: images[index : index + 1]}
