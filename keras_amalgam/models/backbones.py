"""Backbones by name, for recipes and the command line."""

import keras
from keras import layers

from keras_amalgam.keras_settings import keras_defaults

COMPACT = "compact"

# Of the moving statistics: short trainings of a few thousand steps must not lag behind.
MOMENTUM = 0.95


@keras_defaults(keep_policy=True)
def backbone(name: str, image_shape: tuple[int, int, int]) -> keras.Model:
    """A backbone without a top, with initial weights.

    Args:
        name: `"compact"`, or a class of `keras.applications` such as `"MobileNetV3Small"`.
        image_shape: `(height, width, channels)` that it takes.

    Raises:
        ValueError: If there is no such backbone.
    """
    if name not in names():
        raise ValueError(f"There is no backbone {name!r}. Known: {names()}.")
    if name == COMPACT:
        return compact(image_shape)
    make = getattr(keras.applications, name)
    return make(include_top=False, input_shape=image_shape, weights=None)


@keras_defaults()
def with_imagenet_weights(name: str, image_shape: tuple[int, int, int]) -> keras.Model:
    """A network of `keras.applications` without its top, with the weights that Keras downloads.

    Args:
        name: A class of `keras.applications`.
        image_shape: `(height, width, 3)`.

    Raises:
        ConnectionError: If they cannot be downloaded.
        ValueError: If the network does not take such images.
    """
    make = getattr(keras.applications, name)
    try:
        return make(include_top=False, input_shape=image_shape, weights="imagenet")
    except (ValueError, TypeError):
        raise
    except Exception as error:  # Keras raises nothing more precise when it cannot download.
        raise ConnectionError(
            f"The ImageNet weights of {name} could not be downloaded. Received: {error}. Download "
            "them where there is a network, and give the file as the weights."
        ) from error


def names() -> list[str]:
    """Every backbone's name."""
    return [COMPACT, *(name for name in dir(keras.applications) if name[0].isupper())]


@keras_defaults(keep_policy=True)
def compact(image_shape: tuple[int, int, int], width: int = 96, depth: int = 4) -> keras.Model:
    """A small depthwise-separable network for small images.

    Two strided layers come first, so that nearly all work is done at a quarter of the resolution,
    by depthwise-separable blocks with residual connections. The last activation is the layer
    `"map"`.

    Args:
        image_shape: `(height, width, channels)`, sides of at least 8.
        width: Channels of the blocks, a multiple of 4.
        depth: Number of residual blocks.

    Reference:
        [Howard et al., 2017](https://arxiv.org/abs/1704.04861)
    """
    images = keras.Input(image_shape)
    x = layers.Conv2D(width // 4, 3, strides=2, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
    x = _separable(x, width, strides=2)
    for _ in range(depth):
        x = layers.Add()([x, _separable(x, width)])
    x = layers.Conv2D(width * 4 // 3, 1, use_bias=False)(x)
    x = layers.ReLU(name="map")(layers.BatchNormalization(momentum=MOMENTUM)(x))
    return keras.Model(images, x, name="compact")


def _separable(x: keras.KerasTensor, channels: int, strides: int = 1) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
