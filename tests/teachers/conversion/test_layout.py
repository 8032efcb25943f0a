"""Axis orders, transpositions and reshapes on real Keras tensors against NumPy."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_amalgam.teachers.conversion.layout import (
    Value,
    aligned_constant,
    channels_last,
    to_order,
    transposed,
)
from keras_amalgam.teachers.conversion.writer import Scope, Writer

SOURCE = np.arange(2 * 6 * 4 * 5, dtype=np.float32).reshape(2, 6, 4, 5)


def _map():
    order = channels_last(4)
    return Value(keras.Input([SOURCE.shape[axis] for axis in order[1:]], name="x"), order)


def _numbers(image, value):
    """What the value holds for SOURCE, axes and columns back in the source's sequence."""
    data = SOURCE.transpose(image.order)
    held = np.asarray(keras.Model(image.tensor, value.tensor)(data))
    if value.columns is not None:
        held = held[:, np.argsort(value.columns)]
    return held.transpose(np.argsort(value.order))


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(4))))
def test_transposition_is_free_and_right(permutation):
    image = _map()
    value = transposed(image, permutation)
    assert value.tensor is image.tensor
    np.testing.assert_array_equal(_numbers(image, value), SOURCE.transpose(permutation))


@pytest.mark.parametrize("order", [(0, *rest) for rest in itertools.permutations((1, 2, 3))])
def test_every_order_can_be_asked_for(order):
    image = _map()
    value = to_order(Writer("node", Scope()), image, order)
    assert value.order == order
    assert tuple(value.tensor.shape[1:]) == tuple(SOURCE.shape[axis] for axis in order[1:])
    np.testing.assert_array_equal(_numbers(image, value), SOURCE)


def test_many_axes_move_in_blocks_of_neighbours():
    """TFLite transposes at most six axes; windows of windows come as eight."""
    sizes, moves = (2, 3, 2, 2, 3, 2, 4), (2, 5, 0, 1, 3, 4, 6)
    source = np.arange(2 * math.prod(sizes), dtype=np.float32).reshape(2, *sizes)
    order = (0, *(axis + 1 for axis in moves))
    image = Value(keras.Input(sizes), tuple(range(8)))
    value = to_order(Writer("node", Scope()), image, order)
    model = keras.Model(image.tensor, value.tensor)
    (moved,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Permute)]
    assert len(moved.dims) + 1 <= 6
    np.testing.assert_array_equal(model(source), source.transpose(order))


def test_swapped_order_is_noticed():
    """The twin of the tests above: the same numbers under a wrong order are not equal."""
    image = _map()
    wrong = Value(image.tensor, (0, 3, 2, 1))
    shape = tuple(SOURCE.shape)
    assert _numbers(image, wrong).shape != shape or (_numbers(image, wrong) != SOURCE).any()


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (6, 1, 1), (1, 6, 4, 5), (6, 4, 5)])
def test_constant_is_turned_as_the_tensor_is(shape):
    image = _map()
    constant = np.random.default_rng(0).random(shape).astype(np.float32)
    aligned = aligned_constant(constant, image)
    ours = (SOURCE.transpose(image.order) * aligned).transpose(np.argsort(image.order))
    np.testing.assert_array_equal(ours, SOURCE * constant)


def test_names_are_unique_whatever_their_case():
    names = Scope()
    assert [names.unique(name) for name in ("a", "A", "a", "a_2")] == ["a", "A_2", "a_3", "a_2_2"]
