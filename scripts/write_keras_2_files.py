"""Write the files of older Keras versions that the tests read.

This script runs in the TensorFlow that is to be tested, 2.2 to 2.15, in an environment of its own:
`python scripts/write_keras_2_files.py tests/teachers/keras_2`. It adds one archive, named after the
version of Keras, with the models as that version saves them and what each gives for one input.
With the word `trained` behind the folder, it writes a trained SavedModel instead.
"""

import importlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

# What a version raises at a layer or a setting that it does not have yet.
_MISSING = (AttributeError, TypeError, ValueError, NotImplementedError, tf.errors.OpError)
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


OPERATIONS = {
    "double": lambda x: x * 2,
    "double_left": lambda x: 2 * x,
    "plus": lambda x: x + 1.5,
    "plus_tensor": lambda x: x + L.ReLU()(x),
    "plus_left": lambda x: 1.5 + x,
    "minus": lambda x: x - 1.5,
    "minus_left": lambda x: 1.5 - x,
    "minus_tensor": lambda x: L.ReLU()(x) - x,
    "divided": lambda x: x / 127.5,
    "divided_left": lambda x: 1.0 / (x + 5.0),
    "channel_constants": lambda x: (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "stacked": lambda x: tf.stack([x, x + 1], axis=1),
    "negative": lambda x: -x,
    "power": lambda x: x**2,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "sigmoid": tf.sigmoid,
    "sigmoid_nn": tf.nn.sigmoid,
    "softmax": tf.nn.softmax,
    "softmax_axis": lambda x: tf.nn.softmax(x, axis=1),
    "tanh": tf.tanh,
    "swish": tf.nn.swish,
    "gelu": lambda x: tf.nn.gelu(x, approximate=True),
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, alpha=0.1),
    "elu": tf.nn.elu,
    "softplus": tf.math.softplus,
    "abs": tf.abs,
    "exp": tf.exp,
    "square": tf.square,
    "sqrt": lambda x: tf.sqrt(tf.abs(x)),
    "log": lambda x: tf.math.log(tf.abs(x) + 1.0),
    "maximum": lambda x: tf.maximum(x, 0.5),
    "minimum": lambda x: tf.minimum(x, L.Softmax()(x)),
    "clipped": lambda x: tf.clip_by_value(x, -0.5, 0.7),
    "add_function": lambda x: tf.add(x, L.ReLU()(x)),
    "multiply_function": lambda x: tf.multiply(x, L.ReLU()(x)),
    "subtract_function": lambda x: tf.subtract(x, 1.0),
    "divide_function": lambda x: tf.divide(x, 3.0),
    "mean": lambda x: tf.reduce_mean(x, axis=[1, 2]),
    "mean_keeps": lambda x: tf.reduce_mean(x, [1, 2], keepdims=True),
    "max": lambda x: tf.reduce_max(x, axis=-1, keepdims=True),
    "sum": lambda x: tf.reduce_sum(x, axis=1),
    "min": lambda x: tf.reduce_min(x, axis=2),
    "joined": lambda x: tf.concat([x, L.ReLU()(x)], axis=-1),
    "joined_positional": lambda x: tf.concat([x, L.ReLU()(x)], 1),
    "reshaped": lambda x: tf.reshape(x, (-1, 8, 21)),
    "transposed": lambda x: tf.transpose(x, [0, 3, 1, 2]),
    "expanded": lambda x: tf.expand_dims(x, 1),
    "squeezed": lambda x: tf.squeeze(tf.expand_dims(x, 1), axis=1),
    "padded": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "padded_reflect": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], mode="REFLECT"),
    "cut": lambda x: x[:, 1:-2, ::2],
    "picked": lambda x: x[:, 3],
    "picked_new_axis": lambda x: x[:, tf.newaxis, :, 2],
    "cast": lambda x: tf.cast(x, tf.float32) + 1.0,
    "normalized": lambda x: tf.math.l2_normalize(x, axis=-1),
    "resized": lambda x: tf.image.resize(x, (5, 11)),
    "resized_nearest": lambda x: tf.image.resize(x, (16, 14), method="nearest"),
    "product": lambda x: tf.matmul(x, tf.transpose(x, [0, 1, 3, 2])),
    "product_transposed": lambda x: tf.matmul(x, x, transpose_b=True),
    "depth_to_space": lambda x: tf.nn.depth_to_space(L.Conv2D(8, 1)(x), 2),
    "hard_swish": lambda x: x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0)),
    "mobilenet_preprocessing": tf.keras.applications.mobilenet_v2.preprocess_input,
    "torch_preprocessing": tf.keras.applications.densenet.preprocess_input,
    "argmax": lambda x: tf.cast(tf.argmax(x, axis=-1), tf.float32),
    "split": lambda x: tf.split(x, 3, axis=-1)[1],
    "compared": lambda x: tf.cast(x > 0.5, tf.float32) * x,
}
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
MIXED = {"normalizations": ("batch", "layer"), "convolutions": ("strided", "dense", "head")}


def randomize(model):
    """Give every weight a value of its own, so that none can stand in another's place."""
    generator = np.random.default_rng(1)
    values = []
    for weight in model.weights:
        shape, name = tuple(weight.shape), weight.name
        low = 0.5 if "variance" in name or "stddev" in name else -0.5
        value = generator.uniform(low, low + 1, shape).astype("float32")
        is_count = weight.dtype != tf.float32 or "count" in name
        values.append(K.get_value(weight) if is_count else value)
    model.set_weights(values)


def built(family):
    """A model of all the family's branches that this version has, and their names."""
    inputs = tf.keras.Input(SHAPE)
    outputs = {}
    for name, make in family.items():
        try:
            output = make(inputs)
            tf.keras.Model(inputs, output)(IMAGES, training=False)
            outputs[name] = output
        except _MISSING as error:
            print("   left out:", name, str(error).split("\n")[0][:90])
    if not outputs:
        return None, ()
    model = tf.keras.Model(inputs, list(outputs.values()))
    randomize(model)
    return model, tuple(outputs)


def special():
    """Models of other forms: sequential, trained, of half precision, with a dictionary."""
    plain = tf.keras.Sequential([L.Conv2D(4, 3, input_shape=SHAPE), L.Flatten(), L.Dense(3)])
    yield "form_sequential", plain, ("y",)
    sliced = tf.keras.Input(SHAPE)
    slashed = L.Conv2D(2, 3, name="block/conv")(sliced)
    yield "form_slash", tf.keras.Model(sliced, L.ReLU(name="block/relu")(slashed)), ("y",)
    late = tf.keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(3)])
    late.build((None, *SHAPE))
    yield "form_late", late, ("y",)
    inputs = tf.keras.Input(SHAPE, batch_size=1)
    x = L.GlobalAveragePooling2D()(L.BatchNormalization()(L.Conv2D(4, 3)(inputs)))
    trained = tf.keras.Model(inputs, L.Dense(3, activation="softmax")(x))
    trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    trained.fit(IMAGES, np.array([1]), verbose=0)
    yield "form_trained", trained, ("y",)
    inputs = tf.keras.Input(SHAPE)
    heads = {"one": L.Dense(3)(inputs), "another": L.Dense(4)(inputs)}
    yield "form_heads", tf.keras.Model(inputs, [heads["one"], heads["another"]]), ("one", "another")
    with_names = tf.keras.Model(inputs, heads)
    if isinstance(with_names.output, dict):
        yield "form_dictionary", with_names, tuple(with_names.output)
    for name, wanted in MIXED.items():
        policies = getattr(tf.keras.mixed_precision, "set_global_policy", None)
        if policies:
            policies("mixed_float16")
            model, names = built({key: FAMILIES[name][key] for key in wanted})
            policies("float32")
            yield "half_" + name, model, names


def models():
    """All models with their names and those of their outputs."""
    for name, family in FAMILIES.items():
        print(name)
        tf.keras.backend.clear_session()
        model, names = built(family)
        if model is not None:
            yield name, model, names
    for name, model, names in special():
        randomize(model)
        yield name, model, names


def answers(model, names):
    """What the model gives for the images, by name."""
    given = model(IMAGES, training=False)
    if not isinstance(given, dict):
        listed = given if isinstance(given, list) else [given]
        given = {name: listed[index] for index, name in enumerate(names)}
    return {name: np.asarray(given[name], "float32") for name in names}


def formats():
    """The formats of this version: the ends of their names, and how they are asked for."""
    version = tuple(int(part) for part in tf.__version__.split(".")[:2])
    native = {".keras": {"save_format": "keras"}, "_hdf5.keras": {"save_format": "h5"}}
    # Before TensorFlow 2.13, the name alone made a file of HDF5 inside.
    if version < (2, 12):
        return {".h5": {}}
    return native if version < (2, 13) else {".h5": {}, ".keras": {}}


def write(folder):
    """Write the archive of this version."""
    version = getattr(tf.keras, "__version__", None) or importlib.import_module("keras").__version__
    version = version.replace("-tf", "")
    archive = Path(folder) / f"keras_{version}.zip"
    os.makedirs(folder, exist_ok=True)
    place = tempfile.mkdtemp()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        np.save(Path(place) / "images.npy", IMAGES)
        out.write(Path(place) / "images.npy", "images.npy")
        for name, model, names in models():
            expected = Path(place) / f"{name}.npz"
            np.savez(expected, **answers(model, names))
            for suffix, how in formats().items():
                path = Path(place) / (name + suffix)
                if suffix == "_hdf5.keras" and name != "form_trained":
                    continue
                try:
                    model.save(str(path), **how)
                except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
                    print("   not saved:", path.name, str(error).split("\n")[0][:90])
                    continue
                out.write(path, path.name)
            out.write(expected, expected.name)
    print(archive, archive.stat().st_size)


def write_trained(folder):
    """Write the archive of a SavedModel with the state of its optimizer, and what it gives."""
    inputs = tf.keras.Input(SHAPE)
    x = L.GlobalAveragePooling2D()(L.BatchNormalization()(L.Conv2D(4, 3)(inputs)))
    model = tf.keras.Model(inputs, L.Dense(3, activation="softmax")(x))
    optimizers = getattr(tf.keras.optimizers, "legacy", tf.keras.optimizers)
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(IMAGES, np.array([1]), epochs=3, verbose=0)
    randomize(model)
    place = Path(tempfile.mkdtemp())
    model.save(str(place / "trained"), save_format="tf")
    np.savez(place / "expected.npz", images=IMAGES, y=answers(model, ("y",))["y"])
    archive = Path(folder) / f"trained_{tf.__version__}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(place.rglob("*")):
            out.write(path, str(path.relative_to(place)))
    print(archive, archive.stat().st_size)


if __name__ == "__main__":
    (write_trained if sys.argv[2:] == ["trained"] else write)(sys.argv[1])
