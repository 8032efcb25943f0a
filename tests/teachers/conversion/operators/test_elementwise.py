"""Functions of numbers and truth values against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

from keras_amalgam.teachers.conversion.operators import registry

FUNCTIONS = [
    *("Abs", "Asinh", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Neg", "Round"),
    *("Sign", "Sin", "Sinh"),
]


def _choice(condition):
    """Nodes after those that compute a truth value: x where it is true, else -x."""
    return [
        *condition,
        make_node("Neg", ["x"], ["n"]),
        make_node("Where", [condition[-1].output[0], "x", "n"], ["y"]),
    ]


@pytest.mark.parametrize("image", [(3, 5, 4), (7,)])
def test_functions_of_any_number_agree(agrees, build, image):
    nodes = [make_node(name, ["x"], [name], name=name) for name in FUNCTIONS]
    agrees(build(nodes, image, outputs=FUNCTIONS))


def test_functions_of_small_numbers_agree(agrees, build):
    names = ["Acos", "Asin", "Atanh", "Tan"]
    nodes = [make_node("Tanh", ["x"], ["t"]), make_node("Mul", ["t", "c"], ["s"])]
    nodes += [make_node(name, ["s"], [name]) for name in names]
    agrees(build(nodes, (3, 5, 4), {"c": np.float32(0.9)}, outputs=names))


def test_functions_of_large_numbers_agree(agrees, build):
    names = ["Acosh", "Log", "Reciprocal", "Sqrt"]
    nodes = [make_node("Exp", ["x"], ["e"]), make_node("Add", ["e", "c"], ["s"])]
    nodes += [make_node(name, ["s"], [name]) for name in names]
    agrees(build(nodes, (3, 5, 4), {"c": np.float32(1.1)}, outputs=names))


@pytest.fixture
def rounded_halves(build):
    """A graph that rounds halves only."""
    nodes = [
        make_node("Floor", ["x"], ["f"]),
        make_node("Add", ["f", "half"], ["h"]),
        make_node("Round", ["h"], ["y"]),
    ]
    return build(nodes, (3, 5, 4), {"half": np.float32(0.5)})


def test_round_goes_to_the_even_neighbour(agrees, rounded_halves):
    agrees(rounded_halves)


def test_another_rounding_would_be_noticed(agrees, rounded_halves, monkeypatch):
    def upwards(call):
        value = call.value()
        more = call.write.operation(keras.ops.add, value.tensor, 0.5, part="more")
        return value.with_tensor(call.write.operation(keras.ops.floor, more))

    monkeypatch.setitem(registry._HANDLERS["", "Round"], 11, upwards)
    with pytest.raises(AssertionError, match="largest error 1"):
        agrees(rounded_halves)


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic_agrees(agrees, build, random, operator):
    condition = [
        make_node("Greater", ["x", "c"], ["a"]),
        make_node("Less", ["x", "d"], ["b"]),
        make_node("Not", ["b"], ["nb"]),
        make_node(operator, ["a", "nb"], ["o"]),
    ]
    agrees(build(_choice(condition), (3, 5, 4), {"c": random(3, 1, 1), "d": random(4, seed=1)}))


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic_with_a_constant_agrees(agrees, build, operator):
    mask = np.arange(20).reshape(5, 4) % 3 == 0
    condition = [
        make_node("Greater", ["x", "zero"], ["a"]),
        make_node(operator, ["a", "mask"], ["o"]),
    ]
    agrees(build(_choice(condition), (3, 5, 4), {"zero": np.float32(0), "mask": mask}))


@pytest.mark.parametrize("number", [1, 7])
def test_equality_agrees(agrees, build, number):
    condition = [
        make_node("Round", ["x"], ["r"]),
        make_node("Equal", ["r", "c"], ["e"]),
    ]
    constants = {"c": np.float32(number)}
    agrees(build(_choice(condition), (3, 5, 4), constants))


@pytest.mark.parametrize(
    ("operator", "bounds"),
    [
        ("IsNaN", {}),
        ("IsInf", {}),
        ("IsInf", {"detect_negative": 0}),
        ("IsInf", {"detect_positive": 0}),
    ],
)
def test_search_for_what_is_no_number_agrees(agrees, build, operator, bounds):
    condition = [
        make_node("Floor", ["x"], ["f"]),
        make_node("Div", ["f", "zero"], ["d"]),  # Of 0 no number, else an infinity.
        make_node(operator, ["d"], ["i"], **bounds),
    ]
    agrees(build(_choice(condition), (3, 5, 4), {"zero": np.float32(0)}))


def test_search_for_neither_infinity_is_refused(agrees, build):
    node = make_node("IsInf", ["x"], ["i"], detect_negative=0, detect_positive=0)
    with pytest.raises(NotImplementedError, match="neither infinity"):
        agrees(build(_choice([node]), (3, 5, 4)))


@pytest.mark.parametrize("divisor", [0.7, -0.7])
def test_remainder_of_floats_agrees(agrees, build, divisor):
    node = make_node("Mod", ["x", "c"], ["y"], fmod=1)
    agrees(build([node], (3, 5, 4), {"c": np.float32(divisor)}))


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("divisor", [2, -2])
def test_remainder_of_integers_agrees(agrees, build, fmod, divisor):
    nodes = [
        make_node("ArgMax", ["x"], ["a"], axis=1),
        make_node("Mod", ["a", "c"], ["m"], fmod=fmod),
        make_node("Cast", ["m"], ["y"], to=1),
    ]
    agrees(build(nodes, (5, 5, 4), {"c": np.int64(divisor)}))


@pytest.mark.parametrize("operator", ["Sum", "Mean"])
def test_sum_of_several_tensors_agrees(agrees, build, random, operator):
    nodes = [
        make_node("Exp", ["x"], ["e"]),
        make_node("Abs", ["x"], ["a"]),
        make_node(operator, ["x", "e", "a"], ["three"]),
        make_node(operator, ["x", "c", "e"], ["constant"]),
        make_node(operator, ["c", "x"], ["two"]),
        make_node(operator, ["x"], ["one"]),
    ]
    outputs = ["three", "constant", "two", "one"]
    agrees(build(nodes, (3, 5, 4), {"c": random(3, 1, 1)}, outputs=outputs))
