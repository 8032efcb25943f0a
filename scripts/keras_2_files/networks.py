"""Layers of Keras 2, in families that become one model each."""

import importlib
from typing import Any

import numpy as np

from scripts.keras_2_files.operations import OPERATIONS

tf: Any = importlib.import_module("tensorflow")
K = tf.keras.backend
L = tf.keras.layers
P = getattr(getattr(L, "experimental", L), "preprocessing", L)
SHAPE = (8, 7, 3)
IMAGES = np.random.default_rng(0).uniform(-2, 2, (1, *SHAPE)).astype("float32")


def preprocessing_layer(name):
    """A layer that was experimental before TensorFlow 2.6."""
    return getattr(L, name, None) or getattr(P, name)


def layer(name, *args, **kwargs):
    """What one layer makes of the images; its class may be missing in this version."""
    return lambda x: preprocessing_layer(name)(*args, **kwargs)(x)


def normalization(**kwargs):
    """Statistics that are given, or before TensorFlow 2.4 had to be learned."""

    def made(x):
        new = preprocessing_layer("Normalization")(**kwargs)
        if "mean" not in kwargs:
            new.adapt(IMAGES * 3 + 1)
        return new(x)

    return made


def sequence(x):
    """Images as sequences of rows."""
    return L.Reshape((SHAPE[0], SHAPE[1] * SHAPE[2]))(x)


def backbone(frozen):
    """A network inside a network, whose middle is perhaps frozen."""
    inner = tf.keras.Sequential(
        [
            L.Conv2D(4, 3, input_shape=SHAPE),
            L.BatchNormalization(),
            L.ReLU(6.0),
            L.Conv2D(4, 3),
            L.BatchNormalization(),
        ]
    )
    if frozen == "whole":
        inner.trainable = False
    if frozen == "middle":
        inner.layers[1].trainable = inner.layers[3].trainable = False
    return inner


def functional_backbone(x):
    """A functional network inside a network, with a shared layer."""
    inputs = tf.keras.Input(SHAPE)
    shared = L.Conv2D(3, 3, padding="same")
    y = L.Add()([shared(inputs), shared(shared(inputs))])
    return tf.keras.Model(inputs, L.BatchNormalization()(y))(x)


def twice(x):
    """One network inside another, called two times."""
    inner = tf.keras.Sequential([L.Conv2D(3, 3, padding="same", input_shape=SHAPE)])
    return L.Concatenate()([inner(x), inner(inner(x))])


def attended(x):
    """Self-attention over rows."""
    rows = sequence(x)
    return L.MultiHeadAttention(2, 5, value_dim=4, dropout=0.1)(rows, rows)


def branches_of_equal_shape(x):
    """Layers in another order than their names', alike in shape."""
    middle = L.Conv2D(4, 3, name="branch_m", activation="hard_sigmoid")
    parts = [L.Conv2D(4, 3, name="branch_z")(x), L.Conv2D(4, 3, name="branch_a")(x), middle(x)]
    deep = L.Conv2D(4, 3, padding="same", name="branch_b")(parts[2])
    return L.Concatenate()([parts[0], deep, parts[1]])


def inside(make):
    """A functional network of its own."""
    inputs = tf.keras.Input(SHAPE)
    return tf.keras.Model(inputs, make(inputs))


def activation(name):
    """An activation by its name."""
    return lambda x: L.Activation(name)(x)


FAMILIES = {
    "convolutions": {
        "strided": layer("Conv2D", 4, 3, strides=2, padding="same", activation="relu"),
        "rectangular": layer("Conv2D", 4, (3, 2), use_bias=False, kernel_regularizer="l2"),
        "dilated": layer("Conv2D", 4, 3, dilation_rate=2, kernel_constraint="max_norm"),
        "grouped": layer("Conv2D", 6, 3, groups=3, kernel_initializer="he_normal"),
        "separable": layer("SeparableConv2D", 5, 3, depth_multiplier=2, activation="tanh"),
        "depthwise": layer("DepthwiseConv2D", 3, strides=2, padding="same", depth_multiplier=2),
        "depthwise_dilated": layer("DepthwiseConv2D", 3, dilation_rate=(2, 2)),
        "transposed": layer("Conv2DTranspose", 4, 3, strides=2, padding="same"),
        "transposed_valid": layer("Conv2DTranspose", 4, 2, strides=3),
        "output_padding": layer("Conv2DTranspose", 4, 3, strides=2, output_padding=1),
        "rows": lambda x: L.Conv1D(4, 3, padding="causal", dilation_rate=2)(sequence(x)),
        "dense": layer("Dense", 4, activation="elu"),
        "head": lambda x: L.Dense(5, activation="softmax")(L.Flatten()(x)),
        "timed": lambda x: L.TimeDistributed(L.Dense(4))(sequence(x)),
        "recurrent": lambda x: L.Bidirectional(L.GRU(3))(sequence(x)),
        "recurrent_long": lambda x: L.LSTM(3, return_sequences=True)(sequence(x)),
    },
    "normalizations": {
        "batch": layer("BatchNormalization"),
        "batch_settings": layer("BatchNormalization", epsilon=1e-5, momentum=0.9),
        "batch_plain": layer("BatchNormalization", scale=False, center=False),
        "batch_rows": layer("BatchNormalization", axis=1),
        "batch_frozen": layer("BatchNormalization", trainable=False),
        "layer": layer("LayerNormalization", epsilon=1e-2),
        "layer_axes": layer("LayerNormalization", axis=[1, 2, 3]),
        "layer_axes_plain": layer("LayerNormalization", axis=[1, 2], center=False, scale=False),
        "groups": layer("GroupNormalization", groups=3, epsilon=1e-2),
        "unit": layer("UnitNormalization"),
        "unit_axes": layer("UnitNormalization", axis=[1, 2]),
        "adapted": normalization(),
        "adapted_none": normalization(axis=None),
        "adapted_rows": normalization(axis=[1, 3]),
        "given": normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
    },
    "activations": {
        **{
            name: activation(name)
            for name in ("elu", "exponential", "gelu", "hard_sigmoid", "linear", "relu", "selu")
            + ("sigmoid", "softmax", "softplus", "softsign", "swish", "tanh")
        },
        "mish": activation("mish"),
        "relu6": lambda x: L.Activation(tf.nn.relu6)(x),
        "in_convolution": layer("Conv2D", 4, 3, activation="hard_sigmoid"),
        "in_dense": layer("Dense", 4, activation="swish"),
        "relu_settings": layer("ReLU", max_value=1.5, negative_slope=0.1, threshold=0.2),
        "relu_6": layer("ReLU", 6.0),
        "leaky": layer("LeakyReLU", alpha=0.1),
        "leaky_default": layer("LeakyReLU"),
        "prelu": layer("PReLU", shared_axes=[1, 2]),
        "prelu_full": layer("PReLU"),
        "elu_layer": layer("ELU", alpha=0.5),
        "softmax_layer": layer("Softmax"),
        "softmax_axis": layer("Softmax", axis=1),
        "softmax_axes": layer("Softmax", axis=[1, 2]),
    },
    "pooling": {
        "largest": layer("MaxPooling2D", 3, strides=2, padding="same"),
        "mean": layer("AveragePooling2D", (3, 2), strides=1, padding="same"),
        "mean_valid": layer("AveragePooling2D"),
        "global_mean": layer("GlobalAveragePooling2D"),
        "global_largest": layer("GlobalMaxPooling2D"),
        "global_first": layer("GlobalAveragePooling2D", data_format="channels_first"),
        "global_keeps": layer("GlobalAveragePooling2D", keepdims=True),
        "rows": lambda x: L.MaxPooling1D(2)(sequence(x)),
        "rows_global": lambda x: L.GlobalAveragePooling1D()(sequence(x)),
    },
    "shapes": {
        "padded": layer("ZeroPadding2D", ((1, 2), (0, 3))),
        "cropped": layer("Cropping2D", ((1, 2), (0, 3))),
        "nearest": layer("UpSampling2D", (2, 3)),
        "bilinear": layer("UpSampling2D", 3, interpolation="bilinear"),
        "flat": layer("Flatten"),
        "flat_first": layer("Flatten", data_format="channels_first"),
        "reshaped": layer("Reshape", (-1, 6)),
        "permuted": layer("Permute", (3, 1, 2)),
        "repeated": lambda x: L.RepeatVector(3)(L.Flatten()(x)),
        "masked": lambda x: L.Masking()(sequence(x)),
        "added": lambda x: L.Add()([x, x, L.ReLU()(x)]),
        "subtracted": lambda x: L.Subtract()([x, L.ReLU()(x)]),
        "multiplied": lambda x: L.Multiply()([x, L.ReLU()(x)]),
        "averaged": lambda x: L.Average()([x, L.ReLU()(x)]),
        "largest": lambda x: L.Maximum()([x, L.Softmax()(x)]),
        "smallest": lambda x: L.Minimum()([x, L.Softmax()(x)]),
        "joined": lambda x: L.Concatenate(axis=1)([x, L.ReLU()(x)]),
        "dotted": lambda x: L.Dot(axes=(2, 2), normalize=True)([sequence(x), sequence(x)]),
        "functional_style": lambda x: L.add([x, L.ReLU()(x)]),
    },
    "preparing": {
        "rescaled": layer("Rescaling", 1 / 127.5, offset=-1),
        "rescaled_channels": layer("Rescaling", [0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0]),
        "bilinear": layer("Resizing", 5, 11),
        "nearest": layer("Resizing", 5, 11, interpolation="nearest"),
        "bicubic": layer("Resizing", 5, 11, interpolation="bicubic"),
        "cut": layer("Resizing", 6, 9, crop_to_aspect_ratio=True),
        "center": layer("CenterCrop", 5, 4),
        "center_odd": layer("CenterCrop", 7, 6),
        "flipped": layer("RandomFlip", "horizontal"),
        "rotated": layer("RandomRotation", 0.1),
        "zoomed": layer("RandomZoom", 0.1),
        "moved": layer("RandomTranslation", 0.1, 0.1, fill_mode="reflect"),
        "contrast": layer("RandomContrast", 0.2),
        "brighter": layer("RandomBrightness", 0.2),
        "dropped": layer("Dropout", 0.5),
        "dropped_maps": layer("SpatialDropout2D", 0.5),
        "dropped_noise": layer("GaussianDropout", 0.5),
        "dropped_selu": layer("AlphaDropout", 0.5),
        "noisy": layer("GaussianNoise", 0.5),
        "regularized": layer("ActivityRegularization", 0.1),
    },
    "attention": {
        "heads": attended,
        "dot": lambda x: L.Attention(use_scale=True)([sequence(x), sequence(x)]),
        "additive": lambda x: L.AdditiveAttention()([sequence(x), sequence(x)]),
    },
    "nested": {
        "sequential": lambda x: backbone("")(x),
        "frozen": lambda x: backbone("whole")(x),
        "functional": functional_backbone,
        "twice": twice,
        "equal_shapes": branches_of_equal_shape,
        "equal_shapes_inside": lambda x: inside(branches_of_equal_shape)(x),
    },
    "partly_frozen": {"middle": lambda x: backbone("middle")(x)},
    "area_resizing": {"area": layer("Resizing", 6, 5, interpolation="area")},
    "gaussian_resizing": {"gaussian": layer("Resizing", 6, 5, interpolation="gaussian")},
    "crop_enlarges": {"center": layer("CenterCrop", 20, 20)},
    "random_crop": {"crop": layer("RandomCrop", 6, 5)},
    "random_height": {"height": layer("RandomHeight", 0.2)},
    "random_width": {"width": layer("RandomWidth", 0.2)},
    "recurrent_hard_sigmoid": {
        "gate": lambda x: L.LSTM(3, recurrent_activation="hard_sigmoid")(sequence(x))
    },
    "thresholded": {"theta": layer("ThresholdedReLU", theta=0.3)},
    "renormalized": {"renorm": layer("BatchNormalization", renorm=True)},
    "synchronized": {
        "class": lambda x: L.experimental.SyncBatchNormalization(epsilon=1e-2)(x),
        "setting": layer("BatchNormalization", synchronized=True, epsilon=1e-2),
    },
    "bicubic_upsampling": {"bicubic": layer("UpSampling2D", 2, interpolation="bicubic")},
    "leaky_function": {"leaky": lambda x: L.Activation(tf.nn.leaky_relu)(x)},
    "local": {"local": layer("LocallyConnected2D", 2, 3)},
    "code": {"code": lambda x: L.Lambda(lambda y: y * 2)(x)},
    "local_response": {"unknown": lambda x: tf.nn.local_response_normalization(x)},
    "backend_function": {"mean": lambda x: K.mean(x, axis=(1, 2))},
    "operations": OPERATIONS,
    # Keras 2 itself cannot write an ellipsis into a .keras file.
    "ellipses": {
        "flipped": lambda x: x[..., ::-1],
        "caffe_preprocessing": tf.keras.applications.resnet50.preprocess_input,
    },
}
