"""Quantised networks against onnxruntime."""

from dataclasses import replace

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.conversion import convert as conversion
from keras_amalgam.teachers.conversion.operators import registry

SCALE = 0.025  # Of the quantised network's tensors.


def _pair(source, result, **attributes):
    """Nodes that quantise a tensor and take that back."""
    return [
        make_node("QuantizeLinear", [source, "s", "z"], [f"q_{result}"], **attributes),
        make_node("DequantizeLinear", [f"q_{result}", "s", "z"], [result], **attributes),
    ]


def _parameters(dtype: type = np.uint8, zero_point=100, scale=0.02):
    return {"s": np.float32(scale), "z": np.array(zero_point, dtype)}


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23])
@pytest.mark.parametrize("zero_point", [0, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("image", [(3, 5, 4), (7,)])
def test_quantised_tensor_agrees(agrees, build, opset, zero_point, dtype, image):
    agrees(build(_pair("x", "y"), image, _parameters(dtype, zero_point), opset=opset))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_wider_integers_agree(agrees, build, dtype):
    agrees(build(_pair("x", "y"), (3, 5, 4), _parameters(dtype, scale=1e-4), opset=21))


def test_zero_point_may_be_left_out(agrees, build):
    nodes = [
        make_node("QuantizeLinear", ["x", "s"], ["q"]),
        make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    agrees(build(nodes, (3, 5, 4), {"s": np.float32(0.02)}))


@pytest.mark.parametrize("name", ["UINT4", "INT4", "UINT8", "INT8", "UINT16", "INT16"])
def test_integers_of_a_named_type_agree(agrees, named_type, name):
    # NumPy has no integers of 4 bits, so the verification cannot look at them inside the source.
    agrees(named_type(name), verify=not name.endswith("4"))


def test_numbers_of_a_named_type_that_are_no_integers_are_refused(agrees, named_type):
    with pytest.raises(NotImplementedError, match="float8_e4m3fn; known are uint4"):
        agrees(named_type("FLOAT8E4M3FN"))


@pytest.fixture
def named_type(build):
    """A function that builds a graph whose node names the integers' type."""

    def make(name):
        code = getattr(TensorProto, name)
        nodes = [
            make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=code),
            make_node("DequantizeLinear", ["q", "s"], ["y"]),
        ]
        source = build(nodes, (3, 5, 4), {"s": np.float32(0.02)}, opset=21)
        source.ir_version = 10
        return source

    return make


@pytest.mark.parametrize(
    ("image", "axis"), [((3, 5, 4), 1), ((3, 5, 4), -1), ((3, 5, 4), 2), ((7,), 1), ((40,), -1)]
)
@pytest.mark.parametrize("opset", [13, 21])
def test_scale_along_an_axis_agrees(agrees, build, random, image, axis, opset):
    units = (1, *image)[axis]
    parameters = {
        "s": random(units, low=0.005, high=0.03),
        "z": (np.arange(units) * 3).astype(np.uint8),
    }
    agrees(build(_pair("x", "y", axis=axis), image, parameters, opset=opset))


def test_scale_along_a_flattened_map_agrees(agrees, build, random):
    nodes = [make_node("Flatten", ["x"], ["f"]), *_pair("f", "y", axis=1)]
    parameters = {"s": random(60, low=0.005, high=0.03), "z": np.arange(60).astype(np.uint8)}
    agrees(build(nodes, (3, 5, 4), parameters))


def test_halves_go_to_the_even_integer(agrees, build):
    nodes = [
        make_node("Floor", ["x"], ["f"]),
        make_node("Add", ["f", "half"], ["h"]),
        *_pair("h", "y"),
    ]
    constants = _parameters(np.int8, 0, scale=1) | {"half": np.float32(0.5)}
    agrees(build(nodes, (3, 5, 4), constants))


def test_integers_can_be_moved_and_cast(agrees, build):
    nodes = [
        make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make_node("Transpose", ["q"], ["t"], perm=[0, 2, 3, 1]),
        make_node("Cast", ["t"], ["integers"], to=TensorProto.FLOAT),
        make_node("DequantizeLinear", ["t", "s", "z"], ["y"]),
        make_node("Flatten", ["integers"], ["f"]),
        make_node("Flatten", ["y"], ["g"]),
    ]
    agrees(build(nodes, (3, 5, 4), _parameters(), outputs=["f", "g"]))


@pytest.fixture
def quantised_network(build, random):
    """Convolution, ReLU, pooling and a dense layer between quantised tensors and weights."""
    weights = (random(4, 3, 3, 3, seed=1, high=127, low=-127)).astype(np.int8)
    dense = (random(5, 4, seed=2, high=127, low=-127)).astype(np.int8)
    nodes = [
        *_pair("x", "a"),
        make_node("DequantizeLinear", ["w", "ws", "wz"], ["k"], axis=0),
        make_node("Conv", ["a", "k", "b"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        make_node("Relu", ["c"], ["r"]),
        *_pair("r", "d"),
        make_node("GlobalAveragePool", ["d"], ["p"]),
        *_pair("p", "e"),
        make_node("Flatten", ["e"], ["f"]),
        make_node("DequantizeLinear", ["v", "vs", "vz"], ["m"]),
        make_node("Gemm", ["f", "m"], ["g"], transB=1),
        *_pair("g", "y"),
    ]
    constants = {
        **_parameters(np.uint8, 128, scale=SCALE),
        "w": weights,
        "ws": random(4, seed=3, low=0.001, high=0.003),
        "wz": np.zeros(4, np.int8),
        "b": random(4, seed=4),
        "v": dense,
        "vs": np.float32(0.01),
        "vz": np.int8(0),
    }
    return build(nodes, (3, 9, 8), constants, opset=19, outputs=["d", "e", "y"])


def _steps_apart(source, images, path):
    """Quantisation steps between the source's outputs and ours, all elements of all outputs."""
    onnx.save(source, path)
    model = teachers.from_onnx(path, verify=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ours = model(images.transpose(0, 2, 3, 1)).values()
    apart = []
    for expected, received in zip(session.run(None, {"x": images}), ours, strict=True):
        received = keras.ops.convert_to_numpy(received)
        received = received.transpose(0, 3, 1, 2) if received.ndim == 4 else received
        apart.append(np.abs(expected - received).ravel() / SCALE)
    return np.concatenate(apart)


def test_quantised_network_agrees_within_one_step(quantised_network, random, tmp_path):
    # onnxruntime fuses these nodes into integer arithmetic, which may round to the next step.
    images = random(40, 3, 9, 8, low=-3, high=3)
    apart = _steps_apart(quantised_network, images, tmp_path / "network.onnx")
    assert apart.max() <= 1.001
    assert np.mean(apart < 1e-3) >= 0.99


@pytest.mark.parametrize(("name", "factor"), [("ws", 1.03), ("vs", 1.1), ("b", 0.9)])
def test_other_weights_of_a_quantised_network_would_be_noticed(
    quantised_network, random, tmp_path, monkeypatch, name, factor
):
    images = random(40, 3, 9, 8, low=-3, high=3)
    read = conversion.read_graph

    def with_other_weights(model):
        graph = read(model)
        return replace(
            graph, constants={**graph.constants, name: graph.constants[name] * np.float32(factor)}
        )

    monkeypatch.setattr(conversion, "read_graph", with_other_weights)
    apart = _steps_apart(quantised_network, images, tmp_path / "network.onnx")
    assert apart.max() > 1.001 or np.mean(apart < 1e-3) < 0.99


def test_another_zero_point_would_be_noticed(agrees, build, monkeypatch):
    handler = registry._HANDLERS["", "DequantizeLinear"][10]

    def without_zero_point(call):
        call.inputs[2] = None
        return handler(call)

    monkeypatch.setitem(registry._HANDLERS["", "DequantizeLinear"], 10, without_zero_point)
    with pytest.raises(AssertionError, match="largest error 2"):
        agrees(build(_pair("x", "y"), (3, 5, 4), _parameters()))


def test_scales_of_blocks_are_refused(agrees, build, random):
    nodes = _pair("x", "y", axis=1, block_size=2)
    parameters = {"s": random(1, 2, 5, 4, low=0.1), "z": np.zeros((1, 2, 5, 4), np.uint8)}
    with pytest.raises(NotImplementedError, match="block_size"):
        agrees(build(nodes, (4, 5, 4), parameters, opset=21))
