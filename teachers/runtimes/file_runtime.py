"""A file in its own runtime: what it takes, which tensor is which, and where its channels stand."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from keras_amalgam.files.contents import files_below
from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.models.runtime import Origin
from keras_amalgam.teachers.onnx_files.file import read_onnx
from keras_amalgam.teachers.runtimes.litert_runtime import LiteRtRuntime, count_parameters
from keras_amalgam.teachers.runtimes.measuring import built_in_onnx, built_in_tflite
from keras_amalgam.teachers.runtimes.onnx_axes import CHANNELS_FIRST, MapAxes, Order
from keras_amalgam.teachers.runtimes.onnx_tensors import tensor_names
from keras_amalgam.teachers.runtimes.source_runtimes import (
    OnnxRuntime,
    SavedModelRuntime,
    SourceRuntime,
    as_dtype,
    image_ports,
)
from keras_amalgam.teachers.saved_models.file import read_saved_model

DataFormat = Literal["channels_first", "channels_last"]
_LAST: Order = (0, 1, 2, 3)
_WEIGHTS = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8,
}  # fmt: skip


@dataclass(frozen=True)
class Choices:
    """What a user says about a file when it is opened.

    Args:
        taps: Names of what can be tapped.
        output_name: The classifier's answer.
        data_format: Where the images' channels stand.
        signature: Of a SavedModel or TFLite file.
    """

    taps: Sequence[str] = ()
    output_name: str | None = None
    data_format: DataFormat | None = None
    signature: str | None = None

    def settings(self, output: str) -> dict[str, Any]:
        """All but the taps, JSON-ready, to open the file again as it was opened."""
        kept = {"data_format": self.data_format, "signature": self.signature}
        return {"output_name": output, **kept}


@dataclass(frozen=True)
class FileRuntime:
    """A file in its own runtime, as `keras_amalgam.RuntimeTeacher` takes it.

    Args:
        source: What runs it, images channels last.
        dtype: Of its images.
        image_shape: `(height, width, channels)`, `None` where open.
        output: The classifier's answer.
        taps: Name given by the user to the tensor's own.
        order: Of a tensor of four axes, by its name: where batch, height, width and channels
            stand; a `ValueError` where nothing tells.
        origin: The file.
        built_in: The normalisation inside it, measured; `None` if there is none, or if the runtime
            does not show what is inside.
        covers: The lowest and the highest number that a quantized input holds; `None` for others.
    """

    source: SourceRuntime
    dtype: np.dtype
    image_shape: tuple[int | None, int | None, int]
    output: str
    taps: Mapping[str, str]
    order: Callable[[str], Order]
    origin: Origin
    built_in: BuiltIn | SeveralWays | None = None
    covers: tuple[float, float] | None = None

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The answer and the taps for a batch of images `(batch, *image_shape)`, float32."""
        tensors = list(dict.fromkeys((self.output, *self.taps.values())))
        arrays = self.source.run(as_dtype(images, self.dtype), tensors)
        named = {self.output: self.output, **self.taps}
        return {name: self._channels_last(tensor, arrays[tensor]) for name, tensor in named.items()}

    def _channels_last(self, tensor: str, array: np.ndarray) -> np.ndarray:
        array = np.asarray(array, np.float32)
        if array.ndim != 4:
            return array
        try:
            return array.transpose(self.order(tensor))
        except ValueError:
            if array[0].size == max(array.shape[1:]):  # A map of 1×1: all axes but one are.
                return array.reshape(len(array), 1, 1, -1)
            raise


def open_onnx(path: Path, choices: Choices) -> FileRuntime:
    """See `runtimes.open_runtime`."""
    file = read_onnx(path)
    ports = image_ports(file.model)
    if len(ports) != 1:
        raise ValueError(
            f"A teacher takes one batch of images. Received: {path.name!r} with {len(ports)} "
            f"inputs, {[port.name for port in ports]}. Export the part that takes the image."
        )
    (port,) = ports
    dims = [size.dim_value or None for size in port.type.tensor_type.shape.dim]
    order, image_shape = _image(dims, choices, f"The input {port.name!r} of {path.name!r}")
    source = OnnxRuntime(file.model, order, optimized=True)
    output = _answer(choices, source.outputs, path)
    taps = _tensors(choices, tensor_names(file.model), path)
    weights = [t.dims for t in file.model.graph.initializer if t.data_type in _WEIGHTS]
    return FileRuntime(
        source,
        onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type),
        image_shape,
        output,
        taps,
        MapAxes(file, port.name, order).order,
        Origin(
            path,
            file.files,
            framework=file.producer,
            engine=_engine("onnxruntime"),
            num_parameters=sum(int(np.prod(dims)) for dims in weights),
            opset=file.opset,
            settings=choices.settings(output),
            sha256=file.sha256,
        ),
        _if_it_shows(lambda: built_in_onnx(file.model, order)),
    )


def open_tflite(path: Path, choices: Choices) -> FileRuntime:
    """See `runtimes.open_runtime`."""
    source = LiteRtRuntime(path, choices.signature)
    inside = LiteRtRuntime(path, choices.signature, inside=True)
    if set(choices.taps) - set(source.outputs):
        source = inside
    dims = [int(size) if size > 0 else None for size in source.image["shape_signature"]]
    order, image_shape = _image(dims, choices, f"The input of {path.name!r}")
    source.image_order = inside.image_order = order
    output = _answer(choices, source.outputs, path)
    return FileRuntime(
        source,
        np.dtype(np.float32),  # LiteRtRuntime quantizes.
        image_shape,
        output,
        _tensors(choices, _tflite_names(source.tensors), path),
        lambda tensor: _LAST,  # Maps in TFLite have their channels last.
        Origin(
            path,
            (path,),
            framework="tflite",
            engine=_engine("ai-edge-litert"),
            num_parameters=count_parameters(path.read_bytes()),
            settings=choices.settings(output),
        ),
        _if_it_shows(lambda: built_in_tflite(inside)),
        inside.covers,
    )


def open_saved_model(path: Path, choices: Choices) -> FileRuntime:
    """See `runtimes.open_runtime`."""
    saved = read_saved_model(path, choices.signature or "serving_default")
    spec = saved.input_spec
    dims = spec.shape.as_list() if spec.shape.rank else []
    order, image_shape = _image(dims, choices, f"The argument {saved.input_name!r}")
    source = SavedModelRuntime(saved, order)
    output = _answer(choices, source.outputs, path)
    taps = _tensors(choices, {name: name for name in source.outputs}, path)
    return FileRuntime(
        source,
        np.dtype(spec.dtype.as_numpy_dtype),
        image_shape,
        output,
        taps,
        lambda tensor: order,
        Origin(
            path,
            tuple(files_below(path)),
            framework=saved.framework,
            engine=_engine("tensorflow"),
            num_parameters=sum(int(np.prod(v.shape)) for v in saved.function.variables),
            settings=choices.settings(output),
        ),
    )


def _if_it_shows(
    measure: Callable[[], BuiltIn | SeveralWays | None],
) -> BuiltIn | SeveralWays | None:
    """What is measured inside; `None` where the runtime returns the answer but nothing inside."""
    try:
        return measure()
    except ValueError:
        return None


def _tflite_names(tensors: Sequence[str]) -> dict[str, str]:
    """A tensor of fused operations bears all their names, with `;` between."""
    parts = {part: name for name in tensors for part in name.split(";")}
    return parts | {name: name for name in tensors}


def _engine(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def _answer(choices: Choices, outputs: Sequence[str], path: Path) -> str:
    given = choices.output_name
    if given in outputs:
        return str(given)
    if given is None and len(outputs) == 1:
        return outputs[0]
    raise ValueError(
        f"It must be clear which output of {path.name!r} is the classifier's answer. Received: "
        f"{'no name' if given is None else repr(given)}. Pass one of {list(outputs)} as "
        "`output_name=`."
    )


def _tensors(choices: Choices, names: Mapping[str, str], path: Path) -> dict[str, str]:
    """What the taps mean."""
    unknown = [tap for tap in choices.taps if tap not in names]
    if unknown:
        raise ValueError(
            f"{path.name!r} has nothing to tap that goes by {unknown}. The last of its "
            f"{len(names)} names: {list(names)[-12:]}."
        )
    return {tap: names[tap] for tap in choices.taps}


def _image(dims: Sequence[int | None], choices: Choices, where: str) -> tuple[Any, Any]:
    """The source's axis for each axis of the images, and one image's shape, channels last."""
    if len(dims) != 4:
        raise ValueError(
            f"{where} must be one batch of images with four axes. Received: shape {list(dims)}. "
            "Export the part that takes the image."
        )
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    known = {"channels_first": CHANNELS_FIRST, "channels_last": _LAST}
    if choices.data_format is not None:
        order = known.get(choices.data_format)
    else:
        order = (CHANNELS_FIRST if first else _LAST) if first != last else None
    channels = dims[order[3]] if order else None
    if order is None or channels not in (1, 3):
        raise ValueError(
            f"{where} does not tell where its 1 or 3 channels stand. Received: shape {list(dims)}, "
            f"data_format={choices.data_format!r}. Pass data_format='channels_first' or "
            "'channels_last'; the file must fix the number of channels."
        )
    return order, tuple(dims[axis] for axis in order[1:])
