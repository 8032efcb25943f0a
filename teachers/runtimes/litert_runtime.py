"""TFLite files in LiteRT."""

import importlib.metadata
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.teachers.runtimes.source_runtimes import axes_to_source, in_batches

# How LiteRT says that the bytes are no TFLite file; whatever else it says, it has read them.
_NOT_READ = "not a valid Flatbuffer"
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_PASSED_ON = {
    *("CAST", "DEQUANTIZE", "MIRROR_PAD", "PAD", "PADV2", "QUANTIZE", "RESHAPE"),
    *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE"),
}


class LiteRtRuntime:
    """A TFLite file in LiteRT, quantized or not: numbers in and out are real.

    Args:
        path: The file.
        signature: Its signature, where there are several.
        inside: Whether tensors inside are wanted, too. LiteRT's fast kernels fuse them away, so
            the network then runs without them.

    Attributes:
        image: LiteRT's description of the image.
        image_order: As for `OnnxRuntime`.
        outputs: Names of its outputs, in its order.
        tensors: Names of all that can be read.

    Raises:
        ValueError: If it is no whole TFLite file, LiteRT refuses it, or it does not take exactly
            one tensor.
    """

    def __init__(self, path: Path, signature: str | None = None, inside: bool = False) -> None:
        """See the class."""
        self._path = path
        self._interpreter = _open(path, inside)
        self._lock = threading.Lock()  # An interpreter has one memory for all its callers.
        self._runner = self._signature_runner(signature)
        source = self._runner or self._interpreter
        self.image, self._input_name = self._only_input(source.get_input_details())
        outputs = source.get_output_details()
        if not isinstance(outputs, dict):
            outputs = {details["name"]: details for details in outputs}
        self._details = {
            details["name"]: details
            for details in (self._interpreter.get_tensor_details() if inside else ())
        } | outputs
        self.outputs = tuple(outputs)
        self.tensors = tuple(self._details)
        self.image_order = (0, 1, 2, 3)

    @property
    def covers(self) -> tuple[float, float] | None:
        """The lowest and the highest number that an input of integers holds; `None` for floats."""
        dtype, (scale, zero_point) = np.dtype(self.image["dtype"]), self.image["quantization"]
        if dtype.kind not in "iu" or not (scale or dtype.itemsize == 1):
            return None
        limits = np.iinfo(dtype)
        low, high = ((int(end) - zero_point) * (scale or 1.0) for end in (limits.min, limits.max))
        return float(low), float(high)

    @property
    def may_hide_normalisation(self) -> bool:
        """Whether weights come first, into which a normalisation may have been multiplied."""
        untouched = {self.image["name"]}
        for operator, inputs, outputs in self.operations():
            if operator in _WEIGHTED and untouched.intersection(inputs):
                return True
            if operator in _PASSED_ON and untouched.issuperset(inputs):
                untouched.update(outputs)
        return False

    def operations(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Type, inputs and outputs of every operation that depends on the image, by their names."""
        tensors = {each["index"]: each["name"] for each in self._interpreter.get_tensor_details()}
        reached, found = {int(self.image["index"])}, []
        for each in self._interpreter._get_ops_details():
            inputs = [int(index) for index in each["inputs"] if index in reached]
            if inputs:
                outputs = [int(index) for index in each["outputs"]]
                reached.update(outputs)
                names = (tuple(tensors[index] for index in given) for given in (inputs, outputs))
                found.append((each["op_name"], *names))
        return found

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        feed = np.ascontiguousarray(images.transpose(axes_to_source(self.image_order)))
        feed = _quantized(feed, self.image)
        shape = self.image["shape_signature"]
        fixed = int(shape[0]) if len(shape) and shape[0] > 0 else None
        with self._lock:
            arrays = in_batches(lambda batch: self._invoke(batch, tensors), feed, fixed)
        return dict(zip(tensors, arrays, strict=True))

    def _invoke(self, batch: np.ndarray, tensors: Sequence[str]) -> list[np.ndarray]:
        results: dict[str, np.ndarray] = {}
        if self._runner is not None:
            results = self._runner(**{self._input_name: batch})
        else:
            index = self.image["index"]
            if tuple(self._interpreter.get_input_details()[0]["shape"]) != batch.shape:
                self._interpreter.resize_tensor_input(index, batch.shape)
                self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(index, batch)
            self._interpreter.invoke()
        values = []
        for name in tensors:
            details = self._details[name]
            value = results.get(name)
            if value is None:
                value = self._interpreter.get_tensor(details["index"])
            values.append(_real(value, details))
        return values

    def _signature_runner(self, signature: str | None) -> Any:
        signatures = list(self._interpreter.get_signature_list())
        if signature is None and len(signatures) < 2:
            return self._interpreter.get_signature_runner(signatures[0]) if signatures else None
        if signature not in signatures:
            raise ValueError(
                f"{self._path.name!r} has no signature {signature!r}. Received: {signatures}. "
                "Pass one of them as `signature=`."
            )
        return self._interpreter.get_signature_runner(signature)

    def _only_input(self, inputs: Any) -> tuple[Any, str]:
        named = inputs if isinstance(inputs, dict) else {i["name"]: i for i in inputs}
        if len(named) != 1:
            raise ValueError(
                f"A teacher takes one batch of images. Received: {self._path.name!r} with "
                f"{len(named)} inputs, {sorted(named)}. Export the part that takes the image."
            )
        ((name, details),) = named.items()
        return details, name


def count_parameters(content: bytes) -> int:
    """Number of constants of type float or integer of eight bits, the weights, in a TFLite file.

    Args:
        content: Of a file that LiteRT has read.
    """
    from ai_edge_litert import schema_py_generated as schema

    weights = {getattr(schema.TensorType, name) for name in ("FLOAT32", "FLOAT16", "INT8", "UINT8")}
    model: Any = schema.Model.GetRootAs(content)
    total = 0
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            if tensor.Type() in weights and model.Buffers(tensor.Buffer()).DataLength():
                total += int(np.prod(tensor.ShapeAsNumpy()))
    return total


def _open(path: Path, inside: bool) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if inside else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=path.read_bytes(),
            num_threads=os.cpu_count(),
            experimental_op_resolver_type=kernels,
            experimental_preserve_all_tensors=inside,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise refusal(path, error) from error
    return interpreter


def refusal(path: Path, error: Exception) -> ValueError:
    """What to raise where LiteRT does not open a file: whether it is damaged, or only refused.

    Args:
        path: Path of the `.tflite` file.
        error: LiteRT's own.
    """
    reason = str(error).strip().split("\n")[0].rstrip(".")
    size = path.stat().st_size
    if _NOT_READ in reason or not size:
        return ValueError(
            f"{path.name!r} is cut off or is no TFLite file. Received: {size:,} bytes that LiteRT "
            f"cannot read: {reason}. Copy or export it again."
        )
    version = importlib.metadata.version("ai-edge-litert")
    return ValueError(
        f"LiteRT {version} refuses {path.name!r}, though it reads it. Received: {reason}. "
        "Expected: operators that LiteRT itself has, in versions that this one knows. Export it "
        "with the built-in operators of this version, or update ai-edge-litert."
    )


def _quantized(images: np.ndarray, details: Any) -> np.ndarray:
    """Real numbers as the input holds them."""
    dtype = np.dtype(details["dtype"])
    if dtype.kind not in "iu":
        return images.astype(dtype)
    scale, zero_point = details["quantization"]
    if scale:
        images = images / scale + zero_point
    limits = np.iinfo(dtype)
    return np.clip(np.rint(images), limits.min, limits.max).astype(dtype)


def _real(values: np.ndarray, details: Any) -> np.ndarray:
    scale, zero_point = details["quantization"]
    if not scale or np.dtype(details["dtype"]).kind not in "iu":
        return values
    return (values.astype(np.float32) - zero_point) * np.float32(scale)
