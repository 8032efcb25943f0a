"""Keras models and files, in safe mode, with their provenance."""

import hashlib
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers


def _network(seed=0, width=4):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(width, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU(name="map")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name="birds")


IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 9, 8, 3)).astype(np.float32)
# Keras says that HDF5 files are legacy; here they are the input.
legacy = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@legacy
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_file_gives_the_saved_network_and_its_provenance(tmp_path, suffix):
    original = _network()
    path = tmp_path / f"birds{suffix}"
    original.save(path)
    model = teachers.from_keras(path)
    np.testing.assert_array_equal(model(IMAGES), original(IMAGES))
    assert model.provenance.source == path.name
    assert len(model.provenance.sha256) == 64
    assert model.provenance.framework == f"keras {keras.__version__}"
    assert model.provenance.parity["outputs"]["output_0"]["max_abs_error"] <= 1e-6


@pytest.mark.slow
def test_demo_teacher_survives_saving_and_keeps_the_hash_of_its_file():
    folder = Path(ka.__file__).parent / "data" / "demo" / "teachers"
    provenance = teachers.from_keras(folder / "fashion.keras").provenance
    digest = hashlib.sha256((folder / "fashion.keras").read_bytes()).hexdigest()
    assert provenance.sha256 == digest
    (errors,) = provenance.parity["outputs"].values()
    assert errors["max_abs_error"] <= 1e-5
    assert errors["range"] > 1


def test_model_in_memory_stays_itself_and_is_fingerprinted():
    model = _network()
    assert teachers.from_keras(model) is model
    first = model.provenance
    assert first.source == "birds (in memory)"
    assert teachers.from_keras(_network()).provenance.sha256 == first.sha256
    assert teachers.from_keras(_network(seed=1)).provenance.sha256 != first.sha256


def test_sequential_and_nested_models_are_taken():
    model = keras.Sequential([keras.Input((9, 8, 3)), _network(), keras.layers.Softmax()])
    parity = teachers.from_keras(model).provenance.parity
    assert parity["outputs"]["output_0"]["max_abs_error"] <= 1e-6


def test_sequential_model_without_an_input_is_refused():
    with pytest.raises(ValueError, match=r"functional model.*keras.Input"):
        teachers.from_keras(keras.Sequential([keras.layers.ReLU()]))


@legacy
@pytest.mark.parametrize("name", ["birds.weights.h5", "birds.h5"])
def test_weights_fill_a_given_architecture(tmp_path, name):
    original = _network()
    path = tmp_path / name
    original.save_weights(path) if "weights" in name else original.save(path)
    model = teachers.from_keras(path, architecture=_network(seed=1))
    np.testing.assert_array_equal(model(IMAGES), original(IMAGES))


def test_weights_of_another_architecture_are_refused(tmp_path):
    _network().save_weights(tmp_path / "birds.weights.h5")
    with pytest.raises(ValueError, match=r"do not fit the architecture 'birds'"):
        teachers.from_keras(tmp_path / "birds.weights.h5", architecture=_network(width=7))


@legacy
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_cut_off_file_is_refused(tmp_path, suffix, fraction):
    path = tmp_path / f"birds{suffix}"
    _network().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match=rf"'birds{suffix}' is cut off or damaged"):
        teachers.from_keras(path)


def test_archive_with_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "birds.keras"
    _network().save(path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.weights.h5")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 2000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut off or damaged"):
        teachers.from_keras(path)


@legacy
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_inside_a_file_is_never_run(tmp_path, suffix):
    trace = tmp_path / "it_ran"
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(_leave_a_trace, arguments={"path": str(trace)})(inputs)
    keras.Model(inputs, outputs).save(tmp_path / f"bad{suffix}")
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"Keras cannot load.*Lambda"):
        teachers.from_keras(tmp_path / f"bad{suffix}")
    assert not trace.exists()


def _leave_a_trace(x, path):
    import pathlib

    pathlib.Path(path).touch()
    return x


class Doubled(keras.layers.Layer):
    """A layer that Keras does not know."""

    def call(self, x):
        return 2 * x


def test_unknown_class_is_refused_and_given_one_is_used(tmp_path):
    path = tmp_path / "own.keras"
    inputs = keras.Input((4,))
    keras.Model(inputs, Doubled()(inputs)).save(path)
    with pytest.raises(ValueError, match=r"Keras cannot load 'own.keras'.*custom_objects"):
        teachers.from_keras(path)
    model = teachers.from_keras(path, custom_objects={"Doubled": Doubled})
    np.testing.assert_array_equal(model(np.ones((1, 4))), 2 * np.ones((1, 4)))


class Forgetful(keras.layers.Layer):
    """A layer whose configuration loses its factor: saving changes the network."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return keras.layers.Layer.get_config(self)


def test_network_that_changes_when_saved_is_found_out():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Forgetful(factor=3.0, name="forgetful")(inputs))
    with pytest.raises(ValueError, match=r"differs.*layer 'forgetful'"):
        teachers.from_keras(model, custom_objects={"Forgetful": Forgetful})


class Subclassed(keras.Model):
    """A model without a graph."""

    def call(self, x):
        return x


def test_subclassed_model_is_refused():
    with pytest.raises(ValueError, match=r"functional model.*Subclassed"):
        teachers.from_keras(Subclassed())


@pytest.mark.parametrize("source", [None, 3, keras.layers.ReLU()])
def test_what_is_neither_model_nor_path_is_refused(source):
    with pytest.raises(TypeError, match="keras.Model or the path"):
        teachers.from_keras(source)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        teachers.from_keras(tmp_path / "missing.keras")


def test_model_of_two_inputs_is_refused_with_their_names(tmp_path):
    image, other = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="meta")
    flat = keras.layers.GlobalAveragePooling2D()(image)
    joined = keras.layers.Concatenate()([flat, other])
    model = keras.Model([image, other], keras.layers.Dense(3)(joined), name="both")
    model.save(tmp_path / "both.keras")
    for source in (model, tmp_path / "both.keras"):
        said = r"one batch of images. Received: 'both' with 2 inputs, \['image', 'meta'\]. Pass"
        with pytest.raises(ValueError, match=said):
            teachers.from_keras(source)
