"""TensorFlow SavedModels as Keras models with real weights."""

from pathlib import Path

import keras

from keras_amalgam.files.contents import sha256_of_directory
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.teachers.comparison.parity import check_parity
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.conversion.chosen_output import check_output
from keras_amalgam.teachers.conversion.convert import convert_file
from keras_amalgam.teachers.from_onnx import finished
from keras_amalgam.teachers.onnx_files.file import OnnxFile
from keras_amalgam.teachers.runtimes.source_runtimes import SavedModelRuntime
from keras_amalgam.teachers.saved_models.file import (
    as_onnx,
    read_saved_model,
)


@keras_defaults()
def from_saved_model(
    path: str | Path,
    *,
    signature: str = "serving_default",
    output: str | None = None,
    fold_batch_norm: bool = False,
    verify: bool = True,
    tolerance: float = 1e-4,
) -> keras.Model:
    """A TensorFlow SavedModel as a Keras model with the same weights.

    The serving function becomes ONNX by tf2onnx and then Keras as in `from_onnx`, so the result
    has trainable weights and taps; the transpositions that ONNX needs are gone again. A
    SavedModel is a program: load only what you would run.

    Args:
        path: The SavedModel's directory.
        signature: The serving function, which takes one batch of images, channels last.
        output: As in `from_onnx`, by its name in the signature.
        fold_batch_norm: As in `from_onnx`. tf2onnx itself folds those behind convolutions.
        verify: Whether the result is compared with the ONNX form at every tensor, and with the
            SavedModel's own serving function at its outputs.
        tolerance: Largest error allowed then, as a fraction of a tensor's range, or of 1.

    Returns:
        The model, with `model.provenance`.

    Raises:
        FileNotFoundError: If there is no SavedModel.
        NotImplementedError: If a TensorFlow or ONNX operator is not known. The SavedModel can then
            teach as it is, by `runtime_teacher`.
        TypeError: If `path` is no path or `output` no name.
        ValueError: If the SavedModel is damaged, has no such signature or output, or the result
            differs.

    Example:
    ```python
    model = from_saved_model("export/flowers/1")
    ```
    """
    check_tolerance(tolerance)
    saved = read_saved_model(path, signature)
    check_output(output, saved.outputs, f"The SavedModel {saved.directory.name!r}")
    try:
        onnx_form = as_onnx(saved, output)
        file = OnnxFile(saved.directory, sha256_of_directory(saved.directory), onnx_form)
        conversion = convert_file(file, fold_batch_norm=fold_batch_norm)
    except NotImplementedError as error:
        raise NotImplementedError(
            f"{error} The SavedModel can teach as it is, outputs only: "
            f"teachers.runtime_teacher({str(path)!r}, name=…, class_names=…, preprocessing=…), or "
            "teachers.open_runtime for its runtime alone."
        ) from error
    source = saved.directory.name
    model = finished(conversion, file, source, saved.framework, verify, tolerance, output)
    if verify:
        runtime = SavedModelRuntime(saved)
        report = check_parity(model, runtime, tolerance=tolerance)
        model.provenance.parity["outputs"].update(report["outputs"])
    return model
