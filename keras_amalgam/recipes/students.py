"""Backbones by name, for recipes and the command line."""

import keras
from keras import layers

COMPACT = "compact"


def backbone(name: str, image_shape: tuple[int, int, int]) -> keras.Model:
    """A backbone without a top, with initial weights.

    Args:
        name: `"compact"`, or a class of `keras.applications` such as `"MobileNetV3Small"`.
        image_shape: `(height, width, channels)` that it takes.

    Raises:
        ValueError: If there is no such backbone.
    """
    if name == COMPACT:
        return compact(image_shape)
    make = getattr(keras.applications, name, None)
    if make is None or not callable(make):
        known = [n for n in dir(keras.applications) if n[0].isupper()]
        raise ValueError(f"There is no student {name!r}. Known: {[COMPACT, *known]}.")
    return make(include_top=False, input_shape=image_shape, weights=None)


def compact(image_shape: tuple[int, int, int], width: int = 32) -> keras.Model:
    """A small depthwise-separable network for small images.

    A strided convolution, then depthwise-separable blocks with residual connections at half and at
    a quarter of the resolution. The last activation, `4 * width` channels at a quarter of the
    resolution, is the layer `"map"`.

    Args:
        image_shape: `(height, width, channels)`, sides of at least 8.
        width: Channels at half resolution; twice as many at a quarter.

    Reference:
        [Howard et al., 2017](https://arxiv.org/abs/1704.04861)
    """
    images = keras.Input(image_shape)
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = _residual(x)
    x = _separable(x, 2 * width, strides=2)
    for _ in range(3):
        x = _residual(x)
    x = layers.Conv2D(4 * width, 1, use_bias=False)(x)
    x = layers.ReLU(name="map")(layers.BatchNormalization()(x))
    return keras.Model(images, x, name="compact")


def _separable(x: keras.KerasTensor, channels: int, strides: int = 1) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _residual(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Add()([x, _separable(x, x.shape[-1])])
