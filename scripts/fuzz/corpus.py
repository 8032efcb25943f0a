"""What the fuzzer starts from: small valid ONNX files over every operator that can be converted."""

import pathlib
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "keras_amalgam" / "data" / "demo" / "teachers" / "digits.onnx"
MAX_SEED_BYTES = 200_000


def corpus() -> dict[str, bytes]:
    """Name to file: onnx's own test graphs of known operators, patterns, the demo's teacher."""
    files = {"digits": DIGITS.read_bytes()}
    for model in patterns():
        files[model.graph.name] = model.SerializeToString()
    return files | standard_graphs()


def standard_graphs() -> dict[str, bytes]:
    """The graphs that onnx tests its operators with, as networks of one image input.

    The first floating-point input of two axes or more becomes the image, with an open batch; the
    others become constants of their test values.
    """
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    files = {}
    for case in sorted(cases, key=lambda case: case.name):
        model = case.model
        if model is None or not case.data_sets or not are_known(model):
            continue
        network = _as_network(model, case.data_sets[0][0])
        if network is not None and network.ByteSize() < MAX_SEED_BYTES:
            files[case.name] = network.SerializeToString()
    return files


def are_known(model: onnx.ModelProto) -> bool:
    """Whether every operator of a model is converted or folded."""
    from keras_amalgam.teachers.conversion.operators import converts
    from keras_amalgam.teachers.onnx_files.graph import Node

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return all(
        converts(Node(n.op_type, n.domain, opsets.get(n.domain, 0), n.name, (), ()))
        for n in model.graph.node
    )


def patterns() -> list[onnx.ModelProto]:
    """Graphs as networks hold them: a residual net, attention, window partition, gates, shapes."""
    return [_residual(), _gates(), _attention(), _windows(), _shapes(), _function()]


def _as_network(model: onnx.ModelProto, values: list) -> onnx.ModelProto | None:
    network = onnx.ModelProto()
    network.CopyFrom(model)
    ports = list(network.graph.input)
    arrays = dict(zip([port.name for port in ports], values, strict=False))
    if len(arrays) != len(ports) or not all(isinstance(a, np.ndarray) for a in arrays.values()):
        return None
    image = next(
        (p for p in ports if arrays[p.name].ndim >= 2 and arrays[p.name].dtype == np.float32), None
    )
    if image is None or any(a.dtype.kind not in "fiub" for a in arrays.values()):
        return None
    del network.graph.input[:]
    network.graph.input.append(image)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    for port in network.graph.output:
        if port.type.tensor_type.shape.dim:
            port.type.tensor_type.shape.dim[0].dim_param = "any"
    for name, array in arrays.items():
        if name != image.name:
            network.graph.initializer.append(numpy_helper.from_array(array, name))
    return network


def _model(name: str, image: list, nodes: list, constants: dict, functions: tuple = ()):
    """A checked model of input `x` and output `y`."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *image])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))
    return onnx.shape_inference.infer_shapes(model)


def _weights(*shape: int) -> np.ndarray:
    generator = np.random.default_rng(len(shape) + sum(shape))
    return generator.uniform(-0.5, 0.5, shape).astype(np.float32)


def _residual() -> onnx.ModelProto:
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    node = helper.make_node
    norm = {"s": _weights(4) + 1, "o": _weights(4), "m": _weights(4), "v": _weights(4) + 1}
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], **conv),
        node("BatchNormalization", ["c1", *norm], ["b1"]),
        node("Relu", ["b1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], group=4, **conv),
        node("Add", ["c2", "r1"], ["a1"]),
        node("MaxPool", ["a1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("AveragePool", ["p1"], ["p2"], kernel_shape=[2, 2], ceil_mode=1),
        node("Flatten", ["p2"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    weights = {"w1": _weights(4, 3, 3, 3), "w2": _weights(4, 1, 3, 3), "b2": _weights(4)}
    last = {"w3": _weights(5, 48), "b3": _weights(5)}
    return _model("residual", [3, 7, 9], nodes, weights | norm | last)


def _gates() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("GlobalAveragePool", ["x"], ["p"]),
        node("Conv", ["p", "w1"], ["c"], kernel_shape=[1, 1]),
        node("HardSigmoid", ["c"], ["h"]),
        node("Mul", ["x", "h"], ["g"]),
        node("Concat", ["g", "x"], ["t"], axis=1),
        node("Clip", ["t", "low", "high"], ["k"]),
        node("ReduceMean", ["k"], ["r"], axes=[2, 3], keepdims=0),
        node("MatMul", ["r", "w2"], ["m"]),
        node("Add", ["m", "b"], ["l"]),
        node("Softmax", ["l"], ["y"]),
    ]
    weights = {"w1": _weights(4, 4, 1, 1), "w2": _weights(8, 3), "b": _weights(3)}
    return _model("gates", [4, 5, 6], nodes, weights | _clip_bounds())


def _clip_bounds() -> dict[str, np.ndarray]:
    return {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}


def _attention() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Reshape", ["c", "flat"], ["f"]),
        node("Transpose", ["f"], ["t"], perm=[0, 2, 1]),
    ]
    for name, permutation in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["t", f"w{name}"], [f"{name}0"]),
            node("Reshape", [f"{name}0", "heads"], [f"{name}1"]),
            node("Transpose", [f"{name}1"], [name], perm=permutation),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["s"]),
        node("Div", ["s", "scale"], ["d"]),
        node("Softmax", ["d"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "joined"], ["o2"]),
        node("ReduceMean", ["o2"], ["y"], axes=[1], keepdims=0),
    ]
    shapes = {"flat": [0, 8, -1], "heads": [0, -1, 2, 4], "joined": [0, -1, 8]}
    constants = {name: np.array(shape, np.int64) for name, shape in shapes.items()}
    weights = {f"w{name}": _weights(8, 8) for name in "qkv"} | {"w": _weights(8, 3, 4, 4)}
    return _model("attention", [3, 8, 12], nodes, constants | weights | {"scale": np.float32(2.0)})


def _windows() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "split"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 4, 3, 5, 1]),
        node("Reshape", ["b", "tokens"], ["c"]),
        node("MatMul", ["c", "w"], ["d"]),
        node("Reshape", ["d", "back"], ["e"]),
        node("Transpose", ["e"], ["f"], perm=[0, 5, 1, 3, 2, 4]),
        node("Reshape", ["f", "image"], ["y"]),
    ]
    shapes = {
        "split": [-1, 4, 2, 3, 2, 3],
        "tokens": [-1, 9, 4],
        "back": [-1, 2, 2, 3, 3, 4],
        "image": [-1, 4, 6, 6],
    }
    constants = {name: np.array(shape, np.int64) for name, shape in shapes.items()}
    return _model("windows", [4, 6, 6], nodes, constants | {"w": _weights(4, 4)})


def _shapes() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["u"]),
        node("Concat", ["u", "minus"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["f"]),
        node("Div", ["ten", "three"], ["i"]),
        node("Cast", ["i"], ["j"], to=TensorProto.FLOAT),
        node("Mul", ["f", "j"], ["y"]),
    ]
    integers = {"zero": 0, "axes": [0], "minus": [-1], "ten": 10, "three": 3}
    return _model("shapes", [2, 3, 4], nodes, {k: np.array(v) for k, v in integers.items()})


def _function() -> onnx.ModelProto:
    node = helper.make_node
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    inner = helper.make_function("local", "Act", ["a"], ["b"], [node("Relu", ["a"], ["b"])], opsets)
    twice = [
        node("Act", ["a"], ["m"], domain="local"),
        node("Act", ["m"], ["b"], domain="local"),
    ]
    outer = helper.make_function("local", "Twice", ["a"], ["b"], twice, opsets)
    nodes = [node("Twice", ["x"], ["t"], domain="local"), node("Neg", ["t"], ["y"])]
    return _model("function", [3, 4, 4], nodes, {}, (inner, outer))
