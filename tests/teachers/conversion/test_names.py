"""Source names lead to layers."""

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.conversion.names import module_paths
from keras_amalgam.teachers.conversion.writer import as_layer_name
from keras_amalgam.teachers.onnx_files.graph import Node


def _node(name, scopes=None):
    metadata = {} if scopes is None else {"pkg.torch.onnx.name_scopes": scopes}
    return Node("Relu", "", 17, name, ("x",), ("y",), {}, metadata)


@pytest.mark.parametrize(
    ("node", "paths"),
    [
        (_node("/layer4/layer4.1/relu/Relu"), ["layer4", "layer4.1", "layer4.1.relu"]),
        (
            _node("/layer2/layer2.0/down/down.0/Conv"),
            ["layer2", "layer2.0", "layer2.0.down", "layer2.0.down.0"],
        ),
        (_node("/Flatten"), []),
        (_node("node_relu", "['', 'layer1', 'layer1.0', 'relu_2']"), ["layer1", "layer1.0"]),
        (_node("node_relu", "__import__('os').getcwd()"), []),
        (_node("StatefulPartitionedCall/model/block/Relu"), ["model", "model/block"]),
        (_node("relu"), []),
    ],
)
def test_modules_around_a_node_are_found(node, paths):
    assert module_paths(node) == paths


@pytest.mark.parametrize(
    ("source", "layer"),
    [
        ("/layer4/layer4.1/relu/Relu", "layer4_layer4.1_relu_Relu"),
        ("StatefulPartitionedCall/StatefulPartitionedCall/m/conv:0", "m_conv_0"),
        ("", "node"),
        ("///", "node"),
        ("ä b", "b"),
    ],
)
def test_layer_names_suit_keras(source, layer):
    assert as_layer_name(source) == layer


def test_nodes_tensors_and_modules_lead_to_their_layer(network, agrees):
    model = agrees(network)
    names = model.provenance.names
    assert names["/body/Add"] == names["a1"] == "body_Add"
    assert names["body"] == names["/body/relu/Relu"] == names["r2"] == "body_relu_Relu"
    assert names["stem"] == "stem_relu_Relu"
    assert names["stem.conv"] == "stem_conv_Conv"
    assert {layer.name for layer in model.layers} >= set(names.values())


def test_module_called_again_means_its_last_call(agrees, build):
    """As torch's older exporter numbers the calls of one `self.relu`, and of what is around it."""
    nodes = [
        make_node("Relu", ["x"], ["a"], name="/layer1/layer1.0/relu/Relu"),
        make_node("Neg", ["a"], ["b"], name="/layer1/layer1.0/Neg"),
        make_node("Relu", ["b"], ["c"], name="/layer1/layer1.0/relu_1/Relu"),
        make_node("Abs", ["c"], ["d"], name="/layer1/layer1.0_1/act/Abs"),
        make_node("Neg", ["d"], ["y"], name="/Neg"),
    ]
    names = agrees(build(nodes, (3, 4, 4))).provenance.names
    assert names["layer1.0.relu"] == names["layer1.0.relu_1"] == "layer1_layer1.0_relu_1_Relu"
    assert names["layer1.0"] == names["layer1.0.act"] == "layer1_layer1.0_1_act_Abs"


def test_numbered_module_with_weights_of_its_own_is_no_second_call(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "conv.weight"], ["a"], name="/conv/Conv"),
        make_node("Conv", ["a", "conv_1.weight"], ["b"], name="/conv_1/Conv"),
        make_node("Relu", ["b"], ["y"], name="/Relu"),
    ]
    weights = {"conv.weight": random(4, 3, 1, 1), "conv_1.weight": random(4, 4, 1, 1, seed=1)}
    names = agrees(build(nodes, (3, 4, 4), weights)).provenance.names
    assert (names["conv"], names["conv_1"]) == ("conv_Conv", "conv_1_Conv")


def test_name_of_a_node_goes_before_a_module_of_the_same_name(agrees, build):
    nodes = [
        make_node("Relu", ["x"], ["r"], name="block"),
        make_node("Neg", ["r"], ["n"], name="/block/Neg"),
        make_node("Abs", ["n"], ["y"], name="/Abs"),
    ]
    assert agrees(build(nodes, (3, 4, 4))).provenance.names["block"] == "block"


def test_alike_and_missing_node_names_give_different_layers(agrees, build):
    nodes = [
        make_node("Relu", ["x"], ["r"], name="/same"),
        make_node("Neg", ["r"], ["n"], name="same"),
        make_node("Abs", ["n"], ["y"]),
    ]
    layers = [layer.name for layer in agrees(build(nodes, (3, 4, 4))).layers]
    assert layers == ["x", "same", "same_2", "y"]


def test_input_name_is_a_python_argument_so_that_models_export(agrees, build, tmp_path):
    source = build([make_node("Relu", ["x"], ["y"])], (3, 4, 4))
    source.graph.input[0].name = source.graph.node[0].input[0] = "in"
    model = agrees(source)
    assert model.inputs[0].name == "input_in"


@pytest.fixture
def scaled_body(build, random):
    """A module that ends in a convolution, whose outputs are scaled outside of it."""
    nodes = [
        make_node("Conv", ["x", "a"], ["c"], name="/body/body.0/Conv"),
        make_node("Relu", ["c"], ["r"], name="/body/body.1/Relu"),
        make_node("Conv", ["r", "b"], ["d"], name="/body/body.2/Conv"),
        make_node("Mul", ["d", "scale"], ["m"], name="/Mul"),
        make_node("Relu", ["m"], ["y"], name="/head/Relu"),
    ]
    weights = {"a": random(4, 3, 1, 1), "b": random(4, 4, 1, 1, seed=1), "scale": random(4, 1, 1)}
    return build(nodes, (3, 4, 4), weights)


def test_module_whose_end_became_part_of_another_layer_has_no_name(scaled_body, agrees, tmp_path):
    names = agrees(scaled_body).provenance.names
    assert {"body", "body.2", "d"}.isdisjoint(names)
    assert names["body.1"] == names["r"] == "body_body.1_Relu"
    onnx.save(scaled_body, tmp_path / "scaled.onnx")
    taps = {tap.name: tap.module for tap in teachers.inspect(tmp_path / "scaled.onnx").taps}
    assert "body" not in taps.values()


def test_runtime_knows_the_module_where_the_source_ends_it(scaled_body, tmp_path):
    onnx.save(scaled_body, tmp_path / "scaled.onnx")
    images = np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
    runtime = teachers.open_runtime(tmp_path / "scaled.onnx", taps=["body", "d"], output_name="y")
    found = runtime.run(images)
    np.testing.assert_array_equal(found["body"], found["d"])
