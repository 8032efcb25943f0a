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
    assert names["head"] == names["head/BiasAdd"] == names["y"] == "head_BiasAdd"
    assert "head/MatMul" not in names  # What the product gives before the bias is nowhere.


def test_matmul_works_on_the_last_axis_of_tokens(agrees, build, random):
    node = make_node("MatMul", ["x", "w"], ["y"])
    agrees(build([node], (5, 6), {"w": random(6, 4)}))


@pytest.mark.parametrize(
    ("sides", "image", "size"),
    [(("x", "w"), (5, 6), 6), (("w", "x"), (5, 6), 5), (("x", "w"), (3, 4, 6), 6)],
)
def test_matmul_with_a_vector_leaves_the_axis_out(agrees, build, random, sides, image, size):
    source = build([make_node("MatMul", sides, ["y"])], image, {"w": random(size)})
    model = agrees(source, sizes=(1, 2, 3), transposes=None)
    assert len(model.output.shape) == len(image)


def test_matmul_of_a_flattened_map_with_a_vector_agrees(agrees, build, random):
    nodes = [make_node("Flatten", ["x"], ["f"]), make_node("MatMul", ["f", "w"], ["y"])]
    agrees(build(nodes, (3, 4, 5), {"w": random(60)}), sizes=(1, 2, 3))


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


def _attention(random, heads=2, width=6):
    """Nodes of a self-attention over the tokens `x`, `(batch, tokens, heads·width)`."""
    split = np.array([0, -1, heads, width])
    nodes, constants = [], {"split": split, "joined": np.array([0, -1, heads * width])}
    for index, name in enumerate("qkv"):
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [
            make_node("MatMul", ["x", f"w{name}"], [f"m{name}"]),
            make_node("Reshape", [f"m{name}", "split"], [f"r{name}"]),
            make_node("Transpose", [f"r{name}"], [name], perm=perm),
        ]
        constants[f"w{name}"] = random(heads * width, heads * width, seed=index)
    nodes += [
        make_node("MatMul", ["q", "k"], ["scores"]),
        make_node("Softmax", ["scores"], ["a"], axis=-1),
        make_node("MatMul", ["a", "v"], ["o"]),
        make_node("Transpose", ["o"], ["t"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["t", "joined"], ["y"]),
    ]
    return nodes, constants


def test_attention_agrees_and_transposes_no_more_than_its_products_need(agrees, build, random):
    nodes, constants = _attention(random)
    agrees(build(nodes, (5, 12), constants), transposes=4)  # q, k, v and the way back.


@pytest.mark.parametrize(
    ("left", "right"), [("c", "x"), ("x", "c"), ("c2", "x"), ("x", "c3"), ("x", "x")]
)
def test_products_with_constants_and_of_tensors_agree(agrees, build, random, left, right):
    constants = {"c": random(5, 5), "c2": random(3, 5, 5, seed=1), "c3": random(1, 3, 5, 5, seed=2)}
    node = make_node("MatMul", [left, right], ["y"])
    agrees(build([node], (3, 5, 5), constants), transposes=None)


@pytest.mark.parametrize(
    "equation",
    ["bhij,bhjk->bhik", "bhij,bhkj->bhik", "bhij,bhij->bi", "bhij,bhij->bhij", "bhij,bhjk->bikh"],
)
def test_einsum_of_two_tensors_agrees(agrees, build, equation):
    nodes = [
        make_node("Tanh", ["x"], ["t"]),
        make_node("Einsum", ["x", "t"], ["y"], equation=equation),
    ]
    agrees(build(nodes, (3, 5, 5)), transposes=None)


def test_einsum_with_a_constant_agrees_in_either_layout(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Einsum", ["c", "m"], ["y"], equation="bchw,ck->bkhw"),
    ]
    constants = {"w": random(6, 3, 1, 1), "m": random(6, 7, seed=1)}
    agrees(build(nodes, (3, 5, 4), constants), transposes=None)


@pytest.mark.parametrize("equation", ["...hw,wk->...hk", "b...w,wk->bk...", "...w,wk->...k"])
def test_einsum_with_an_ellipsis_agrees(agrees, build, random, equation):
    node = make_node("Einsum", ["x", "m"], ["y"], equation=equation)
    agrees(build([node], (3, 5, 4), {"m": random(4, 7)}), transposes=None)


def test_einsum_of_two_tensors_with_an_ellipsis_agrees(agrees, build):
    node = make_node("Einsum", ["x", "x"], ["y"], equation="...hw,...kw->...hk")
    agrees(build([node], (3, 5, 4)), transposes=None)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (make_node("MatMul", ["v", "t"], ["y"]), "takes part in its sums"),
        (make_node("Einsum", ["x", "x"], ["y"], equation="bij,bij->ij"), "sums over the batch"),
        (make_node("Einsum", ["x"], ["y"], equation="b...->b"), "not known"),
        (make_node("MatMul", ["t", "x"], ["y"]), "different axes"),
        (make_node("MatMul", ["c", "x"], ["y"]), "batch of its own"),
    ],
)
def test_products_across_images_are_refused(agrees, build, random, node, reason):
    turn = make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2])
    with pytest.raises(NotImplementedError, match=reason):
        agrees(build([turn, node], (4, 4), {"c": random(4, 4, 4), "v": random(4)}, batch=4))


def test_swapped_factors_are_noticed(agrees, build, random):
    """The twin: the same product with its factors exchanged gives other numbers."""
    model = agrees(build([make_node("MatMul", ["c", "x"], ["y"])], (5, 5), {"c": random(5, 5)}))
    images = random(1, 5, 5, seed=3)
    constant = random(5, 5)
    np.testing.assert_allclose(model(images), constant @ images, atol=1e-5)
    assert not np.allclose(model(images), images @ constant, atol=1e-2)
