"""Reading TensorFlow SavedModels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from keras_amalgam.quiet import quiet_loggers
from keras_amalgam.teachers.saved_models.frozen_functions import load_frozen

_OPSET = 17


@dataclass(frozen=True)
class SavedModel:
    """One serving function of a SavedModel.

    Args:
        directory: Where it was read from.
        loaded: TensorFlow's object; it owns the function's variables.
        function: The serving function.
        input_name: Its one argument.
    """

    directory: Path
    loaded: Any
    function: Any
    input_name: str

    @property
    def framework(self) -> str:
        """What wrote it."""
        return f"tensorflow {getattr(self.loaded, 'tensorflow_version', 'of unknown version')}"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the function returns."""
        return tuple(self.function.structured_outputs)

    @property
    def input_spec(self) -> Any:
        """Shape and type of the one argument, a `tf.TensorSpec`."""
        return self.function.structured_input_signature[1][self.input_name]


def read_saved_model(directory: str | Path, signature: str = "serving_default") -> SavedModel:
    """Load a SavedModel and one of its serving functions.

    A SavedModel is a program in TensorFlow operations, which can read and write files when it is
    run: load only what you would run.

    Args:
        directory: With `saved_model.pb`.
        signature: The serving function's name.

    Raises:
        FileNotFoundError: If the directory or the file in it is missing.
        TypeError: If `directory` is no path.
        ValueError: If the file is damaged, the signature is not in it, or it does not take exactly
            one tensor.
    """
    if not isinstance(directory, (str, Path)):
        raise TypeError(
            f"`path` must be the directory of a SavedModel. Received: {type(directory).__name__}."
        )
    directory = Path(directory)
    if not (directory / "saved_model.pb").is_file():
        raise FileNotFoundError(
            f"{str(directory)!r} is no SavedModel: there is no saved_model.pb in it. Pass the "
            "directory that holds that file; for a .keras or .h5 file use from_keras."
        )
    try:
        loaded = _loaded(directory)
    except _unreadable() as error:
        raise ValueError(
            f"The SavedModel {directory.name!r} cannot be loaded: {' '.join(str(error).split())} "
            "Copy or export it again."
        ) from error
    if signature not in loaded.signatures:
        raise ValueError(
            f"The SavedModel {directory.name!r} has no serving function {signature!r}. Received: "
            f"{sorted(loaded.signatures)}. Pass one of them as `signature=`."
        )
    function = loaded.signatures[signature]
    arguments = function.structured_input_signature[1]
    if len(arguments) != 1:
        raise ValueError(
            f"A teacher takes one batch of images. Received: the serving function {signature!r} "
            f"with {len(arguments)} arguments, {sorted(arguments)}. Export the part that takes the "
            "image."
        )
    return SavedModel(directory, loaded, function, next(iter(arguments)))


def _unreadable() -> tuple[type[Exception], ...]:
    """What TensorFlow raises at a directory that it cannot read."""
    import tensorflow as tf

    wrong = (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError)
    return (*wrong, OSError, RuntimeError, DecodeError, tf.errors.OpError)


def _loaded(directory: Path) -> Any:
    """TensorFlow's object or, where its objects fail, what is left without them.

    A network that Keras 2 trained keeps its optimizer, whose variables no class of today takes.
    """
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(directory))
    except _unreadable() as error:
        try:
            return load_frozen(directory)
        except _unreadable():
            raise error from None


def as_onnx(saved: SavedModel, output: str | None = None) -> onnx.ModelProto:
    """The serving function in ONNX, by tf2onnx; its outputs bear the same names.

    Args:
        saved: As read.
        output: The only output to convert, with what it needs; by default all of them.

    Raises:
        NotImplementedError: If tf2onnx does not know an operation.
    """
    import tensorflow as tf
    import tf2onnx

    spec = tf.TensorSpec(saved.input_spec.shape, saved.input_spec.dtype, name="images")

    def chosen(images: Any) -> dict[str, Any]:
        results = saved.function(**{saved.input_name: images})
        return {name: results[name] for name in results if output in (None, name)}

    function = tf.function(chosen)
    # A step of tf2onnx's optimizer that fails is left out and logged with a stack trace; what it
    # leaves undone, such as transpositions, is undone here, and the result is compared.
    try:
        with quiet_loggers("tf2onnx.optimizer"):
            model, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=_OPSET)
    except (ValueError, TypeError, KeyError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0]
        raise NotImplementedError(
            f"tf2onnx cannot convert the SavedModel {saved.directory.name!r}: {reason} If you have "
            "the model in Keras, use from_keras."
        ) from error
    return _with_captured(model, function.get_concrete_function(spec))


def _with_captured(model: onnx.ModelProto, function: Any) -> onnx.ModelProto:
    """The model with the constants that its function captured, which tf2onnx takes for inputs."""
    captured = {
        inside.name: outside.numpy()
        for outside, inside in function.graph.captures
        if outside.dtype.is_numpy_compatible
    }
    ports = [port for port in model.graph.input if port.name in captured]
    for port in ports:
        model.graph.input.remove(port)
        model.graph.initializer.append(numpy_helper.from_array(captured[port.name], port.name))
    return model
