"""What conversion asks of a file is worked out once and handed on."""

import collections
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import keras_amalgam.teachers
from keras_amalgam import teachers

FOLDER = str(Path(keras_amalgam.teachers.__file__).parent)
PASSES = ("fold_constants", "fuse_gelu", "fuse_layer_norm", "fuse_group_norm", "fuse_bias")
STEPS = ("read_graph", "check_valid", "graph_of_output", "name_map", "convert_file", "compare")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A convolution, a batch normalization and a head."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(4, 3, 3, 3)),
        **{name: rng.uniform(0.5, 1.5, 4) for name in ("scale", "bias", "mean", "variance")},
        "dense": rng.normal(size=(4, 2)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"], name="conv"),
        helper.make_node(
            "BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b"], name="norm"
        ),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flat"),
        helper.make_node("MatMul", ["d", "dense"], ["y"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(w.astype("float32"), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(model, path)
    return path


def calls_in(run):
    """The result of a function, and how often it called each function of the importer."""
    calls = collections.Counter()

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(FOLDER):
            calls[frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        return run(), calls
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("fold", [False, True])
def test_each_step_and_pass_runs_once_a_conversion(file, fold):
    passes = (*PASSES, "absorb_scale", *(["fuse_batch_norm"] if fold else []))
    model, calls = calls_in(lambda: teachers.from_onnx(file, fold_batch_norm=fold))
    assert {name: calls[name] for name in (*STEPS, *passes)} == dict.fromkeys((*STEPS, *passes), 1)
    assert set(model.provenance.batch_norm) == ({"norm"} if fold else set())


@pytest.mark.parametrize("fold", [False, True])
def test_comparison_afterwards_converts_once(file, fold):
    model = teachers.from_onnx(file, fold_batch_norm=fold, verify=False)
    _, calls = calls_in(lambda: teachers.check_parity(model, file))
    assert calls["convert_file"] == calls["fold_constants"] == 1
    del model.provenance  # Of a model that was saved without it, both ways are tried.
    _, calls = calls_in(lambda: teachers.check_parity(model, file))
    assert calls["convert_file"] == (2 if fold else 1)
