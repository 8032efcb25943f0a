"""Keras files that ask for more than they hold, or for functions that are no mathematics."""

import json
import resource
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
MIB = 2**20


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.Activation("linear", name="act")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name="birds")


def changed(path, change):
    """A file of the network whose configuration was changed."""
    network().save(path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def layer_of(config, name):
    return next(x for x in config["config"]["layers"] if x["config"]["name"] == name)


def as_function(module, name):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }


def with_lambda(config):
    layer = layer_of(config, "act")
    layer.pop("build_config", None)
    layer |= {"class_name": "layers.Lambda", "module": "keras", "registered_name": None}
    layer["config"] = {"name": "act", "function": as_function("keras.ops", "relu")}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_by_a_longer_name_is_refused_before_it_is_made(suffix, tmp_path):
    path = changed(tmp_path / f"l{suffix}", with_lambda)
    with pytest.raises(ValueError, match=rf"'l{suffix}' safely: its layer 'act' is a Lambda"):
        teachers.from_keras(path, verify=False)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.visualization", "plot_image_gallery"),
        ("keras", "visualization.plot_image_gallery"),
        ("keras.utils", "get_file"),
    ],
)
def test_function_that_is_no_mathematics_is_refused(module, name, suffix, tmp_path):
    def change(config):
        layer_of(config, "act")["config"]["activation"] = as_function(module, name)

    path = changed(tmp_path / f"f{suffix}", change)
    with pytest.raises(ValueError, match=f"safely: it calls {module}.{name}"):
        teachers.from_keras(path, verify=False)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_function_of_networks_is_loaded(suffix, tmp_path):
    def change(config):
        layer_of(config, "act")["config"]["activation"] = as_function("keras.ops", "relu")

    model = teachers.from_keras(changed(tmp_path / f"f{suffix}", change))
    assert model.get_layer("act").activation is keras.ops.relu


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_weights_that_a_file_does_not_hold_are_never_made(suffix, tmp_path):
    """Four GB: what a Dense layer of 200 million units on four channels takes."""

    def change(config):
        layer_of(config, "head")["config"]["units"] = 200_000_000

    path = changed(tmp_path / f"big{suffix}", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="asks for weights that it does not hold.* 4,000,000,"):
        teachers.from_keras(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024


@pytest.mark.slow
def test_counting_leaves_no_trace_in_keras(tmp_path):
    """Variables without a value would be made at the end of the next scope."""
    path = tmp_path / "n.keras"
    network().save(path)
    code = (
        "import keras\nfrom keras_amalgam import teachers\n"
        f"model = teachers.from_keras({str(path)!r}, verify=False)\n"
        "print(keras.layers.Dense(1).name)\n"
        "waiting = keras.src.backend.common.global_state.get_global_attribute\n"
        "print(waiting('uninitialized_variables'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["dense", "[]"]


def test_texts_of_open_length_in_place_of_weights_are_refused(tmp_path):
    path = tmp_path / "t.h5"
    network().save(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("more", data=["x" * 100] * 10, dtype=h5py.string_dtype())
    with pytest.raises(ValueError, match="'more' .*texts of open length"):
        teachers.from_keras(path)


def test_configuration_that_is_a_list_of_texts_is_refused_unread(tmp_path):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file.attrs.create("model_config", ["{}"] * 3, dtype=h5py.string_dtype())
    with pytest.raises(ValueError, match=r"a configuration of shape \(3,\)"):
        teachers.from_keras(path)


@pytest.fixture
def saved(tmp_path):
    teacher = ka.Teacher(network(), "t", list("abcde"), preprocessing=ka.Preprocessing())
    teacher.save(tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.mark.matrix
@pytest.mark.parametrize("load", [teachers.load, ka.Teacher.load])
def test_network_of_a_teachers_directory_is_bounded_as_any_file(load, saved):
    path = saved / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = b" " * (100 * MIB) + members["config.json"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="'config.json' is too large to be read"):
        load(saved)


@pytest.mark.parametrize("load", [teachers.load, ka.Teacher.load])
def test_code_in_a_teachers_directory_is_refused(load, saved):
    changed(saved / "model.keras", with_lambda)
    with pytest.raises(ValueError, match="its layer 'act' is a Lambda"):
        load(saved)


def test_teacher_that_was_counted_has_its_own_weights(saved):
    images = np.full((2, 9, 8, 3), 80, "uint8")
    expected = ka.Teacher(network(), "t", list("abcde"), preprocessing=ka.Preprocessing())
    received = teachers.load(saved).answers(3)(images)[expected.name]
    np.testing.assert_array_equal(received, expected.answers(3)(images)[expected.name])
