"""Files of Keras 2 give in Keras 3 what they gave there, or are refused.

The archives hold what `scripts/keras_2_files` wrote with TensorFlow 2.2, 2.4, 2.9, 2.12
and 2.15: models, and what each gave for one image.
"""

import io
import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers

ARCHIVES = Path(__file__).parent / "keras_2"
VERSIONS = ("2.3.0", "2.4.0", "2.9.0", "2.12.0", "2.15.0")
# What Keras 3 cannot do, or does otherwise, with the reason that must be said.
REFUSED = {
    "backend_function": {"2.3.0": "class 'TensorFlowOpLayer'"},
    "code": "'lambda' is a Lambda.*code inside a file",
    "ellipses": {"2.3.0": "class 'TensorFlowOpLayer'"},
    "gaussian_resizing": "interpolation='gaussian'",
    "local": "Could not locate class 'LocallyConnected2D'",
    "local_response": {
        "2.3.0": "class 'TensorFlowOpLayer'",
        "": r"tf\.nn\.local_response_normalization",
    },
    "operations": {"2.3.0": "class 'TensorFlowOpLayer'"},
    "random_crop": "RandomCrop, which cuts in another place",
    "recurrent_hard_sigmoid": r"LSTM with hard_sigmoid inside, which is 0\.2·x \+ 0\.5 in Keras 2",
}


def reason(name, version):
    """Why a file is refused; `None` if it must be read."""
    family = name.removesuffix(".h5").removesuffix(".keras")
    reasons = REFUSED.get(family)
    return reasons.get(version, reasons.get("")) if isinstance(reasons, dict) else reasons


def names():
    """Every model file in the archives, with its version."""
    for version in VERSIONS:
        with zipfile.ZipFile(ARCHIVES / f"keras_{version}.zip") as archive:
            yield from ((version, n) for n in archive.namelist() if n.endswith((".h5", ".keras")))


def unpacked(version, name, place):
    """A model file by itself, the image and what its outputs were."""
    with zipfile.ZipFile(ARCHIVES / f"keras_{version}.zip") as archive:
        archive.extract(name, place)
        stem = name.removesuffix(".h5").removesuffix(".keras").removesuffix("_hdf5")
        expected = dict(np.load(io.BytesIO(archive.read(f"{stem}.npz"))))
        images = np.load(io.BytesIO(archive.read("images.npy")))
    return place / name, images, expected


def largest_error(model, images, expected):
    """Of all outputs, as a fraction of their ranges, or of 1."""
    given = model(images, training=False)
    if not isinstance(given, dict):
        given = given if isinstance(given, (list, tuple)) else [given]
        given = dict(zip(expected, given, strict=True))
    errors = []
    for name, wanted in expected.items():
        received = keras.ops.convert_to_numpy(keras.ops.cast(given[name], "float32"))
        assert received.shape == wanted.shape, name
        errors.append(np.abs(received - wanted).max() / max(1.0, np.ptp(wanted)))
    return max(errors)


def cases(refused):
    """The files that are refused, or read; those of the versions between are for the slow tests."""
    for version, name in names():
        if (reason(name, version) is not None) == refused:
            ends = (VERSIONS[0], ".h5"), (VERSIONS[-1], ".keras")
            is_end = (version, Path(name).suffix) in ends
            yield pytest.param(version, name, marks=() if is_end else pytest.mark.slow)


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize(("version", "name"), list(cases(refused=False)))
def test_model_gives_what_it_gave_in_its_own_keras(version, name, tmp_path):
    path, images, expected = unpacked(version, name, tmp_path)
    model = teachers.from_keras(path, verify=False)
    # Half precision rounds to 1e-3, and differently in other orders of a sum.
    tolerance = 2e-3 if name.startswith("half_") else 1e-6
    assert largest_error(model, images, expected) <= tolerance


@pytest.mark.parametrize(("version", "name"), list(cases(refused=True)))
def test_what_keras_3_cannot_do_is_refused_with_the_whole_reason(version, name, tmp_path):
    path, _, _ = unpacked(version, name, tmp_path)
    with pytest.raises(ValueError, match=reason(name, version)) as refusal:
        teachers.from_keras(path)
    if not name.startswith("code"):
        assert f"a file of Keras {version}" in str(refusal.value)
        assert "export it to ONNX" in str(refusal.value)


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["operations.h5", "convolutions.keras", "activations.h5"])
def test_model_holds_stock_layers_only_and_survives_being_saved(name, tmp_path):
    path, images, expected = unpacked("2.15.0", name, tmp_path)
    teachers.from_keras(path).save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    assert largest_error(again, images, expected) <= 1e-6


def test_call_of_tensorflow_is_a_tap_by_its_own_name(tmp_path):
    path, images, expected = unpacked("2.15.0", "backend_function.h5", tmp_path)
    model = teachers.from_keras(path)
    assert "tf.math.reduce_mean" in [operation.name for operation in model.operations]


@pytest.mark.matrix
@pytest.mark.parametrize("version", VERSIONS)
def test_old_classifier_teaches_with_its_own_probabilities(version, tmp_path):
    suffix = ".keras" if version == "2.12.0" else ".h5"
    path, images, expected = unpacked(version, f"form_trained{suffix}", tmp_path)
    network = teachers.from_keras(path)
    preprocessing = ka.Preprocessing(size=(8, 7), scale=1.0)
    teacher = ka.Teacher(network, "birds", list("abc"), preprocessing=preprocessing)
    given = keras.ops.softmax(teacher.answers(3)(images)[teacher.name])
    np.testing.assert_allclose(given, expected["y"], atol=1e-6)


def test_inspection_names_the_version_and_finds_the_taps(tmp_path):
    path, _, _ = unpacked("2.4.0", "form_trained.h5", tmp_path)
    found = teachers.inspect(path)
    assert found.obstacle is None or found.obstacle == ""
    assert found.producer == "keras 2.4.0"
    assert found.taps


def test_weights_go_by_the_layers_names_when_shapes_are_alike(tmp_path):
    path, images, expected = unpacked("2.15.0", "nested.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        for first, second in (("branch_z", "branch_a"),):
            one, other = (group[f"{n}/{n}/kernel:0"] for n in (first, second))
            one[()], other[()] = other[()], one[()]
    assert largest_error(teachers.from_keras(path), images, expected) > 1e-3


@pytest.mark.parametrize("what", ["kind", "shape", "missing"])
def test_other_weights_than_the_networks_are_refused(what, tmp_path):
    path, _, _ = unpacked("2.15.0", "form_trained.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        group = next(group for name, group in file["model_weights"].items() if "batch" in name)
        weights = list(group.attrs["weight_names"])
        if what == "kind":
            group.attrs["weight_names"] = [weights[1], weights[0], *weights[2:]]
        if what == "shape":
            del group[weights[0].decode() if isinstance(weights[0], bytes) else weights[0]]
            group.create_dataset(weights[0], data=np.zeros(9, np.float32))
        if what == "missing":
            group.attrs["weight_names"] = weights[:0]
    with pytest.raises(ValueError, match="Received: .*weights.*Expected"):
        teachers.from_keras(path)


def changed(version, name, place, change):
    """An .h5 file whose configuration was changed."""
    path, images, expected = unpacked(version, name, place)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path, images, expected


@pytest.mark.parametrize("version", ["2.3.0", "2.9.0"])
def test_network_whose_slope_was_changed_is_found_out(version, tmp_path):
    def change(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "LeakyReLU":
                layer["config"]["alpha"] += 0.01

    path, images, expected = changed(version, "activations.h5", tmp_path, change)
    assert largest_error(teachers.from_keras(path, verify=False), images, expected) > 1e-4


def test_sequential_configuration_of_keras_1_is_read(tmp_path):
    def change(config):
        config["config"] = [
            layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"
        ]

    path, images, expected = changed("2.9.0", "form_sequential.h5", tmp_path, change)
    assert largest_error(teachers.from_keras(path), images, expected) <= 1e-6


@pytest.mark.parametrize(
    "config",
    [[], {"class_name": "Functional"}, {"class_name": "Functional", "config": {"layers": 3}}],
)
def test_configuration_of_no_model_is_refused(config, tmp_path):
    path, _, _ = unpacked("2.9.0", "form_trained.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match="Keras cannot load 'form_trained.h5'"):
        teachers.from_keras(path)


def test_output_in_a_list_of_one_is_that_output(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 7, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(inputs)
    listed = keras.Model([inputs], [keras.layers.Dense(3, activation="softmax")(x)])
    listed.save(tmp_path / "listed.keras")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 7, 3)).astype(np.float32)
    wanted = np.reshape(listed([images]), (2, 3))
    for source in (listed, tmp_path / "listed.keras"):
        model = teachers.from_keras(source)
        np.testing.assert_allclose(model(images), wanted, atol=1e-7)
    teacher = ka.Teacher(
        listed, "birds", list("abc"), tap="pool", preprocessing=ka.Preprocessing(scale=1.0)
    )
    given = keras.ops.softmax(teacher.answers(3)(images)[teacher.name])
    np.testing.assert_allclose(given, wanted, atol=1e-6)
