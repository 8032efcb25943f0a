"""Arithmetic and concatenation against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node

CONSTANTS = {"scalar": (), "one": (1,), "channels": (3, 1, 1), "width": (4,), "all": (1, 3, 5, 4)}


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_arithmetic_of_two_tensors_agrees(agrees, build, operator):
    nodes = [make_node("Exp", ["x"], ["e"]), make_node(operator, ["x", "e"], ["y"])]
    agrees(build(nodes, (3, 5, 4)))


@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_with_a_constant_agrees(agrees, build, random, operator, constant):
    constants = {"c": random(*CONSTANTS[constant], low=0.5, high=2)}
    agrees(build([make_node(operator, ["x", "c"], ["y"])], (3, 5, 4), constants))


@pytest.mark.parametrize("operator", ["Sub", "Div"])
def test_constant_may_stand_first(agrees, build, random, operator):
    nodes = [make_node("Exp", ["x"], ["e"]), make_node(operator, ["c", "e"], ["y"])]
    agrees(build(nodes, (3, 5, 4), {"c": random(3, 1, 1)}))


@pytest.mark.parametrize("constant", [(), (3, 5, 4)])
@pytest.mark.parametrize("first", [False, True])
def test_division_of_integers_rounds_towards_zero(agrees, build, constant, first):
    numbers = np.random.default_rng(0).integers(-9, -2, constant).astype(np.int32)
    nodes = [
        make_node("Mul", ["x", "wide"], ["m"]),
        make_node("Cast", ["m"], ["i"], to=TensorProto.INT32),
        make_node("Max", ["i", "seven"], ["large"]),
        make_node("Div", ["c", "large"] if first else ["i", "c"], ["d"]),
        make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"wide": np.float32(40), "c": numbers * (30 if first else 1), "seven": np.int32(7)}
    source = build(nodes, (3, 5, 4), constants)
    agrees(source, sizes=(1, 2, 3))


def test_division_of_two_tensors_of_integers_rounds_towards_zero(agrees, build):
    nodes = [
        make_node("Mul", ["x", "wide"], ["m"]),
        make_node("Cast", ["m"], ["i"], to=TensorProto.INT32),
        make_node("Exp", ["x"], ["e"]),
        make_node("Ceil", ["e"], ["c"]),
        make_node("Cast", ["c"], ["j"], to=TensorProto.INT32),
        make_node("Div", ["i", "j"], ["d"]),
        make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    agrees(build(nodes, (3, 5, 4), {"wide": np.float32(40)}), sizes=(1, 2, 3))


def test_division_by_an_integer_that_float32_does_not_hold_is_refused(agrees, build):
    nodes = [
        make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        make_node("Div", ["i", "c"], ["d"]),
        make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(NotImplementedError, match="constants beyond 16,777,216"):
        agrees(build(nodes, (3, 5, 4), {"c": np.int32(2**24 + 1)}))


def test_power_agrees(agrees, build):
    node = make_node("Pow", ["x", "two"], ["y"])
    agrees(build([node], (3, 5, 4), {"two": np.float32(2)}))


@pytest.mark.parametrize("comparison", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_choice_between_tensors_agrees(agrees, build, random, comparison):
    nodes = [
        make_node(comparison, ["x", "c"], ["b"]),
        make_node("Neg", ["x"], ["n"]),
        make_node("Where", ["b", "n", "x"], ["y"]),
    ]
    agrees(build(nodes, (3, 5, 4), {"c": random(3, 1, 1)}))


@pytest.mark.parametrize("reshaped", [True, False])
def test_channel_gate_is_broadcast_over_the_map(agrees, build, random, reshaped):
    gate = (
        [
            make_node("Flatten", ["p"], ["f"]),
            make_node("Gemm", ["f", "w"], ["g"]),
            make_node("Reshape", ["g", "shape"], ["s"]),
        ]
        if reshaped
        else [make_node("Conv", ["p", "k"], ["s"])]
    )
    nodes = [
        make_node("GlobalAveragePool", ["x"], ["p"]),
        *gate,
        make_node("Sigmoid", ["s"], ["a"]),
        make_node("Mul", ["x", "a"], ["y"], name="gate"),
    ]
    constants = {
        "w": random(3, 3),
        "k": random(3, 3, 1, 1),
        "shape": np.array([-1, 3, 1, 1]),
    }
    model = agrees(build(nodes, (3, 5, 4), constants))
    assert isinstance(model.get_layer("gate"), keras.layers.Multiply)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat_agrees(agrees, build, axis):
    nodes = [make_node("Relu", ["x"], ["r"]), make_node("Concat", ["x", "r"], ["y"], axis=axis)]
    agrees(build(nodes, (3, 5, 4)))


@pytest.mark.parametrize(
    ("shape", "reason"), [((2, 3, 5, 4), "a batch of its own"), ((1, 1, 3, 5, 4), "of its own")]
)
def test_constant_with_a_batch_is_refused(agrees, build, random, shape, reason):
    node = make_node("Add", ["x", "c"], ["y"], name="sum")
    with pytest.raises(NotImplementedError, match=f"'sum'.*{reason}"):
        agrees(build([node], (3, 5, 4), {"c": random(*shape)}))


@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 3, 2)])
def test_constant_joined_with_a_tensor_is_a_weight(agrees, build, random, shape):
    axis = 1 if shape[2] == 5 else 2
    node = make_node("Concat", ["x", "c"], ["y"], axis=axis)
    source = build([node], (3, 5), {"c": random(*shape)}, batch=1)
    model = agrees(source, sizes=(1,))
    assert model.count_params() == np.prod(shape)
    images = random(3, 3, 5)
    np.testing.assert_array_equal(model(images)[2], model(images[2:])[0])


def test_constants_that_were_learned_are_trainable_weights(agrees, build, random):
    """A position embedding is; a mask, of two values, is a weight that is not trained."""
    nodes = [
        make_node("Add", ["x", "position"], ["p"], name="/embed/Add"),
        make_node("Add", ["p", "mask"], ["y"]),
    ]
    mask = np.where(random(1, 7, 20) > 0, 0, -100).astype(np.float32)
    model = agrees(build(nodes, (7, 20), {"position": random(1, 7, 20, seed=1), "mask": mask}))
    assert [int(np.prod(v.shape)) for v in model.trainable_variables] == [140]
    assert [int(np.prod(v.shape)) for v in model.non_trainable_variables] == [140]
    assert "embed_Add" in model.trainable_variables[0].path


def test_few_numbers_stand_in_the_configuration(agrees, build, random):
    node = make_node("Sub", ["x", "mean"], ["y"])
    assert agrees(build([node], (3, 4, 5), {"mean": random(1, 3, 1, 1)})).count_params() == 0


@pytest.mark.parametrize("operator", ["Max", "Min"])
@pytest.mark.parametrize("inputs", [["x"], ["x", "t", "c"], ["c", "x", "d"], ["x", "t", "u"]])
def test_extremes_of_any_number_of_tensors_agree(agrees, build, random, operator, inputs):
    nodes = [
        make_node("Tanh", ["x"], ["t"]),
        make_node("Neg", ["x"], ["u"]),
        make_node(operator, inputs, ["m"]),
        make_node("Abs", ["m"], ["y"]),
    ]
    agrees(build(nodes, (4, 5), {"c": random(5), "d": random(4, 1, seed=1)}))


@pytest.mark.parametrize("operator", ["Add", "Sum"])
@pytest.mark.parametrize("shape", [(4, 1), (1, 4, 1), (4,)])
@pytest.mark.parametrize("first", [False, True])
def test_vector_along_an_axis_as_wide_as_the_last_is_added_along_its_own(
    agrees, build, random, operator, shape, first
):
    """Keras itself adds it along the last axis: a constant that looks like a bias."""
    inputs = ["c", "x"] if first else ["x", "c"]
    constant = random(*shape)
    model = agrees(build([make_node(operator, inputs, ["y"])], (4, 4), {"c": constant}))
    x = random(2, 4, 4, seed=1)
    np.testing.assert_allclose(model(x), x + constant, rtol=1e-6)
    assert not np.allclose(model(x), x + np.roll(constant, 1), atol=1e-3)


def test_number_of_more_axes_than_the_tensor_is_refused(agrees, build):
    """The product has four axes, of which the batch is the second."""
    nodes = [make_node("Mul", ["x", "c"], ["y"], name="made")]
    source = build(nodes, (6, 5), {"c": np.full((1, 1, 1, 1), 2, np.float32)})
    with pytest.raises(NotImplementedError, match="'made'.*adds axes.*at most 3"):
        agrees(source)
