"""Convolutions."""

import numpy as np
from keras import layers

from keras_amalgam.teachers.layout import Value
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator
from keras_amalgam.teachers.operators.windows import Window, window, zero_padded


@operator("Conv", since=1)
def conv(call: Call) -> Value:
    """Conv2D or DepthwiseConv2D, with ZeroPadding2D where Keras has no such padding."""
    images = call.images()
    kernel = call.constant(1)  # (filters, channels per group, height, width)
    bias = call.constant(2)
    groups = call.attribute("group", 1)
    geometry = window(call, kernel.shape[2:], images)
    if max(geometry.strides) > 1 and max(geometry.dilations) > 1:
        raise call.refusal("strides and dilations above 1 together are not known")
    padding = geometry.padding
    if padding == "explicit":
        images = zero_padded(call, images, geometry.pads)
    weights = [] if bias is None else [bias]
    config = {
        "kernel_size": geometry.kernel,
        "strides": geometry.strides,
        "dilation_rate": geometry.dilations,
        "padding": "same" if padding == "same" else "valid",
        "use_bias": bias is not None,
    }
    if _is_depthwise(groups, images.shape[-1], geometry):
        depthwise = kernel.reshape(groups, -1, *geometry.kernel).transpose(2, 3, 0, 1)
        config["depth_multiplier"] = depthwise.shape[-1]
        tensor = call.write.layer(
            layers.DepthwiseConv2D, images, weights=[depthwise, *weights], **config
        )
    else:
        config |= {"filters": kernel.shape[0], "groups": groups}
        tensor = call.write.layer(
            layers.Conv2D, images, weights=[np.transpose(kernel, (2, 3, 1, 0)), *weights], **config
        )
    return call.maps(tensor)


def _is_depthwise(groups: int, channels: int, geometry: Window) -> bool:
    """TensorFlow's depthwise kernel has one stride for both axes."""
    return groups == channels > 1 and geometry.strides[0] == geometry.strides[1]
