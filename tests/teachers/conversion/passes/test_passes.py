"""Passes change the graph and never the numbers."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

ROOT = np.float32(np.sqrt(2))
GELUS = {
    "pytorch": [
        make_node("Div", ["c", "root"], ["d"]),
        make_node("Erf", ["d"], ["e"]),
        make_node("Add", ["e", "one"], ["p"]),
        make_node("Mul", ["c", "p"], ["m"]),
        make_node("Mul", ["m", "half"], ["y"], name="gelu"),
    ],
    "half_of_the_input": [
        make_node("Mul", ["c", "inverse"], ["d"]),
        make_node("Erf", ["d"], ["e"]),
        make_node("Add", ["one", "e"], ["p"]),
        make_node("Mul", ["half", "c"], ["h"]),
        make_node("Mul", ["h", "p"], ["y"], name="gelu"),
    ],
    "half_of_the_sum": [
        make_node("Mul", ["inverse", "c"], ["d"]),
        make_node("Erf", ["d"], ["e"]),
        make_node("Add", ["e", "one"], ["p"]),
        make_node("Mul", ["p", "half"], ["h"]),
        make_node("Mul", ["h", "c"], ["y"], name="gelu"),
    ],
}


def _gelu(build, random, nodes, **changed):
    constants = {
        "w": random(4, 3, 1, 1),
        "root": ROOT,
        "inverse": 1 / ROOT,
        "one": np.float32(1),
        "half": np.float32(0.5),
    }
    return build([make_node("Conv", ["x", "w"], ["c"]), *nodes], (3, 5, 4), constants | changed)


@pytest.mark.parametrize("form", GELUS)
def test_spelled_out_gelu_becomes_one_activation(agrees, build, random, form):
    model = agrees(_gelu(build, random, GELUS[form]))
    assert model.get_layer("gelu").activation is keras.activations.gelu
    assert len(model.layers) == 3


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        ("pytorch", {"half": np.float32(0.7)}),
        ("pytorch", {"root": np.float32(2)}),
        ("pytorch", {"one": np.float32(2)}),
        ("half_of_the_sum", {"inverse": np.float32(1)}),
    ],
)
def test_what_only_looks_like_gelu_is_left_alone(agrees, build, random, form, changed):
    model = agrees(_gelu(build, random, GELUS[form], **changed))
    assert not isinstance(model.get_layer("gelu"), keras.layers.Activation)


def test_folded_batch_norms_are_gone_and_change_nothing(agrees, network):
    kept = agrees(network)
    folded = agrees(network, fold_batch_norm=True)

    def norms(model):
        return [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]

    assert (len(norms(kept)), len(norms(folded))) == (1, 0)
    names = folded.provenance.names
    assert names["/bn"] == "bn" and isinstance(folded.get_layer("bn"), keras.layers.Conv2D)
    assert "/stem/conv/Conv" not in names  # What it gave before the normalization is nowhere.


def test_batch_norm_of_a_convolution_read_twice_is_not_folded(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["b"]),
        make_node("Add", ["c", "b"], ["y"]),
    ]
    constants = {"w": random(4, 3, 3, 3), "s": random(4, low=0.5, high=1)}
    model = agrees(build(nodes, (3, 5, 4), constants), fold_batch_norm=True)
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def test_nodes_that_no_output_needs_are_left_out(agrees, build, random):
    nodes = [
        make_node("Det", ["x"], ["unused"]),  # Unknown to the registry, and no matter.
        make_node("Relu", ["x"], ["y"]),
    ]
    assert len(agrees(build(nodes, (4, 4, 4))).layers) == 2
