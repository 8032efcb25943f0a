"""Small files that ask for much, or that are no graph: refused before anything is built."""

import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.onnx_files import bounds as onnx_bounds
from keras_amalgam.teachers.onnx_files.file import read_onnx


@pytest.fixture
def refused(tmp_path):
    """Expect an error from a model, or from bytes, within seconds of processor time."""

    def check(source, message, error=ValueError):
        path = tmp_path / "network.onnx"
        content = source if isinstance(source, bytes) else source.SerializeToString()
        path.write_bytes(content)
        began = time.process_time()
        with pytest.raises(error, match=message):
            teachers.from_onnx(path)
        assert time.process_time() - began < 10

    return check


@pytest.fixture
def relu(build):
    """A model of one node, to be spoiled."""
    return build([make_node("Relu", ["x"], ["y"], name="relu")], (4,))


def _field(number, content):
    """A field of bytes in protobuf's encoding."""
    length, encoded = len(content), b""
    while True:
        encoded += bytes([length & 127 | (128 if length > 127 else 0)])
        length >>= 7
        if not length:
            return bytes([number << 3 | 2]) + encoded + content


@pytest.mark.slow
def test_millions_of_empty_nodes_are_refused_without_building_them(refused):
    refused(b"\x08\x08" + _field(7, b"\x0a\x00" * 3_000_000), "more than 2,000,000 entries")


def test_deep_nesting_is_refused(refused, relu):
    kind = _field(1, b"\x08\x01")
    for _ in range(40):
        kind = _field(4, _field(1, kind))
    graph = relu.graph.SerializeToString() + _field(13, _field(1, b"v") + _field(2, kind))
    refused(b"\x08\x08" + _field(7, graph), "nested deeper than 64 levels")


def test_name_that_is_no_text_is_refused(refused, relu):
    refused(
        relu.SerializeToString().replace(b"relu", b"\xff\xfe\x80u"), "'name' inside is no UTF-8"
    )


@pytest.mark.parametrize("name", ["", "/", "a b", "ä", "\x00", "../../x", "\u202e", "n" * 5000])
def test_odd_names_are_read(agrees, build, name):
    agrees(build([make_node("Relu", ["x"], ["y"], name=name)], (4,)))


def _local(name, *nodes):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["b"], list(nodes), opsets)


def _calls(relu, *functions):
    relu.graph.node[0].CopyFrom(make_node("F0", ["x"], ["y"], domain="local"))
    relu.opset_import.append(helper.make_opsetid("local", 1))
    relu.functions.extend(functions)
    return relu


def _doubling(depth):
    """Functions that call the next one twice each."""
    functions = []
    for level in range(depth):
        is_last = level == depth - 1
        name, domain = ("Relu", "") if is_last else (f"F{level + 1}", "local")
        calls = [make_node(name, ["a"], ["m"], domain=domain)]
        calls.append(make_node(name, ["m"], ["b"], domain=domain))
        functions.append(_local(f"F{level}", *calls))
    return functions


def test_functions_that_multiply_are_refused_before_they_are_written_out(refused, relu):
    refused(_calls(relu, *_doubling(60)), "has 1,152,921,504,606,846,976 nodes.*At most 50,000")


def test_functions_are_written_out(agrees, relu):
    assert len(agrees(_calls(relu, *_doubling(3))).layers) == 9


def test_functions_whose_constants_multiply_are_refused(refused, relu, monkeypatch):
    monkeypatch.setattr(onnx_bounds, "MAX_BYTES", 60_000)
    functions = _doubling(5)
    value = numpy_helper.from_array(np.zeros(1000, np.float32))
    functions[-1].node.append(make_node("Constant", [], ["unused"], value=value))
    refused(_calls(relu, *functions), "bytes in its nodes once local functions are written out")


@pytest.mark.parametrize("cycle", [["F0"], ["F1", "F0"]])
def test_functions_that_call_themselves_are_refused(refused, relu, cycle):
    functions = [
        _local(f"F{index}", make_node(called, ["a"], ["b"], domain="local"))
        for index, called in enumerate(cycle)
    ]
    refused(_calls(relu, *functions), "call themselves, or each other deeper than 64")


def test_external_data_inside_a_function_is_not_read(refused, relu):
    tensor = TensorProto(name="inside", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="network.onnx")
    nodes = [make_node("Constant", [], ["c"]), make_node("Add", ["a", "c"], ["b"])]
    nodes[0].attribute.append(helper.make_attribute("value", tensor))
    refused(_calls(relu, _local("F0", *nodes)), "'inside' inside a node keeps its data in another")


def test_nodes_inside_branches_are_counted(refused, relu, monkeypatch):
    monkeypatch.setattr(onnx_bounds, "MAX_NODES", 5)
    branch = helper.make_graph([make_node("Relu", ["x"], [f"t{i}"]) for i in range(6)], "b", [], [])
    relu.graph.node[0].attribute.append(helper.make_attribute("then_branch", branch))
    refused(relu, "has 7 nodes")


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
def test_branches_and_loops_are_refused(refused, relu, operator):
    branch = helper.make_graph([make_node("Relu", ["x"], ["t"])], "b", [], [])
    node = make_node(operator, ["x"], ["y"], name="branch", body=branch)
    relu.graph.node[0].CopyFrom(node)
    refused(relu, f"operator '{operator}'.*node 'branch'", NotImplementedError)


@pytest.mark.parametrize("dims", [[2**40], [2**32, 2**32], [-1], [1] * 20, [0, 2**62]])
def test_constant_that_declares_more_than_it_holds_is_refused(refused, build, random, dims):
    source = build([make_node("Add", ["x", "c"], ["y"])], (4,), {"c": random(4)})
    source.graph.initializer[0].dims[:] = dims
    refused(source, "constant 'c' of shape|'c' is damaged")


@pytest.mark.parametrize("kind", ["STRING", "COMPLEX64", "FLOAT8E4M3FN", "INT4", 99, 0])
def test_element_types_that_are_not_read_are_named(refused, build, random, kind):
    source = build([make_node("Add", ["x", "c"], ["y"])], (4,), {"c": random(4)})
    number = TensorProto.DataType.Value(kind) if isinstance(kind, str) else kind
    source.graph.initializer[0].data_type = number
    kind = "UNDEFINED" if kind == 0 else kind
    refused(source, f"gives the constant 'c' the element type {kind}", NotImplementedError)
    source.graph.initializer[0].data_type = TensorProto.FLOAT
    source.graph.input[0].type.tensor_type.elem_type = number
    refused(source, f"input or output 'x' the element type {kind}", NotImplementedError)


def test_brain_floats_are_read_as_constants_alone(refused, relu):
    """onnxruntime cannot take them from NumPy."""
    relu.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    refused(relu, "input or output 'x' the element type BFLOAT16", NotImplementedError)


def _no_opset(model):
    del model.opset_import[:]


def _opset(version):
    return lambda model: setattr(model.opset_import[0], "version", version)


def _two_opsets(model):
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))


@pytest.mark.parametrize("spoil", [_no_opset, _opset(0), _opset(-3), _opset(4096), _two_opsets])
def test_opset_that_is_none_is_refused(refused, relu, spoil):
    spoil(relu)
    refused(relu, "must say which opset of the standard operators.*Expected one of 1..")


@pytest.mark.parametrize("version", [1, 99, 2**40, -1])
def test_absurd_version_of_the_format_is_refused(refused, relu, version):
    relu.ir_version = version
    refused(relu, rf"version {version} of the format \(`ir_version`\). Expected 3..")


def _output_is_input(model):
    model.graph.output[0].name = "x"


def _output_is_constant(model):
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 4), np.float32), "y"))


@pytest.mark.parametrize("spoil", [_output_is_input, _output_is_constant])
def test_output_that_no_operator_makes_is_refused(refused, relu, spoil):
    spoil(relu)
    refused(relu, "is its own input or a constant: it does not depend on the image")


def test_graph_without_outputs_is_refused(refused, relu):
    del relu.graph.output[:]
    refused(relu, "no outputs|no ONNX model")


@pytest.mark.parametrize("part", ["input", "output"])
def test_two_ports_of_one_name_are_refused(refused, relu, part):
    ports = getattr(relu.graph, part)
    ports.append(ports[0])
    refused(relu, f"has two {part}s called '[xy]'")


def test_two_constants_of_one_name_are_refused(refused, build, random):
    source = build([make_node("Add", ["x", "c"], ["y"])], (4,), {"c": random(4)})
    source.graph.initializer.append(source.graph.initializer[0])
    refused(source, "has two constants called 'c'")


@pytest.mark.parametrize("part", ["input", "output"])
def test_what_is_no_tensor_is_refused(refused, relu, part):
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    port = getattr(relu.graph, part)[0]
    port.type.CopyFrom(helper.make_sequence_type_proto(element))
    refused(relu, "is no tensor. Received: sequence_type")
    port.ClearField("type")
    refused(relu, "is no tensor. Received: None")


@pytest.mark.parametrize(
    "shape",
    [[1] * 9, [1, 2**40], [2**26, 4], [1, 3, 2**20, 2**20], [0, 0, 2**22], [0, 2, 2**24]],
)
def test_input_of_absurd_sizes_is_refused(refused, relu, shape):
    relu.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    refused(relu, r"'x' of 'network.onnx' has the sizes \[.*Expected at most 8")


@pytest.mark.parametrize("size", [0, -1])
def test_batch_that_is_not_positive_is_open(relu, tmp_path, size):
    """As some exporters write it."""
    relu.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    relu.graph.output[0].type.tensor_type.shape.dim[0].dim_value = size
    path = tmp_path / "network.onnx"
    path.write_bytes(relu.SerializeToString())
    model = teachers.from_onnx(path)
    assert model.input_shape == (None, 4)
    images = np.array([[-1, 2, -3, 4]] * 3, np.float32)
    np.testing.assert_array_equal(model(images), np.maximum(images, 0))


def test_unused_nodes_are_left_out_before_onnxruntime_runs_them(relu, tmp_path):
    """It did, and so a file of 300 bytes took 8 GB and half a minute."""
    nodes = [
        make_node("Constant", [], ["size"], value_ints=[2**31]),
        make_node("ConstantOfShape", ["size"], ["unused"]),
    ]
    relu.graph.node.extend(nodes)
    path = tmp_path / "network.onnx"
    path.write_bytes(relu.SerializeToString())
    assert [node.op_type for node in read_onnx(path).model.graph.node] == ["Relu"]
    relu.graph.output.append(relu.graph.output[0])
    relu.graph.output[1].name = "size"
    path.write_bytes(relu.SerializeToString())
    assert [node.op_type for node in read_onnx(path).model.graph.node] == ["Relu", "Constant"]


def test_what_a_branch_reads_is_needed(relu, tmp_path):
    made = make_node("Neg", ["x"], ["outside"])
    branch = helper.make_graph([make_node("Abs", ["outside"], ["t"])], "b", [], [])
    relu.graph.node[0].attribute.append(helper.make_attribute("then_branch", branch))
    relu.graph.node.insert(0, made)
    path = tmp_path / "network.onnx"
    path.write_bytes(relu.SerializeToString())
    assert [node.op_type for node in read_onnx(path).model.graph.node] == ["Neg", "Relu"]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("strides", [2**31, 2]),
        ("strides", [0, 1]),
        ("kernel_shape", [-1, 1]),
        ("dilations", [1, 2**62]),
        ("pads", [0, 0, 2**40, 0]),
        ("group", 2**31),
    ],
)
def test_windows_of_absurd_sizes_are_refused(refused, build, attribute, value):
    """TensorFlow ended the process on such strides."""
    source = build([make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1])], (1, 2, 2))
    kept = [a for a in source.graph.node[0].attribute if a.name != attribute]
    del source.graph.node[0].attribute[:]
    source.graph.node[0].attribute.extend([*kept, helper.make_attribute(attribute, value)])
    refused(source, f"operator 'MaxPool'.*whose '{attribute}' is .*Expected -?[0-9]")


def test_many_large_tensors_are_refused_together(refused, build):
    """None of them is too large by itself; a comparison would hold them all."""
    nodes = [
        make_node("Tile", ["x", "times"], ["t0"]),
        *(make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(12)),
        make_node("GlobalAveragePool", ["t12"], ["y"]),
    ]
    times = {"times": np.array([1, 1, 800, 800])}
    refused(build(nodes, (3, 8, 8), times), r"would make 1,1\d\d,\d+,\d+ numbers")
