"""The form of ONNX models that is read: which versions, element types, inputs and outputs."""

import math
from collections import Counter

import onnx
from onnx import TensorProto

from keras_amalgam.teachers.onnx_files.bounds import tensors
from keras_amalgam.teachers.onnx_files.external_data import is_external

MAX_RANK = 8
MAX_SIZE = 2**31 - 1
# Elements of one batch as far as the file fixes its sizes: a 4K image in color, which is compared
# in seconds, and what is made of it.
MAX_INPUT, MAX_OUTPUT = 3840 * 2160 * 3, 2**25
# Pixels; TensorFlow ends the process on strides that do not fit 32 bits.
MAX_STEP = 2**15
_STEPS = {"blocksize": 1, "dilations": 1, "group": 1, "kernel_shape": 1, "strides": 1}
_STEPS |= {"output_padding": 0, "output_shape": 0, "pads": -MAX_STEP, "size": 1}
_READ_TYPES = {
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE),
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    TensorProto.BOOL,
}


def refuse_other_forms(model: onnx.ModelProto, name: str) -> None:
    """Refuse what is no graph of plain tensors for a known version of ONNX.

    Sizes that are not positive, which some exporters write for open ones, become open ones.

    Args:
        model: As parsed.
        name: The file's name.

    Raises:
        NotImplementedError: If a tensor is sparse or of a type that is not read.
        ValueError: If a version is unknown, a name is given twice, an input or output is no tensor
            or too large, there is no output or it is an input or a constant, a window's size or
            stride is absurd, or a tensor's data is in another file still.
    """
    _refuse_other_versions(model, name)
    for sparse in model.graph.sparse_initializer:
        raise NotImplementedError(
            f"{name!r} keeps the constant {sparse.values.name!r} as a sparse tensor, which is not "
            "read. Export it as a dense one."
        )
    for tensor in tensors(model.graph):
        if is_external(tensor):
            raise ValueError(
                f"The tensor {tensor.name!r} inside a node keeps its data in another file, which "
                "is not read. Export with external_data=False."
            )
        _refuse_type(tensor.data_type, f"the constant {tensor.name!r}", name)
        if len(tensor.dims) > MAX_RANK or any(not 0 <= n <= MAX_SIZE for n in tensor.dims):
            raise ValueError(
                f"{name!r} has a constant {tensor.name!r} of shape {list(tensor.dims)[:20]}. "
                f"Expected at most {MAX_RANK} sizes of 0..{MAX_SIZE:,}. Export it again."
            )
    for node in model.graph.node:
        _refuse_absurd_steps(node, name)
        _refuse_missing_parts(node, name)
    constants = [tensor.name for tensor in model.graph.initializer]
    inputs = [port.name for port in model.graph.input]
    outputs = [port.name for port in model.graph.output]
    for kind, names in (("constants", constants), ("inputs", inputs), ("outputs", outputs)):
        twice = [each for each, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"{name!r} has two {kind} called {twice[0]!r}. Export it again.")
    if not outputs:
        raise ValueError(f"{name!r} has no outputs. Export the network again.")
    copied = sorted({*inputs, *constants} & set(outputs))
    if copied:
        raise ValueError(
            f"The output {copied[0]!r} of {name!r} is its own input or a constant: it does not "
            "depend on the image by any operator. Export the network again."
        )
    for port in model.graph.input:
        _refuse_other_port(port, name, is_input=True)
    for port in model.graph.output:
        _refuse_other_port(port, name, is_input=False)


def _refuse_other_versions(model: onnx.ModelProto, name: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    standard = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(standard) != 1 or not 1 <= standard[0] <= newest:
        raise ValueError(
            f"{name!r} must say which opset of the standard operators it was written for. Received:"
            f" {standard}. Expected one of 1..{newest}. Export it again, or update onnx."
        )
    if not 3 <= model.ir_version <= onnx.IR_VERSION:
        raise ValueError(
            f"{name!r} was written for version {model.ir_version} of the format (`ir_version`). "
            f"Expected 3..{onnx.IR_VERSION}. Export it again, or update onnx."
        )


def _refuse_missing_parts(node: onnx.NodeProto, name: str) -> None:
    """Refuse a Split with fewer or more parts than it names: onnxruntime ends the process."""
    if node.op_type != "Split":
        return
    given = {attribute.name: attribute for attribute in node.attribute}
    said = given["num_outputs"].i if "num_outputs" in given else len(node.output)
    said = len(given["split"].ints) if "split" in given else said
    if not all(node.output) or said != len(node.output):
        raise ValueError(
            f"Node {node.name!r} (Split) of {name!r} leaves out one of its outputs, or has too "
            f"many. Received: {list(node.output)} of {said} parts. Export it again."
        )


def _refuse_absurd_steps(node: onnx.NodeProto, name: str) -> None:
    for attribute in node.attribute:
        least = _STEPS.get(attribute.name)
        if least is None:
            continue
        steps = [attribute.i] if attribute.type == onnx.AttributeProto.INT else attribute.ints
        if any(not least <= step <= MAX_STEP for step in steps):
            raise ValueError(
                f"{name!r} has an operator {node.op_type!r} (node {node.name!r}) whose "
                f"{attribute.name!r} is {list(steps)[:20]}. Expected {least:,}..{MAX_STEP:,}. "
                "Export it again."
            )


def _refuse_other_port(port: onnx.ValueInfoProto, name: str, is_input: bool) -> None:
    if port.type.WhichOneof("value") != "tensor_type":
        raise ValueError(
            f"The input or output {port.name!r} of {name!r} is no tensor. Received: "
            f"{port.type.WhichOneof('value')}. Export the network for a batch of images."
        )
    tensor = port.type.tensor_type
    is_usable = tensor.elem_type != TensorProto.BFLOAT16  # NumPy has none to give to onnxruntime.
    _refuse_type(tensor.elem_type, f"the input or output {port.name!r}", name, is_usable)
    sizes = [size.dim_value for size in tensor.shape.dim]
    most = MAX_INPUT if is_input else MAX_OUTPUT
    if len(sizes) > MAX_RANK or _elements(sizes, is_input) > most:
        raise ValueError(
            f"The input or output {port.name!r} of {name!r} has the sizes {sizes[:20]}. Expected "
            f"at most {MAX_RANK}, of at most {most:,} elements. Export it for smaller images."
        )
    for size in tensor.shape.dim:
        if size.HasField("dim_value") and size.dim_value <= 0:
            size.ClearField("dim_value")


def _elements(sizes: list[int], is_input: bool) -> int:
    """Of one batch; an open batch is 1, another open size of an input an image's to compare with.

    An output's open sizes are what the network makes of the image.
    """
    return math.prod(
        size if size > 0 else 64 if position and is_input else 1
        for position, size in enumerate(sizes)
    )


def _refuse_type(data_type: int, what: str, name: str, is_usable: bool = True) -> None:
    if data_type in _READ_TYPES and is_usable:
        return
    has_name = data_type in TensorProto.DataType.values()
    raise NotImplementedError(
        f"{name!r} gives {what} the element type "
        f"{TensorProto.DataType.Name(data_type) if has_name else data_type}, which is not read. "
        "Export the network in float32."
    )
