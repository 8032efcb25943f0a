"""Resizing, along any axes but the batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value, in_source_columns, needs_size
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.operators.sampling import (
    Rule,
    is_repetition,
    nearest,
    weights,
)
from keras_amalgam.teachers.conversion.operators.windows import within_bounds

_PIXELS = "its pixels depend on the image's size"
_LARGEST = 2**22  # Weights of one axis, which stand in the model's configuration.
_HALF_PIXEL = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")


@dataclass(frozen=True)
class _Axis:
    """One axis that changes its size.

    Args:
        held: The Keras axis.
        size: Its size; `None` where open.
        output: Its new size; `None` where open.
        scale: The factor that places the pixels; `None` where an open size decides.
    """

    held: int
    size: int | None
    output: int | None
    scale: float | None

    @property
    def factor(self) -> int | None:
        """The factor if it is a whole number and the new size is that multiple exactly."""
        if self.scale is None or self.scale != int(self.scale) or self.scale < 1:
            return None
        if self.size is not None and self.output != self.size * int(self.scale):
            return None
        return int(self.scale)


@register_operator("Upsample", since=7)
def upsample(call: Call) -> Value:
    """As Resize."""
    return _resized(call, _older_rule(call), _scaled(call, call.attribute("scales")))


@register_operator("Upsample", since=9)
def upsample_by_input(call: Call) -> Value:
    """As Resize."""
    return _resized(call, _older_rule(call), _scaled(call, call.constant(1)))


@register_operator("Resize", since=10)
def resize_by_scales(call: Call) -> Value:
    """As the newer Resize."""
    return _resized(call, _older_rule(call, "simple"), _scaled(call, call.constant(1)))


@register_operator("Resize", since=11)
def resize(call: Call) -> Value:
    """UpSampling2D or ops.image.resize where these are equal, ops.take, or a product by axis."""
    rule = Rule(
        mode=call.attribute("mode", "nearest"),
        coordinates=call.attribute("coordinate_transformation_mode", "half_pixel"),
        rounding=call.attribute("nearest_mode", "round_prefer_floor"),
        cubic=call.attribute("cubic_coeff_a", -0.75),
        leaves_outside=bool(call.attribute("exclude_outside", 0)),
        antialias=bool(call.attribute("antialias", 0)),
    )
    if not rule.is_known:
        raise call.refusal(
            f"mode {rule.mode!r} with coordinates {rule.coordinates!r} and rounding "
            f"{rule.rounding!r} is not known"
        )
    if call.has(2) and call.constant(2).size:
        return _resized(call, rule, _scaled(call, call.constant(2)))
    if not call.has(3):
        raise ValueError("it has neither scales nor sizes")
    return _resized(call, rule, _sized(call))


def _older_rule(call: Call, rounding: str = "floor") -> Rule:
    rule = Rule(call.attribute("mode", "nearest"), "asymmetric", rounding)
    if not rule.is_known:
        raise call.refusal(f"its mode {rule.mode!r} is not known")
    return rule


def _source_axes(call: Call) -> list[int]:
    rank = call.value().rank
    return [axis % rank for axis in call.attribute("axes") or range(rank)]


def _scaled(call: Call, scales: Any) -> list[_Axis]:
    """The axes that change by stated factors."""
    value, axes = call.value(), []
    for axis, scale in zip(_source_axes(call), np.asarray(scales, np.float32), strict=True):
        if scale == 1:
            continue
        held = value.axis(axis)
        size = value.tensor.shape[held]
        output = None if size is None else int(np.float32(size) * scale)
        axes.append(_Axis(held, size, output, float(scale)))
    return axes


def _sized(call: Call) -> list[_Axis]:
    """The axes that change to stated sizes."""
    value, sources = call.value(), _source_axes(call)
    readings = {
        axis: targets
        for axis, *targets in zip(sources, *call.readings(3), strict=True)
        if axis != value.order[0]  # Files of a fixed batch state it; it never changes.
    }
    multiples = {
        axis: _multiple(targets, [sizes[axis] for sizes in call.sizes()])
        for axis, targets in readings.items()
        if len(set(targets)) > 1
    }
    wanted = {axis: targets[0] for axis, targets in readings.items()}
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        return _in_proportion(call, wanted, policy, value.order[0] in sources)
    axes = []
    for axis, target in wanted.items():
        held = value.axis(axis)
        size = value.tensor.shape[held]
        if axis in multiples:
            if multiples[axis] != 1:
                axes.append(_Axis(held, None, None, float(multiples[axis])))
        elif size is None:
            axes.append(_Axis(held, None, target, None))
        elif target != size:
            axes.append(_Axis(held, size, target, float(np.float32(target) / np.float32(size))))
    return axes


def _in_proportion(
    call: Call, wanted: dict[int, int], policy: str, with_batch: bool
) -> list[_Axis]:
    """The axes that change by one factor, so that none is larger or smaller than stated."""
    choose = {"not_larger": min, "not_smaller": max}.get(policy)
    value = call.value()
    sizes = {axis: value.tensor.shape[value.axis(axis)] for axis in wanted}
    if choose is None:
        raise call.refusal(f"its keep_aspect_ratio_policy {policy!r} is not known")
    if None in sizes.values():
        raise needs_size(_PIXELS)
    factors = [np.float32(wanted[axis]) / np.float32(size) for axis, size in sizes.items()]
    scale = choose([*factors, np.float32(1)] if with_batch else factors)
    return [
        _Axis(value.axis(axis), size, math.floor(scale * np.float32(size) + 0.5), float(scale))
        for axis, size in sizes.items()
    ]


def _multiple(targets: Sequence[int], sizes: Sequence[int]) -> int:
    """What targets that depend on an open size are of the axis' own, whichever size that is.

    Raises:
        NotImplementedError: If they are of another's, or no multiple.
    """
    times = {target / size for target, size in zip(targets, sizes, strict=True)}
    if len(times) > 1 or (multiple := times.pop()) != int(multiple):
        raise needs_size(_PIXELS)
    return int(multiple)


def _resized(call: Call, rule: Rule, axes: list[_Axis]) -> Value:
    value = call.value()
    if any(axis.held == 0 for axis in axes):
        raise call.refusal("it resizes the batch")
    within_bounds([axis.output for axis in axes if axis.output is not None], 1)
    within_bounds([math.ceil(axis.scale) for axis in axes if axis.scale is not None], 1)
    value = in_source_columns(call.write, value)
    if not axes:
        return value
    layer = _as_layer(call, rule, value, axes)
    return value.with_tensor(_by_axis(call, rule, value.tensor, axes) if layer is None else layer)


def _as_layer(call: Call, rule: Rule, value: Value, axes: list[_Axis]) -> Any:
    """What layers of Keras give the same, or `None`."""
    if value.rank != 4 or not {axis.held for axis in axes} <= {1, 2}:
        return None
    factors: list[int | None] = [1, 1]
    outputs: list[int | None] = list(value.tensor.shape[1:3])
    for axis in axes:
        factors[axis.held - 1], outputs[axis.held - 1] = axis.factor, axis.output
    size = tuple(factor for factor in factors if factor is not None)
    if len(size) == 2 and all(_is_repetition(rule, axis) for axis in axes):
        return call.write.layer(layers.UpSampling2D, value.tensor, size=size)
    if not _is_bilinear(rule, axes):
        return None
    if None not in outputs:
        return _bilinear(call, value.tensor, size, tuple(outputs))
    return _smoothed(call, value.tensor, size) if len(size) == 2 else None


def _bilinear(call: Call, tensor: Any, factors: tuple[int, ...], outputs: tuple[Any, ...]) -> Any:
    """TensorFlow's bilinear resizing to a known size."""
    if len(factors) == 2 and None not in tensor.shape[1:3]:
        return call.write.layer(layers.UpSampling2D, tensor, size=factors, interpolation="bilinear")
    return call.write.operation(
        ops.image.resize, tensor, outputs, interpolation="bilinear", data_format="channels_last"
    )


def _smoothed(call: Call, tensor: Any, factors: tuple[int, ...]) -> Any:
    """Bilinear resizing by whole factors to a size that stays open, which Keras' own cannot trace.

    Repeated pixels under a moving average as wide as their repetitions are linear in between; an
    even width has its centre between two pixels, so that two of them are averaged again. Mirroring
    repeated pixels repeats them once more.
    """
    tensor = call.write.layer(layers.UpSampling2D, tensor, "repeat", size=factors)
    width = ((0, 0), *((factor // 2, factor // 2) for factor in factors), (0, 0))
    tensor = call.write.operation(ops.pad, tensor, width, mode="symmetric", part="pad")
    steps = {"strides": 1, "padding": "valid"}
    pairs = tuple(2 - factor % 2 for factor in factors)
    part = "" if max(pairs) == 1 else "average"
    tensor = call.write.layer(layers.AveragePooling2D, tensor, part, pool_size=factors, **steps)
    if max(pairs) == 1:
        return tensor
    return call.write.layer(layers.AveragePooling2D, tensor, pool_size=pairs, **steps)


def _is_repetition(rule: Rule, axis: _Axis) -> bool:
    return axis.factor is not None and is_repetition(rule, axis.factor, axis.size)


def _is_bilinear(rule: Rule, axes: list[_Axis]) -> bool:
    """Whether TensorFlow's bilinear resizing, half-pixel centres and no antialias, is the same."""
    if rule.mode != "linear" or rule.antialias or rule.coordinates not in _HALF_PIXEL:
        return False
    if rule.coordinates == "pytorch_half_pixel" and any(axis.output == 1 for axis in axes):
        return False
    return all(
        axis.size is None
        or axis.output is None
        or axis.scale == np.float32(axis.output) / np.float32(axis.size)
        for axis in axes
    )


def _by_axis(call: Call, rule: Rule, tensor: Any, axes: list[_Axis]) -> Any:
    """One axis after the other, first those that become smaller."""
    for axis in (ordered := sorted(axes, key=lambda axis: axis.scale or 0)):
        last = axis is ordered[-1]
        if _is_repetition(rule, axis):
            part = "" if last else "repeat"
            tensor = call.write.operation(ops.repeat, tensor, axis.factor, axis.held, part=part)
        elif axis.size is None or axis.output is None or axis.scale is None:
            raise needs_size(_PIXELS)
        elif rule.mode == "nearest":
            pixels = nearest(rule, axis.size, axis.output, axis.scale)
            part = "" if last else "take"
            tensor = call.write.operation(ops.take, tensor, pixels, axis.held, part=part)
        elif axis.size * axis.output > _LARGEST:
            raise call.refusal(f"{axis.size} pixels become {axis.output} by weights: too many")
        else:
            matrix = weights(rule, axis.size, axis.output, axis.scale)
            tensor = _multiplied(call, tensor, matrix, axis.held, last)
    return tensor


def _multiplied(call: Call, tensor: Any, matrix: np.ndarray, axis: int, last: bool) -> Any:
    """The product of an axis with a matrix `(output, size)`, without a transposition."""
    behind = tuple(tensor.shape[axis + 1 :])
    part = "" if last else "product"
    if not behind:
        return call.write.operation(ops.matmul, tensor, matrix.T, part=part)
    if len(behind) == 1:
        return call.write.operation(ops.matmul, matrix, tensor, part=part)
    ahead = tuple(tensor.shape[1:axis])
    flat = call.write.layer(
        layers.Reshape, tensor, "merge", target_shape=(*ahead, len(matrix.T), -1)
    )
    tensor = call.write.operation(ops.matmul, matrix, flat, part="product")
    shape = tuple(-1 if size is None else size for size in (*ahead, len(matrix), *behind))
    return call.write.layer(layers.Reshape, tensor, part and "split", target_shape=shape)
