"""An ONNX file is untrusted input."""

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.onnx_files import bounds as onnx_bounds
from keras_amalgam.teachers.onnx_files import file as onnx_file


@pytest.fixture
def saved(network, tmp_path):
    """The network's bytes in a file that the test may spoil."""
    path = tmp_path / "network.onnx"
    onnx.save(network, path)
    return path


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_cut_off_file_is_refused(saved, fraction):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match=r"'network.onnx' is (cut off|no ONNX model|not a valid)"):
        teachers.from_onnx(saved)


@pytest.mark.parametrize("content", [b"hello, this is text", b"\x89PNG\r\n", b"\x00" * 100])
def test_file_that_is_no_onnx_is_refused(saved, content):
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"no ONNX"):
        teachers.from_onnx(saved)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*missing.onnx'"):
        teachers.from_onnx(tmp_path / "missing.onnx")


def test_directory_is_refused(tmp_path):
    with pytest.raises(ValueError, match="from_saved_model"):
        teachers.from_onnx(tmp_path)


@pytest.mark.parametrize("path", [None, 3, b"network.onnx"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(TypeError, match=r"path of an .onnx file. Received"):
        teachers.from_onnx(path)


def _cycle(model):
    model.graph.node[0].input[0] = "r2"


def _undefined(model):
    model.graph.node[3].input[0] = "nowhere"


def _defined_twice(model):
    model.graph.node[4].output[0] = "c1"


def _missing_attribute(model):
    del model.graph.node[6].attribute[:]


def _wrong_type(model):
    attribute = next(a for a in model.graph.node[0].attribute if a.name == "pads")
    attribute.CopyFrom(onnx.helper.make_attribute("pads", "one"))


@pytest.mark.parametrize(
    "spoil", [_cycle, _undefined, _defined_twice, _missing_attribute, _wrong_type]
)
def test_invalid_graph_is_refused(network, tmp_path, spoil):
    spoil(network)
    path = tmp_path / "network.onnx"
    onnx.save(network, path)
    with pytest.raises(ValueError, match=r"is not a valid ONNX model.*Export it again"):
        teachers.from_onnx(path)


def _short_data(model):
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def _fewer_means(model):
    mean = next(t for t in model.graph.initializer if t.name == "m")
    mean.CopyFrom(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "m"))


def _three_pads(model):
    attribute = next(a for a in model.graph.node[0].attribute if a.name == "pads")
    del attribute.ints[-1]


def _flat_kernel(model):
    kernel = next(t for t in model.graph.initializer if t.name == "w2")
    kernel.CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 36), np.float32), "w2"))


def _wrong_groups(model):
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("group", 7))


@pytest.mark.parametrize(
    "spoil", [_short_data, _fewer_means, _three_pads, _flat_kernel, _wrong_groups]
)
def test_graph_that_does_not_fit_together_is_refused(network, tmp_path, spoil):
    spoil(network)
    path = tmp_path / "network.onnx"
    path.write_bytes(network.SerializeToString())
    with pytest.raises(ValueError, match=r"is damaged|does not fit its inputs|not a valid"):
        teachers.from_onnx(path)


def test_too_many_nodes_are_refused(saved, monkeypatch):
    monkeypatch.setattr(onnx_bounds, "MAX_NODES", 8)
    with pytest.raises(ValueError, match="has 9 nodes, .*At most 8"):
        teachers.from_onnx(saved)


def test_two_inputs_are_refused(network, tmp_path):
    second = onnx.helper.make_tensor_value_info("x2", onnx.TensorProto.FLOAT, ["batch", 3])
    network.graph.input.append(second)
    onnx.save(network, tmp_path / "network.onnx")
    with pytest.raises(ValueError, match=r"2 inputs, \['x', 'x2'\]"):
        teachers.from_onnx(tmp_path / "network.onnx")


def test_output_that_no_image_reaches_is_refused(build, random, tmp_path):
    nodes = [make_node("Relu", ["x"], ["y"]), make_node("Neg", ["c"], ["z"])]
    source = build(nodes, (4,), {"c": random(1, 4)}, outputs=["y", "z"])
    onnx.save(source, tmp_path / "network.onnx")
    with pytest.raises(ValueError, match="output 'z' does not depend on the image"):
        teachers.from_onnx(tmp_path / "network.onnx")


def test_output_without_a_shape_is_read(network, agrees):
    """The standard's checker asks for one; runtimes do without."""
    network.graph.output[0].type.tensor_type.ClearField("shape")
    assert agrees(network).output_shape == (None, 5)


def test_output_of_many_open_sizes_is_read(agrees, build):
    nodes = [make_node("Reshape", ["x", "shape"], ["y"])]
    source = build(nodes, (64,), {"shape": np.array([0, 2, 2, 2, 2, 4])})
    for number, size in enumerate(source.graph.output[0].type.tensor_type.shape.dim):
        size.dim_param = f"open_{number}"
    agrees(source)


def test_split_without_one_of_its_parts_is_refused(build, tmp_path):
    """Onnxruntime ends the process on it."""
    nodes = [
        make_node("Split", ["x"], ["a", "b", "c"], axis=1),
        make_node("Add", ["a", "c"], ["y"]),
    ]
    source = build(nodes, (6, 5, 4), opset=13)
    source.graph.node[0].output[1] = ""
    onnx.save(source, tmp_path / "network.onnx")
    with pytest.raises(ValueError, match=r"Split.*leaves out one of its outputs"):
        teachers.from_onnx(tmp_path / "network.onnx")


@pytest.mark.parametrize(("opset", "named"), [(11, {"split": [3, 3]}), (18, {"num_outputs": 2})])
def test_split_with_more_parts_than_it_names_is_refused(build, tmp_path, opset, named):
    """Onnxruntime ends the process on it."""
    nodes = [
        make_node("Split", ["x"], ["a", "b"], axis=1, **named),
        make_node("Add", ["a", "b"], ["y"]),
    ]
    source = build(nodes, (6, 5, 4), opset=opset)
    source.graph.node[0].output.append("more")
    onnx.save(source, tmp_path / "network.onnx")
    with pytest.raises(ValueError, match=r"has too many. Received: .*'more'\] of 2 parts"):
        teachers.from_onnx(tmp_path / "network.onnx")


def test_initializers_listed_as_inputs_are_constants(network, agrees):
    """As files of IR version 3 do."""
    for tensor in network.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        network.graph.input.append(info)
    assert agrees(network).output_shape == (None, 5)


def test_sparse_constant_is_refused(build, random, tmp_path):
    source = build([make_node("Mul", ["x", "c"], ["y"], name="mul")], (4,), {"c": random(4)})
    values = onnx.numpy_helper.from_array(random(2), "c")
    indices = onnx.numpy_helper.from_array(np.array([0, 2]), "indices")
    sparse = onnx.helper.make_sparse_tensor(values, indices, [4])
    del source.graph.initializer[:]
    source.graph.sparse_initializer.append(sparse)
    (tmp_path / "network.onnx").write_bytes(source.SerializeToString())
    with pytest.raises(NotImplementedError, match="constant 'c' as a sparse tensor"):
        teachers.from_onnx(tmp_path / "network.onnx")


def test_file_larger_than_protobuf_reads_is_refused(saved, monkeypatch):
    size = saved.stat().st_size
    monkeypatch.setattr(onnx_file, "MAX_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"holds at most 2 GB. Received: {size:,} bytes"):
        teachers.from_onnx(saved)


def test_path_with_a_nul_byte_is_refused():
    with pytest.raises((ValueError, FileNotFoundError), match="Check the path"):
        teachers.from_onnx("network\0.onnx")


@pytest.mark.parametrize("spoilt", [False, True])
def test_deprecated_operator_is_read_and_the_rest_is_still_checked(build, random, tmp_path, spoilt):
    """The standard's checker refuses GroupNormalization of opset 18, and looks no further."""
    constants = {"s": random(2, seed=1), "o": random(2, seed=2)}
    nodes = [
        make_node("GroupNormalization", ["x", "s", "o"], ["g"], num_groups=2),
        make_node("Relu", ["g"], ["y"]),
    ]
    source = build(nodes, (6, 5, 4), constants, opset=18)
    # The standard's shape inference does not pass a deprecated operator either.
    source.graph.output[0].type.CopyFrom(source.graph.input[0].type)
    if spoilt:
        source.graph.node[1].attribute.append(onnx.helper.make_attribute("alpha", 0.5))
    onnx.save(source, tmp_path / "network.onnx")
    if spoilt:
        with pytest.raises(ValueError, match=r"not a valid ONNX model.*alpha"):
            teachers.from_onnx(tmp_path / "network.onnx")
    else:
        teachers.from_onnx(tmp_path / "network.onnx")  # Compares with onnxruntime.
