"""Networks that cannot be converted, or are not to be, as teachers in their own runtime."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.outputs import Outputs
from keras_amalgam.models.runtime_teacher import RuntimeTeacher, load_teacher
from keras_amalgam.models.taps import as_taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.teachers.runtimes.file_runtime import (
    Choices,
    DataFormat,
    FileRuntime,
    open_onnx,
    open_saved_model,
    open_tflite,
)

MAX_BYTES = 2**31 - 1  # Neither protocol buffers nor flatbuffers hold more.
_OPENERS: dict[str, Callable[[Path, Choices], FileRuntime]] = {
    ".onnx": open_onnx,
    ".tflite": open_tflite,
    "saved_model": open_saved_model,
}


@keras_defaults()
def open_runtime(
    path: str | Path,
    *,
    taps: Sequence[str] = (),
    output_name: str | None = None,
    data_format: DataFormat | None = None,
    signature: str | None = None,
) -> FileRuntime:
    """A network in its original file, run by its own runtime on the processor.

    | file | runtime | taps |
    | --- | --- | --- |
    | `.onnx` | onnxruntime | any tensor, node or PyTorch module, by name |
    | `.tflite` | LiteRT | other outputs; tensors inside by name, without LiteRT's fast kernels |
    | a SavedModel's directory | TensorFlow | other outputs |

    A SavedModel is a program: load only what you would run.

    Args:
        path: The file or directory.
        taps: What can be tapped beside the answer.
        output_name: The classifier's answer, where the file has several outputs.
        data_format: Where the images' channels stand, if their shape does not tell.
        signature: Of a SavedModel (by default `"serving_default"`) or a TFLite file.

    Returns:
        A runtime for `keras_amalgam.RuntimeTeacher`.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `path` is no path.
        ValueError: If the file is damaged, too large or of another kind, the runtime refuses it,
            it does not take one batch of images, or a name is not in it.

    Example:
    ```python
    runtime = open_runtime("cars.onnx", taps=["layer4"])
    ```
    """
    path = _checked_path(path)
    opener = _OPENERS.get("saved_model" if path.is_dir() else path.suffix.lower())
    if opener is None:
        raise ValueError(
            f"No runtime is known for {path.name!r}. Received: a file {path.suffix!r}. Expected: "
            ".onnx, .tflite or the directory of a SavedModel. Keras files need none: from_keras."
        )
    if isinstance(taps, str):
        raise TypeError(f"`taps` must be a list of names. Received: {taps!r}. Use [{taps!r}].")
    return opener(path, Choices(tuple(taps), output_name, data_format, signature))


@keras_defaults()
def runtime_teacher(
    path: str | Path,
    name: str,
    class_names: Sequence[str],
    *,
    preprocessing: Preprocessing,
    tap: str | None = None,
    outputs: Outputs = "auto",
    taps: Mapping[str, str] | None = None,
    **opening: Any,
) -> RuntimeTeacher:
    """A network in its original file as a teacher.

    Args:
        path: As in `open_runtime`.
        name: As in `keras_amalgam.Teacher`, like the next ones.
        class_names: In the order of the answer.
        preprocessing: How raw 0..255 images become the network's input.
        tap: A name, as in `open_runtime(taps=…)`.
        outputs: What the answer is.
        taps: Several names by tap name, as in `keras_amalgam.Teacher`.
        **opening: What else `open_runtime` takes.

    Returns:
        The teacher; its `save` writes the original file with card and labels.

    Raises:
        As `open_runtime` and `keras_amalgam.RuntimeTeacher`.
    """
    named = as_taps(tap, taps, f"Teacher {name!r}")
    layers = list(dict.fromkeys(one.layer for one in named.values()))
    runtime = open_runtime(path, taps=layers, **opening)
    return RuntimeTeacher(
        runtime,
        name,
        class_names,
        taps=named,
        outputs=outputs,
        preprocessing=preprocessing,
    )


@keras_defaults()
def load(directory: str | Path) -> Teacher:
    """A saved teacher of either kind, as its card says.

    Args:
        directory: What `save` of a `Teacher` or `RuntimeTeacher` wrote. The latter may hold a
            SavedModel, which is a program: load only what you would run.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the network is not the card's.
    """
    return load_teacher(directory, _reopen)


def _reopen(path: Path, taps: Sequence[str], settings: Mapping[str, Any]) -> FileRuntime:
    known = ("output_name", "data_format", "signature")
    return open_runtime(path, taps=taps, **{key: settings.get(key) for key in known})


def _checked_path(path: str | Path) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"`path` must be a path. Received: {type(path).__name__}.")
    # Links are not followed: in a download cache the file that they lead to has no suffix.
    path = Path(path).absolute()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    size = 0 if path.is_dir() else path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"{path.name!r} is too large. Received: {size:,} bytes. At most {MAX_BYTES:,} are read."
        )
    return path
