"""The running statistics of a network's first batch normalizations, to compare images with."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain, islice
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_amalgam.images.preprocessing import Preprocessing, as_input_of
from keras_amalgam.models.taps import as_functional, candidates, with_taps


class RunningStatistics:
    """The running statistics of some batch normalizations, to compare images with.

    Args:
        model: A functional or sequential model of an image input.
        paths: The normalizations' names or paths, as in `Tap`.
    """

    def __init__(self, model: keras.Model, paths: Sequence[str]) -> None:
        self._variances, self._are_read = [], []
        tapped = with_taps(_up_to(model, paths), paths)
        moments: dict[str, Any] = {}
        for path, output in zip(paths, tapped.output["taps"], strict=True):
            layer = _layer_at(model, path)
            gain, shift, variance = _weights(layer)
            self._variances.append(variance)
            self._are_read.append(_shows_its_input(gain, shift, variance))
            unit = np.sqrt(variance + layer.epsilon) / np.where(gain == 0, 1.0, gain)
            axes = list(range(len(output.shape)))
            channels = axes.pop(layer.axis)
            along = [-1 if axis == channels else 1 for axis in range(len(output.shape))]
            # What entered the layer, less its running mean.
            entered = ops.cast(output, "float32") - shift.reshape(along).astype(np.float32)
            entered *= unit.reshape(along).astype(np.float32)
            moments[str(len(moments))] = ops.stack(
                [ops.mean(entered, axes), ops.mean(entered**2, axes)]
            )
        self._moments = keras.Model(tapped.input, moments)
        self._dtype = model.inputs[0].dtype

    def divergence(self, pixels: Sequence[np.ndarray], normalisation: Preprocessing) -> float:
        """How far images are from the statistics.

        The mean of both Kullback-Leibler divergences between the normal distributions of a channel,
        the median over a layer's channels, the mean over the layers.


        Args:
            pixels: Batches of images of the network's size and order of channels, 0..255.
            normalisation: The preprocessing whose `scale`, `mean` and `std` are applied.
        """
        scale, offset = map(np.float32, normalisation.scale_and_offset())
        number = sum(map(len, pixels))
        totals = [np.zeros((2, len(variance))) for variance in self._variances]
        for batch in pixels:
            fed = as_input_of(ops.convert_to_tensor(batch * scale + offset), self._dtype)
            found = self._moments(fed, training=False)
            for index, total in enumerate(totals):
                total += ops.convert_to_numpy(found[str(index)]) * (len(batch) / number)
        medians = []
        for total, variance, is_read in zip(totals, self._variances, self._are_read, strict=True):
            shift, square = total[:, is_read]
            medians.append(np.median(_divergence(shift, square, variance[is_read])))
        return float(np.mean(medians))


def _divergence(shift: np.ndarray, square: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The mean of both Kullback-Leibler divergences of normal distributions, per channel.

    Args:
        shift: Difference of the means.
        square: Mean square difference of the one from the mean of the other.
        variance: Variance of the other distribution, positive.
    """
    # A channel that no image moves diverges much, and not without bounds.
    spread = np.maximum(square - shift**2, 1e-6 * variance)
    return ((spread + shift**2) / variance + (variance + shift**2) / spread - 2) / 4


def _weights(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain, shift and running variance of every channel, float64."""
    variance = ops.convert_to_numpy(layer.moving_variance).astype(np.float64)
    gain = np.ones_like(variance) if layer.gamma is None else ops.convert_to_numpy(layer.gamma)
    shift = np.zeros_like(variance) if layer.beta is None else ops.convert_to_numpy(layer.beta)
    return gain.astype(np.float64), shift.astype(np.float64), variance


def _shows_its_input(gain: np.ndarray, shift: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Which channels are alive in the training images and not lost in rounding behind the layer."""
    alive = variance > 1e-6 * np.median(variance)
    return alive & (np.abs(gain) > 1e-3 * np.maximum(np.abs(shift), 1e-3))


def first_normalizations(model: keras.Model, most: int) -> list[str]:
    """Paths of the first batch normalizations that are called once and remember images.

    Args:
        model: A functional or sequential model.
        most: How many at most.
    """
    found = (
        path
        for path in candidates(model)
        if isinstance(layer := _layer_at(model, path), keras.layers.BatchNormalization)
        and _is_called_once(model, path)
        and _remembers(layer)
    )
    return list(islice(found, most))


def _up_to(model: keras.Model, paths: Sequence[str]) -> keras.Model:
    """The part of a model that some layers need, as to call all of it again takes long."""
    functional = as_functional(model)
    last = {path.split("/")[0] for path in paths}
    outputs = [node.outputs[0] for node in _nodes(functional) if node.operation.name in last]
    return keras.Model(functional.input, outputs)


def _nodes(model: keras.Model) -> Iterator[Any]:
    """The calls that a model consists of."""
    return chain.from_iterable(as_functional(model)._nodes_by_depth.values())


def _layer_at(model: keras.Model, path: str) -> Any:
    return reduce(lambda inner, name: inner.get_layer(name), path.split("/"), model)


def _is_called_once(model: keras.Model, path: str) -> bool:
    """Whether it stands at one place only, and so do the models around it."""
    for name in path.split("/"):
        if Counter(node.operation.name for node in _nodes(model))[name] != 1:
            return False
        model = model.get_layer(name)
    return True


def _remembers(layer: keras.layers.BatchNormalization) -> bool:
    """Whether its statistics are no longer those it began with, and some channel shows them."""
    mean = ops.convert_to_numpy(layer.moving_mean)
    gain, shift, variance = _weights(layer)
    has_begun = bool(np.any(mean != 0) or np.any(variance != 1))
    return has_begun and bool(np.any(_shows_its_input(gain, shift, variance)))
