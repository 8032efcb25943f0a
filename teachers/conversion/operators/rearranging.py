"""Between depth, or columns, and space."""

import numpy as np
from keras import ops

from keras_amalgam.teachers.conversion.layout import Value, channels_last, to_order, transposed
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.reshaping import reshaped


@register_operator("DepthToSpace", since=1)
def depth_to_space(call: Call) -> Value:
    """ops.depth_to_space, its channels put into Keras' sequence first where the mode is CRD."""
    value, block = _map(call)
    tensor = value.tensor
    mode = call.attribute("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise call.refusal(f"its mode {mode!r} is not known")
    channels = tensor.shape[-1]
    if channels % block**2:
        raise ValueError(f"{channels} channels are no blocks of {block} by {block}")
    if mode == "CRD" and channels > block**2:
        sequence = np.arange(channels).reshape(-1, block**2).T.reshape(-1)
        tensor = call.write.operation(ops.take, tensor, sequence, axis=-1, part="sequence")
    return value.with_tensor(call.write.operation(ops.depth_to_space, tensor, block))


@register_operator("SpaceToDepth", since=1)
def space_to_depth(call: Call) -> Value:
    """ops.space_to_depth."""
    value, block = _map(call)
    if call.attribute("mode", "DCR") != "DCR":
        raise call.refusal(f"its mode {call.attribute('mode')!r} is not known")
    if any((size or 0) % block for size in value.tensor.shape[1:3]):
        raise ValueError(f"a map of {value.tensor.shape} is no blocks of {block} by {block}")
    return value.with_tensor(call.write.operation(ops.space_to_depth, value.tensor, block))


@register_operator("Col2Im", since=18)
def col2im(call: Call) -> Value:
    """Reshape and Permute, for blocks that lie side by side."""
    value = call.value()
    image, block = ([int(n) for n in call.constant(index)] for index in (1, 2))
    steps = call.attribute("strides", [1] * len(block))
    dilations, pads = call.attribute("dilations") or [1], call.attribute("pads") or [0]
    if len(block) != 2 or steps != block or set(dilations) != {1} or set(pads) != {0}:
        raise call.refusal(f"blocks of {block} that overlap or leave gaps are not known")
    (height, width), (rows, columns) = image, block
    batch, channels, count = value.sizes
    inside = [rows, columns, height // rows, width // columns]
    if channels % (rows * columns) or height % rows or width % columns:
        raise ValueError(
            f"{channels} columns of {count} blocks of {block} make no image of {image}"
        )
    depth = channels // (rows * columns)
    value = reshaped(call.write, value, [batch, depth, *inside])
    return reshaped(
        call.write, transposed(value, (0, 1, 4, 2, 5, 3)), [batch, depth, height, width]
    )


def _map(call: Call) -> tuple[Value, int]:
    value, block = call.value(), call.attribute("blocksize")
    if value.rank != 4 or not block or block < 1:
        raise ValueError(f"blocks of {block} of a tensor of {value.rank} axes; it takes maps")
    return to_order(call.write, value, channels_last(4)), block
