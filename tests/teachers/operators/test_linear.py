"""Dense layers against onnxruntime, and what flattening does to them."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node


@pytest.mark.parametrize(
    ("attributes", "kernel"),
    [
        ({}, (6, 4)),
        ({"transB": 1}, (4, 6)),
        ({"transB": 1, "alpha": 0.5, "beta": 2.0}, (4, 6)),
    ],
)
def test_gemm_agrees(agrees, build, random, attributes, kernel):
    node = make_node("Gemm", ["x", "w", "b"], ["y"], **attributes)
    agrees(build([node], (6,), {"w": random(*kernel), "b": random(4, seed=1)}))


def test_gemm_with_a_transposed_input_is_refused(agrees, build, random):
    node = make_node("Gemm", ["x", "w"], ["y"], transA=1)
    with pytest.raises(NotImplementedError, match="transA"):
        agrees(build([node], (6,), {"w": random(3, 4)}, batch=3))


def test_bias_added_behind_matmul_becomes_the_dense_layers(agrees, build, random):
    nodes = [
        make_node("MatMul", ["x", "w"], ["m"], name="head/MatMul"),
        make_node("Add", ["b", "m"], ["y"], name="head/BiasAdd"),
    ]
    model = agrees(build(nodes, (6,), {"w": random(6, 4), "b": random(4, seed=1)}))
    assert [type(layer) for layer in model.layers[1:]] == [keras.layers.Dense]
    names = model.provenance.names
    assert names["head/BiasAdd"] == names["head/MatMul"] == names["y"] == "head_MatMul"


def test_matmul_works_on_the_last_axis_of_tokens(agrees, build, random):
    node = make_node("MatMul", ["x", "w"], ["y"])
    agrees(build([node], (5, 6), {"w": random(6, 4)}))


def test_matmul_works_on_the_width_of_a_map(agrees, build, random):
    node = make_node("MatMul", ["x", "w"], ["y"])
    pool = make_node("GlobalMaxPool", ["x"], ["g"])
    join = make_node("Add", ["y", "g"], ["z"])
    # The channels must leave the last place and come back: the only case here that transposes.
    agrees(build([node, pool, join], (3, 4, 6), {"w": random(6, 5)}), transposes=2)


def test_matmul_of_two_tensors_agrees(agrees, build):
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        make_node("MatMul", ["x", "t"], ["y"]),
    ]
    agrees(build(nodes, (5, 6)), transposes=1)


FLATTENINGS = {
    "flatten": [make_node("Flatten", ["x"], ["f"])],
    "reshape": [make_node("Reshape", ["x", "shape"], ["f"])],
    "through_elementwise": [
        make_node("Flatten", ["x"], ["f0"]),
        make_node("Relu", ["f0"], ["f1"]),
        make_node("Mul", ["f1", "each"], ["f2"]),
        make_node("BatchNormalization", ["f2", "each", "each", "each", "each"], ["f3"]),
        make_node("Dropout", ["f3"], ["f"]),
    ],
    "concatenated": [
        make_node("Flatten", ["x"], ["f0"]),
        make_node("GlobalAveragePool", ["x"], ["g"]),
        make_node("Flatten", ["g"], ["f1"]),
        make_node("Concat", ["f0", "f1"], ["f"], axis=1),
    ],
}


@pytest.mark.parametrize("case", FLATTENINGS)
def test_dense_kernel_takes_up_the_order_of_a_flattened_map(agrees, build, random, case):
    nodes = [*FLATTENINGS[case], make_node("Gemm", ["f", "w", "b"], ["y"], name="head")]
    width = 3 * 4 * 5 + (3 if case == "concatenated" else 0)
    constants = {
        "w": random(width, 6),
        "b": random(6, seed=1),
        "each": random(60, seed=2, low=0.5, high=1),
        "shape": np.array([-1, 60]),
    }
    model = agrees(build(nodes, (3, 4, 5), constants))
    stock = (keras.layers.Permute, keras.layers.Identity)
    assert not [x for x in model.layers if isinstance(x, stock)] or case == "through_elementwise"


def test_flattened_map_as_an_output_has_the_sources_order(agrees, build):
    agrees(build([make_node("Flatten", ["x"], ["y"])], (3, 4, 5)))


def test_flattened_maps_of_different_order_meet_in_the_sources(agrees, build):
    nodes = [
        make_node("Flatten", ["x"], ["f"]),
        make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        make_node("Flatten", ["t"], ["g"]),
        make_node("Sub", ["f", "g"], ["y"]),
    ]
    agrees(build(nodes, (3, 4, 5)))
