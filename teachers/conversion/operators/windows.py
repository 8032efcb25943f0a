"""The geometry that convolutions and poolings share, along one or two spatial axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from keras import layers

from keras_amalgam.teachers.conversion.layout import Value, channels_last, needs_size, to_order
from keras_amalgam.teachers.conversion.operators.call import Call

Pads = tuple[tuple[int, int], ...]
Steps = tuple[int, ...]

MAX_WORK = 2**31  # Pixels under all windows together, of one channel.
MAX_PIXELS = 2**14  # Along one axis; a damaged file must not make us build more.


@dataclass(frozen=True)
class Window:
    """A window that slides over a map; every entry has one item per spatial axis.

    Args:
        kernel: In pixels.
        strides: In pixels.
        dilations: Distance between the window's pixels.
        pads: Pixels before and behind the map, the last incomplete window's included.
        counted_pads: The pads that an average may count, without an incomplete window's.
        sizes: The map's sizes; `None` where open.
        same_upper: Whether the source itself asks for as many windows as `size / stride`.
    """

    kernel: tuple[int, ...]
    strides: Steps
    dilations: Steps
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
        if not any(map(any, self.pads)):
            return "valid"
        same = zip(self.extent, self.strides, self.pads, self.sizes, strict=True)
        return "same" if all(_is_same(*axis) for axis in same) else "explicit"

    @property
    def outputs(self) -> tuple[int, ...]:
        """Number of windows along each axis; the sizes must not be open."""
        axes = zip(self.sizes, self.pads, self.extent, self.strides, strict=True)
        return tuple(((n or 0) + sum(pad) - k) // s + 1 for n, pad, k, s in axes)

    @property
    def has_counted_pads(self) -> bool:
        """Whether there are pads that an average may count."""
        return self.same_upper or any(map(any, self.counted_pads))

    @property
    def sees_everything(self) -> bool:
        """Whether there is one undilated window, in which the whole map lies."""
        if None in self.sizes or max(self.dilations) > 1 or set(self.outputs) != {1}:
            return False
        axes = zip(self.sizes, self.pads, self.kernel, strict=True)
        return all((size or 0) + pad[0] <= kernel for size, pad, kernel in axes)

    def without_pads(self) -> "Window":
        """The window over a map that has its padding already."""
        none = tuple((0, 0) for _ in self.pads)
        return replace(self, pads=none, counted_pads=none, same_upper=False)


def maps(call: Call) -> Value:
    """The first input as maps `(batch, length, channels)` or `(batch, height, width, channels)`.

    Raises:
        NotImplementedError: If it has other than one or two spatial axes.
    """
    value = call.value()
    if value.rank not in (3, 4):
        raise call.refusal(f"it works on {value.rank - 2} spatial axes, only 1 and 2 are known")
    return to_order(call.write, value, channels_last(value.rank))


def within_bounds(amounts: Sequence[int], least: int = 0) -> tuple[int, ...]:
    """The amounts, in pixels, of a node's attribute.

    Raises:
        ValueError: If one is smaller than `least` or larger than `MAX_PIXELS`.
    """
    if any(not least <= amount <= MAX_PIXELS for amount in amounts):
        raise ValueError(f"amounts of {least} to {MAX_PIXELS:,} pixels are needed, not {amounts}")
    return tuple(int(amount) for amount in amounts)


def window(call: Call, kernel: Sequence[int], tensor: Any) -> Window:
    """The window of a convolution or pooling node.

    Args:
        call: The node.
        kernel: Its size along each spatial axis.
        tensor: The map it slides over, channels last.

    Raises:
        NotImplementedError: If the padding depends on an open height or width.
        ValueError: If an attribute has not one entry for each spatial axis and side, or one that
            no image has use for.
    """
    sizes = tuple(tensor.shape[1:-1])
    kernel = within_bounds(kernel, 1)
    strides = within_bounds(call.attribute("strides") or [1] * len(sizes), 1)
    spread = within_bounds(call.attribute("dilations") or [1] * len(sizes), 1)
    dilations = tuple(d if k > 1 else 1 for d, k in zip(spread, kernel, strict=True))
    amounts = within_bounds(call.attribute("pads") or [0] * 2 * len(sizes))
    if len(amounts) != 2 * len(sizes):
        raise ValueError(f"{len(sizes)} spatial axes need {2 * len(sizes)} pads, not {amounts}")
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    axes = tuple(zip(sizes, extent, strides, strict=True))
    automatic = call.attribute("auto_pad", "NOTSET")
    same_upper = automatic == "SAME_UPPER"
    if automatic in ("SAME_UPPER", "SAME_LOWER") and max(dilations) > 1:
        raise call.refusal(f"auto_pad {automatic} and dilations, which runtimes read differently")
    if automatic in ("SAME_UPPER", "SAME_LOWER") and call.node.operator.endswith("Pool"):
        _refuse_gaps(call, axes, automatic == "SAME_LOWER")
    if automatic == "NOTSET":
        pads: Pads = tuple(zip(amounts[: len(sizes)], amounts[len(sizes) :], strict=True))
    elif automatic == "VALID" or (same_upper and None in sizes and max(strides) > 1):
        pads = tuple((0, 0) for _ in sizes)
    else:
        pads = tuple(_same_pads(call, *axis, lower=automatic == "SAME_LOWER") for axis in axes)
    counted = pads
    if call.attribute("ceil_mode", 0):
        pads = tuple(_ceiled(call, *a, pad) for a, pad in zip(axes, pads, strict=True))
    made = Window(kernel, strides, dilations, pads, counted, sizes, same_upper)
    if None not in sizes and math.prod(made.outputs) * math.prod(kernel) > MAX_WORK:
        raise ValueError(f"{kernel} pixels under each of {made.outputs} windows are no network's")
    return made


def _refuse_gaps(call: Call, axes: Sequence[tuple[int | None, int, int]], lower: bool) -> None:
    """Refuse pools whose windows leave so many pixels out that onnxruntime crops the first ones.

    TensorFlow begins with the first pixel, as convolutions do in both.
    """
    for size, extent, stride in axes:
        covered = (-(-size // stride) - 1) * stride + extent if size else extent - stride
        if covered - (size or 0) + lower <= -2:
            raise call.refusal(
                f"auto_pad with windows of {extent} pixels, {stride} apart, which runtimes read "
                "differently. Export it with pads"
            )


def require_pads(call: Call, geometry: Window) -> None:
    """Make sure that the pads are known as numbers.

    Raises:
        NotImplementedError: If the source leaves them to the image's open size.
    """
    if geometry.same_upper and None in geometry.sizes and max(geometry.strides) > 1:
        raise needs_size("its padding depends on the image's size")


def zero_padded(call: Call, tensor: Any, pads: Pads, part: str = "pad") -> Any:
    """The map with zeros around it."""
    if not any(map(any, pads)):
        return tensor
    layer = (layers.ZeroPadding1D, layers.ZeroPadding2D)[len(pads) - 1]
    return call.write.layer(layer, tensor, part, padding=_for_keras(pads))


def cropped(call: Call, tensor: Any, crops: Pads, part: str = "crop") -> Any:
    """The map without some of its border."""
    if not any(map(any, crops)):
        return tensor
    layer = (layers.Cropping1D, layers.Cropping2D)[len(crops) - 1]
    return call.write.layer(layer, tensor, part, cropping=_for_keras(crops))


def subsampled(call: Call, tensor: Any, steps: Steps, part: str = "subsample") -> Any:
    """Every `steps`-th pixel of the map, from the first on."""
    if max(steps) == 1:
        return tensor
    layer = (layers.MaxPooling1D, layers.MaxPooling2D)[len(steps) - 1]
    pool = (1,) * len(steps)  # The maximum of one pixel is the pixel.
    return call.write.layer(layer, tensor, part, pool_size=pool, strides=steps)


def channels(tensor: Any, first: int, count: int) -> Any:
    """Some neighbouring channels of a map."""
    return tensor[..., first : first + count]


def _for_keras(amounts: Pads) -> Any:
    """One axis' pair stands alone in Keras; its configuration wants Python's own integers."""
    pairs = tuple((int(before), int(behind)) for before, behind in amounts)
    return pairs[0] if len(pairs) == 1 else pairs


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
        raise needs_size("its padding depends on the image's size")
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
        if behind + stride > extent:  # Windows in the padding must not be; the size decides.
            raise needs_size("its number of windows (ceil_mode) depends on the image's size")
        return before, behind + stride - 1
    outputs = math.ceil((size + before + behind - extent) / stride) + 1
    if (outputs - 1) * stride >= size + before:  # Such a window would see padding only.
        outputs -= 1
    return before, max(behind, (outputs - 1) * stride + extent - size - before)
