"""Reshapes on real Keras tensors against NumPy, those that touch the batch among them."""

import keras
import numpy as np
import pytest

from keras_amalgam.teachers.conversion.layout import (
    Value,
    as_source,
    channels_last,
    natural,
    transposed,
)
from keras_amalgam.teachers.conversion.passes.folding import BATCH, OPEN
from keras_amalgam.teachers.conversion.reshaping import reshaped
from keras_amalgam.teachers.conversion.writer import Scope, Writer

SOURCE = np.arange(2 * 6 * 4 * 5, dtype=np.float32).reshape(2, 6, 4, 5)


def _map(order=None):
    order = order or channels_last(4)
    return Value(keras.Input([SOURCE.shape[axis] for axis in order[1:]], name="x"), order)


def _numbers(image, value):
    """What the value holds for SOURCE, axes and columns back in the source's sequence."""
    held = np.asarray(keras.Model(image.tensor, value.tensor)(SOURCE.transpose(image.order)))
    if value.columns is not None:
        held = held[:, np.argsort(value.columns)]
    return held.transpose(np.argsort(value.order))


def _after(image, *steps, images=1):
    """The value and the expected array after transpositions (tuples) and reshapes (lists)."""
    value, expected = image, SOURCE
    write = Writer("node", Scope())
    for step in steps:
        if isinstance(step, tuple):
            value, expected = transposed(value, step), expected.transpose(step)
        else:
            value = reshaped(write, value, step, images)
            real = [n // BATCH * 2 if n % BATCH == 0 else n for n in step]
            expected = expected.reshape(real)
    return value, expected


@pytest.mark.parametrize(
    "target",
    [
        (6, 20),
        (24, 5),
        (120,),
        (2, 3, 4, 5),
        (2, 12, 5),
        (1, 6, 1, 20),
        (6, 2, 2, 5),
        (8, 15),
        (3, 1, 40),
        (2, 3, 2, 2, 5),
    ],
)
@pytest.mark.parametrize("first", [None, (0, 2, 3, 1), (0, 3, 1, 2)])
def test_reshape_holds_the_sources_numbers(target, first):
    """Against NumPy, also when the source itself transposed before."""
    image = _map()
    value, expected = image, SOURCE
    if first is not None:
        value, expected = transposed(image, first), SOURCE.transpose(first)
    value = reshaped(Writer("node", Scope()), value, [BATCH, *target])
    np.testing.assert_array_equal(_numbers(image, value), expected.reshape(2, *target))


def test_flattening_remembers_the_order_and_undoes_it():
    image = _map()
    write = Writer("node", Scope())
    value = reshaped(write, image, [-1, 120])
    assert sorted(value.columns) == list(range(120))
    np.testing.assert_array_equal(
        np.asarray(
            keras.Model(image.tensor, as_source(write, value).tensor)(SOURCE.transpose(image.order))
        ),
        SOURCE.reshape(2, -1),
    )


WINDOWS = [[BATCH, 6, 2, 2, 5, 1], (0, 2, 4, 3, 5, 1), [BATCH * 10, 2, 6]]


@pytest.mark.parametrize("order", [natural(4), channels_last(4)])
@pytest.mark.parametrize(
    "steps",
    [
        ([BATCH * 2, 60],),
        ([BATCH * 6, 4, 5],),
        ([-1, 20],),
        ([-1],),
        ([BATCH * 3, 2, 20], [BATCH, 3, 2, 20]),
        (*WINDOWS,),
        (*WINDOWS, (0, 2, 1), [BATCH, 10, 6, 2]),
        (*WINDOWS, [BATCH, 2, 5, 2, 1, 6], (0, 5, 1, 3, 2, 4), [BATCH, 6, 4, 5]),
        ((1, 0, 2, 3), [6, BATCH * 4, 5], (1, 0, 2), [BATCH * 4, 30]),
        ((1, 0, 2, 3), [3, 2, BATCH, 20]),
    ],
)
def test_batch_takes_up_axes_behind_it_and_gives_them_back(order, steps):
    """Windows of an image and heads of an attention, as exporters lay them out."""
    image = _map(order)
    value, expected = _after(image, *steps)
    np.testing.assert_array_equal(_numbers(image, value), expected)
    assert value.sizes[value.order[0]] == value.batch
    assert [n // BATCH * 2 if n % BATCH == 0 else n for n in value.sizes] == list(expected.shape)


@pytest.mark.parametrize(
    ("target", "images"),
    [([1, 24, 5], 1), ([24, 5], 1), ([1, -1], 1), ([2, 6, 20], 2), ([12, 20], 2), ([-1, 30], 2)],
)
def test_number_of_images_in_the_file_stands_for_any_number(target, images):
    image = _map()
    value = reshaped(Writer("node", Scope()), image, target, images)
    per_image = np.prod(SOURCE.shape[1:]) // np.prod([n for n in value.sizes if n % BATCH])
    assert value.batch == BATCH * per_image
    shape = [2 * per_image if n % BATCH == 0 else n for n in value.sizes]
    np.testing.assert_array_equal(_numbers(image, value), SOURCE.reshape(shape))


@pytest.mark.parametrize(
    "target", [[6, BATCH, 20], [BATCH * 7, 240], [7, 240], [BATCH, 0, 5], [BATCH, -1, -1]]
)
def test_reshape_that_moves_numbers_between_images_or_does_not_fit_is_refused(target):
    with pytest.raises((NotImplementedError, ValueError), match=r"\(batch, 6, 4, 5\)"):
        reshaped(Writer("node", Scope()), _map(), target)


def test_batch_merged_with_an_axis_before_it_is_refused():
    value = transposed(_map(), (1, 0, 2, 3))
    with pytest.raises(NotImplementedError, match="merges the batch with an axis before it"):
        reshaped(Writer("node", Scope()), value, [BATCH * 6, 4, 5])


def test_open_size_in_a_reshape_asks_for_the_size():
    value = Value(keras.Input((None, None, 6)), channels_last(4))
    with pytest.raises(NotImplementedError, match="Pass `input_shape="):
        reshaped(Writer("node", Scope()), value, [BATCH, 6, OPEN * OPEN])
