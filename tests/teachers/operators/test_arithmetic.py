"""Arithmetic and concatenation against onnxruntime."""

import keras
import numpy as np
import pytest
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


def test_extremum_of_three_tensors_is_refused(agrees, build):
    with pytest.raises(NotImplementedError, match="3 inputs"):
        agrees(build([make_node("Max", ["x", "x", "x"], ["y"])], (3, 5, 4)))
