"""Transposed convolutions, which enlarge a map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value, needs_size
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.convolution import convolved
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.operators.windows import (
    Pads,
    Steps,
    Window,
    cropped,
    maps,
    window,
    within_bounds,
    zero_padded,
)

_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose)


@dataclass(frozen=True)
class _Canvas:
    """Where the result lies on the canvas that the windows of all pixels cover.

    Args:
        kernel: In pixels.
        strides: Distance between the windows.
        dilations: Distance between a window's pixels.
        crops: Pixels of the canvas before and behind the result; behind, fewer than none where the
            result goes beyond the canvas.
    """

    kernel: tuple[int, ...]
    strides: Steps
    dilations: Steps
    crops: Pads

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from a window's first to its last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


@register_operator("ConvTranspose", since=1)
def conv_transpose(call: Call) -> Value:
    """Conv2DTranspose (Conv1DTranspose); Conv2D over zeros and pixels for groups, dilations."""
    value = maps(call)
    kernel = call.constant(1)  # (channels, filters per group, *window)
    groups = call.attribute("group", 1)
    canvas = _canvas(call, kernel.shape[2:], value.tensor)
    if kernel.shape[0] != value.tensor.shape[-1] or kernel.shape[0] % groups:
        raise ValueError(
            f"a kernel of shape {kernel.shape} in {groups} groups does not fit "
            f"{value.tensor.shape[-1]} channels"
        )
    is_plain = groups == 1 and max(canvas.dilations) == 1
    write = _transposed if is_plain else _over_zeros
    return value.with_tensor(write(call, value.tensor, canvas, kernel))


def _canvas(call: Call, kernel: tuple[int, ...], tensor: Any) -> _Canvas:
    plain = window(call, kernel, tensor) if _has_plain_pads(call) else None
    sizes = tensor.shape[1:-1]
    strides = within_bounds(call.attribute("strides") or [1] * len(sizes), 1)
    dilations = within_bounds(call.attribute("dilations") or [1] * len(sizes), 1)
    beyond = within_bounds(call.attribute("output_padding") or [0] * len(sizes))
    canvas = _Canvas(kernel, strides, dilations, ())
    if plain is not None:
        crops = [
            (before, behind - more)
            for (before, behind), more in zip(plain.pads, beyond, strict=True)
        ]
    else:
        stated = within_bounds((call.attribute("output_shape") or [])[-len(sizes) :], 1)
        outputs = stated or (None,) * len(sizes)
        axes = zip(sizes, canvas.extent, strides, beyond, outputs, strict=True)
        crops = [_automatic_crops(call, *axis) for axis in axes]
    return _Canvas(kernel, strides, dilations, tuple(crops))


def _has_plain_pads(call: Call) -> bool:
    is_given = call.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return is_given and not call.attribute("output_shape")


def _automatic_crops(
    call: Call, size: int | None, extent: int, stride: int, beyond: int, output: int | None
) -> tuple[int, int]:
    """Crops that give a wanted size: a stated one, or as many as `size * stride`."""
    if output is None:
        covered, wanted = extent - stride, 0
    elif size is None:
        raise needs_size("its output_shape needs the image's size")
    else:
        covered, wanted = stride * (size - 1) + extent, output
    total = max(covered + beyond - wanted, 0)
    before = total // 2
    if call.attribute("auto_pad", "NOTSET") != "SAME_UPPER":
        before = total - before
    # A size that is not stated stays below `size * stride` where the windows leave gaps.
    return before, (total - beyond if output is None else covered - wanted) - before


def _transposed(call: Call, tensor: Any, canvas: _Canvas, kernel: np.ndarray) -> Any:
    """A layer, cropped; Keras' own canvas holds `stride` pixels for each of the map's at least."""
    axes = list(zip(canvas.kernel, canvas.strides, canvas.crops, strict=True))
    is_same = all(k >= s and crops == ((k - s) // 2, k - s - (k - s) // 2) for k, s, crops in axes)
    crops = tuple((before, behind + max(s - k, 0)) for k, s, (before, behind) in axes)
    missing = tuple(
        -(min(behind, 0) // s) for (_, behind), s in zip(crops, canvas.strides, strict=True)
    )
    tensor = zero_padded(call, tensor, tuple((0, pixels) for pixels in missing))
    crops = tuple(
        (before, behind + pixels * s)
        for (before, behind), pixels, s in zip(crops, missing, canvas.strides, strict=True)
    )
    bias = call.constant(2)
    is_last = is_same or not any(map(any, crops))
    tensor = call.write.layer(
        _TRANSPOSED[len(axes) - 1],
        tensor,
        "" if is_last else "conv",
        [np.moveaxis(kernel, (0, 1), (-1, -2)), *([] if bias is None else [bias])],
        filters=kernel.shape[1],
        kernel_size=canvas.kernel,
        strides=canvas.strides,
        padding="same" if is_same else "valid",
        use_bias=bias is not None,
    )
    return tensor if is_last else cropped(call, tensor, crops, part="")


def _over_zeros(call: Call, tensor: Any, canvas: _Canvas, kernel: np.ndarray) -> Any:
    """Zeros between the pixels, then a convolution with the kernel turned round."""
    for axis, stride in enumerate(canvas.strides, start=1):
        tensor = _spread(call, tensor, axis, stride)
    axes = zip(canvas.extent, canvas.strides, canvas.crops, strict=True)
    pads = [(e - 1 - before, e - s - behind) for e, s, (before, behind) in axes]
    crops = tuple((max(-before, 0), max(-behind, 0)) for before, behind in pads)
    tensor = cropped(call, tensor, crops)
    sizes = tuple(tensor.shape[1:-1])
    around = tuple((max(before, 0), max(behind, 0)) for before, behind in pads)
    ones = (1,) * len(sizes)
    geometry = Window(canvas.kernel, ones, canvas.dilations, around, around, sizes)
    groups = call.attribute("group", 1)
    by_group = kernel.reshape(groups, -1, *kernel.shape[1:]).swapaxes(1, 2)
    turned = np.flip(by_group, tuple(range(3, by_group.ndim)))
    turned = turned.reshape(-1, *turned.shape[2:])  # (filters, channels per group, *window)
    return convolved(call, tensor, geometry, turned, call.constant(2), groups)


def _spread(call: Call, tensor: Any, axis: int, stride: int) -> Any:
    """The map with `stride - 1` zeros behind each pixel of an axis.

    A row followed by zero rows of its own length is `stride` rows: the next axis is padded and
    what was padded becomes part of this one.
    """
    if stride == 1:
        return tensor
    shape = list(tensor.shape)
    if None in (shape[axis + 1], *shape[1:axis]):
        raise needs_size("groups or dilations need the image's size")
    width = [(0, 0)] * len(shape)
    width[axis + 1] = (0, shape[axis + 1] * (stride - 1))
    tensor = call.write.operation(ops.pad, tensor, tuple(width), part="zeros")
    shape[axis] = -1 if shape[axis] is None else shape[axis] * stride
    return call.write.layer(layers.Reshape, tensor, "spread", target_shape=tuple(shape[1:]))
