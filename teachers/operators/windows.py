"""The geometry that convolutions and poolings share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from keras import layers

from keras_amalgam.teachers.operators.call import Call

_OPEN = "the image's size, which the file leaves open. Pass `input_shape=(height, width, channels)`"

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """A window that slides over a map.

    Args:
        kernel: `(height, width)`, in pixels.
        strides: In pixels.
        dilations: Distance between the window's pixels.
        pads: `((top, bottom), (left, right))`, in pixels, the last incomplete window's included.
        counted_pads: The pads that an average may count, without an incomplete window's.
        sizes: The map's `(height, width)`; `None` where open.
        same_upper: Whether the source itself asks for as many windows as `size / stride`.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    counted_pads: Pads
    sizes: tuple[int | None, ...]
    same_upper: bool = False

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from the window's first to its last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def padding(self) -> Literal["valid", "same", "explicit"]:
        """The Keras padding that places the windows as the source does, if there is one."""
        if self.same_upper:
            return "same"
        if self.pads == ((0, 0), (0, 0)):
            return "valid"
        same = zip(self.extent, self.strides, self.pads, self.sizes, strict=True)
        return "same" if all(_is_same(*axis) for axis in same) else "explicit"

    @property
    def outputs(self) -> tuple[int, ...]:
        """Number of windows along each axis; the sizes must not be open."""
        axes = zip(self.sizes, self.pads, self.extent, self.strides, strict=True)
        return tuple(((n or 0) + sum(pad) - k) // s + 1 for n, pad, k, s in axes)


def window(call: Call, kernel: Sequence[int], images: Any) -> Window:
    """The window of a convolution or pooling node.

    Args:
        call: The node.
        kernel: `(height, width)`.
        images: The map it slides over, channels last.

    Raises:
        NotImplementedError: If the padding depends on an open height or width.
    """
    strides = tuple(call.attribute("strides", [1, 1]))
    dilations = tuple(call.attribute("dilations", [1, 1]))
    sizes = tuple(images.shape[1:3])
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    axes = tuple(zip(sizes, extent, strides, strict=True))
    automatic = call.attribute("auto_pad", "NOTSET")
    top, left, bottom, right = call.attribute("pads", [0, 0, 0, 0])
    if automatic == "NOTSET":
        pads: Pads = ((top, bottom), (left, right))
    elif automatic == "VALID" or (automatic == "SAME_UPPER" and None in sizes):
        pads = ((0, 0), (0, 0))
    else:
        pads = tuple(_same_pads(call, *axis, lower=automatic == "SAME_LOWER") for axis in axes)
    counted = pads
    if call.attribute("ceil_mode", 0):
        pads = tuple(_ceiled(call, *a, pad) for a, pad in zip(axes, pads, strict=True))
    same_upper = automatic == "SAME_UPPER"
    return Window(tuple(kernel), strides, dilations, pads, counted, sizes, same_upper)


def zero_padded(call: Call, images: Any, pads: Pads) -> Any:
    """The map with zeros around it.

    Raises:
        NotImplementedError: If pads are negative.
    """
    if min(min(pads)) < 0:
        raise call.refusal(f"negative pads {pads} are not known")
    return call.write.layer(layers.ZeroPadding2D, images, "pad", padding=pads)


def _same_total(extent: int, stride: int, size: int) -> int:
    return max((math.ceil(size / stride) - 1) * stride + extent - size, 0)


def _is_same(extent: int, stride: int, pads: tuple[int, int], size: int | None) -> bool:
    if size is None and stride > 1:
        return False
    total = _same_total(extent, stride, size or 1)
    return pads == (total // 2, total - total // 2)


def _same_pads(
    call: Call, size: int | None, extent: int, stride: int, lower: bool
) -> tuple[int, int]:
    if size is None and stride > 1:
        raise call.refusal(f"its padding depends on {_OPEN}")
    total = _same_total(extent, stride, size or 1)
    less, more = total // 2, total - total // 2
    return (more, less) if lower else (less, more)


def _ceiled(
    call: Call, size: int | None, extent: int, stride: int, pads: tuple[int, int]
) -> tuple[int, int]:
    """Pads with what the last, incomplete window needs behind the map."""
    before, behind = pads
    if stride == 1:
        return pads
    if size is None:
        raise call.refusal(f"its number of windows (ceil_mode) depends on {_OPEN}")
    outputs = math.ceil((size + before + behind - extent) / stride) + 1
    if (outputs - 1) * stride >= size + before:  # Such a window would see padding only.
        outputs -= 1
    return before, max(behind, (outputs - 1) * stride + extent - size - before)
