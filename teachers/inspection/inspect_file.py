"""Looking into a network's file, whatever its format."""

from pathlib import Path

from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.teachers.inspection.keras_inspection import inspect_keras
from keras_amalgam.teachers.inspection.onnx_inspection import inspect_onnx
from keras_amalgam.teachers.inspection.report import Inspection
from keras_amalgam.teachers.inspection.saved_model_inspection import inspect_saved_model
from keras_amalgam.teachers.inspection.tflite_inspection import inspect_tflite


@keras_defaults()
def inspect(
    path: str | Path, *, signature: str = "serving_default", output: str | None = None
) -> Inspection:
    """Look into a network's file: what it takes, returns and consists of, and where to tap it.

    What can be converted is converted, without comparing, so that shapes are those of the teacher.
    Files with operators that are not known are described as far as the graph says.

    Args:
        path: An `.onnx`, `.keras`, `.h5` or `.tflite` file, or a SavedModel's directory.
        signature: The serving function of a SavedModel.
        output: Which of several outputs is to teach: taps are those on the way to it.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is damaged or of another format, or has no such output.

    Example:
    ```python
    found = inspect("cars.onnx")
    print(found.default_tap, found.obstacle)
    ```
    """
    path = Path(path)
    if path.is_dir():
        return inspect_saved_model(path, signature, output)
    readers = {
        ".onnx": inspect_onnx,
        ".keras": inspect_keras,
        ".h5": inspect_keras,
        ".hdf5": inspect_keras,
        ".tflite": inspect_tflite,
    }
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or directory {str(path)!r}. Check the path.")
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"Networks are told apart by the ends of their names. Received: {path.name!r}. "
            f"Expected: {', '.join(readers)}, or the directory of a SavedModel. PyTorch's own "
            "files hold code or bare weights: see from_torch."
        )
    return readers[path.suffix.lower()](path, output)
