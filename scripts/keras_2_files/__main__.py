"""Write the files of older Keras versions that the tests read.

This script runs in the TensorFlow that is to be tested, 2.2 to 2.15, in an environment of its own:
`python -m scripts.keras_2_files tests/teachers/keras_files/keras_2`. It adds one archive, named
after the version of Keras, with the models as that version saves them and what each gives for one
input. With the word `trained` behind the folder, it writes a trained SavedModel instead.
"""

import importlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from scripts.keras_2_files.networks import FAMILIES, IMAGES, SHAPE

tf: Any = importlib.import_module("tensorflow")
K = tf.keras.backend
L = tf.keras.layers
# What a version raises at a layer or a setting that it does not have yet.
_MISSING = (AttributeError, TypeError, ValueError, NotImplementedError, tf.errors.OpError)
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


def built(family) -> Any:
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


def answers(model, names) -> Any:
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
