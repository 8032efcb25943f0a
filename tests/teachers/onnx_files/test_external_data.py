"""Weights beside an ONNX file are read from its own folder, within bounds."""

import hashlib

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.onnx_files import external_data
from keras_amalgam.teachers.onnx_files.file import read_onnx


@pytest.fixture
def saved(network, tmp_path):
    """The network with its weights in `weights.bin`."""
    path = tmp_path / "inner" / "network.onnx"
    path.parent.mkdir()
    copy = onnx.ModelProto.FromString(network.SerializeToString())  # Saving changes the model.
    onnx.save(copy, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def _set(path, key, value, tensors=slice(None)):
    """Change an entry of the external data of some tensors."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer[tensors]:
        kept = [(e.key, e.value) for e in tensor.external_data if e.key != key]
        del tensor.external_data[:]
        for each in [*kept, *([(key, value)] if value is not None else [])]:
            tensor.external_data.add(key=each[0], value=each[1])
    path.write_bytes(model.SerializeToString())


def test_weights_beside_the_file_are_read(saved, network):
    found = {
        t.name: onnx.numpy_helper.to_array(t) for t in read_onnx(saved).model.graph.initializer
    }
    for tensor in network.graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], onnx.numpy_helper.to_array(tensor))


def test_hash_covers_the_weights_beside_the_file(saved):
    first = teachers.from_onnx(saved).provenance.sha256
    weights = saved.with_name("weights.bin")
    both = hashlib.sha256(saved.read_bytes() + weights.read_bytes()).hexdigest()
    assert first == both
    content = bytearray(weights.read_bytes())
    content[3] ^= 1
    weights.write_bytes(content)
    assert teachers.from_onnx(saved).provenance.sha256 != first


def test_missing_weights_file_is_named(saved):
    saved.with_name("weights.bin").unlink()
    with pytest.raises(ValueError, match=r"weights in 'weights.bin', which is missing"):
        teachers.from_onnx(saved)


def test_cut_off_weights_file_is_refused(saved):
    weights = saved.with_name("weights.bin")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"in 'weights.bin', which does not hold it"):
        teachers.from_onnx(saved)


def test_length_that_does_not_fit_the_shape_is_refused(saved):
    _set(saved, "length", "8", slice(1))
    with pytest.raises(ValueError, match=r"is damaged: its data does not fit its shape"):
        teachers.from_onnx(saved)


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "1e3", "nan", "999999999999", "1" * 5000])
def test_place_outside_the_file_is_refused(saved, key, value):
    _set(saved, key, value, slice(1))
    with pytest.raises(ValueError, match="which does not hold it. Received"):
        teachers.from_onnx(saved)


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink"])
def test_weights_outside_the_folder_are_not_read(saved, tmp_path, kind):
    outside = tmp_path / "weights.bin"
    saved.with_name("weights.bin").rename(outside)
    location = {"parent": "../weights.bin", "absolute": str(outside), "symlink": "weights.bin"}
    if kind == "symlink":
        saved.with_name("weights.bin").symlink_to(outside)
    _set(saved, "location", location[kind])
    with pytest.raises(ValueError, match="outside its own folder"):
        teachers.from_onnx(saved)


@pytest.mark.parametrize("location", ["", None, "a\0b", "x" * 5000, "/dev/zero", "circle"])
def test_location_that_is_no_place_in_the_folder_is_refused(saved, location):
    saved.with_name("circle").symlink_to(saved.with_name("circle"))
    _set(saved, "location", location)
    with pytest.raises(ValueError, match="outside its own folder|is missing or no file"):
        teachers.from_onnx(saved)


@pytest.mark.parametrize("location", [".", "folder", "./folder/.."])
def test_folder_is_no_weights_file(saved, location):
    saved.with_name("folder").mkdir()
    _set(saved, "location", location)
    with pytest.raises(ValueError, match="is missing or no file"):
        teachers.from_onnx(saved)


def test_pipe_is_no_weights_file(saved):
    import os

    os.mkfifo(saved.with_name("pipe"))
    _set(saved, "location", "pipe")
    with pytest.raises(ValueError, match="is missing or no file"):
        teachers.from_onnx(saved)


def test_weights_in_a_folder_inside_are_read(saved):
    (saved.parent / "sub").mkdir()
    saved.with_name("weights.bin").rename(saved.parent / "sub" / "weights.bin")
    _set(saved, "location", "sub/../sub/weights.bin")
    assert teachers.from_onnx(saved).count_params() > 0


def test_weights_larger_than_the_bound_are_refused(saved, monkeypatch):
    size = saved.with_name("weights.bin").stat().st_size
    monkeypatch.setattr(external_data, "MAX_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"keeps {size:,} bytes of weights.*At most {size - 1:,}"):
        teachers.from_onnx(saved)


def test_many_tensors_at_one_place_are_counted_each(saved, monkeypatch):
    """A small file may refer to the same bytes again and again."""
    _set(saved, "offset", "0")
    _set(saved, "length", None)
    size = saved.with_name("weights.bin").stat().st_size
    monkeypatch.setattr(external_data, "MAX_BYTES", 2 * size)
    with pytest.raises(ValueError, match="bytes of weights in other files"):
        teachers.from_onnx(saved)


def test_external_data_of_a_tensor_inside_a_node_is_not_read(build, random, tmp_path):
    (tmp_path / "secret.bin").write_bytes(random(4).tobytes())
    tensor = onnx.numpy_helper.from_array(random(4), "inside")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    nodes = [make_node("Constant", [], ["c"]), make_node("Add", ["x", "c"], ["y"])]
    source = build([make_node("Relu", ["x"], ["y"])], (4,))
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    source.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))
    path = tmp_path / "network.onnx"
    path.write_bytes(source.SerializeToString())
    with pytest.raises(ValueError, match="'inside' inside a node keeps its data in another file"):
        teachers.from_onnx(path)
