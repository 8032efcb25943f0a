"""Files of weights fill the architecture they were trained in, whole or not at all."""

import warnings

import h5py
import keras
import numpy as np
import pytest

from keras_amalgam import teachers

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 9, 8, 3)).astype(np.float32)
FORMS = ["birds.h5", "birds.weights.h5", "birds.keras", "legacy_weights.h5"]


def network(seed=0, names=("first", "second", "head"), width=4, more=False):
    """Two convolutions of the same shape, so that only names tell them apart."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(width, 1, name="stem")(inputs)
    x = keras.layers.Conv2D(width, 3, padding="same", name=names[0])(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(width, 3, padding="same", name=names[1])(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, name=names[2])(x)
    if more:
        x = keras.layers.Dense(5, name="more")(x)
    return keras.Model(inputs, x, name="birds")


def save(model, path):
    if path.name.startswith("legacy"):
        model.save(path)
        with h5py.File(path, "r+") as file:  # As Keras 2 wrote weights alone: at the top.
            group = file["model_weights"]
            for key, value in group.attrs.items():
                file.attrs[key] = value
            for name in list(group):
                file.move(f"model_weights/{name}", name)
            del file["model_weights"], file.attrs["model_config"]
    elif ".weights." in path.name:
        model.save_weights(path)
    else:
        model.save(path)


@pytest.mark.matrix
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_every_form_fill_the_architecture(tmp_path, form):
    original = network()
    save(original, tmp_path / form)
    model = teachers.from_keras(tmp_path / form, architecture=network(seed=1))
    np.testing.assert_array_equal(model(IMAGES), original(IMAGES))
    assert model.provenance.source == form


@pytest.mark.matrix
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_a_model_that_was_trained_are_taken_without_its_optimizer(tmp_path, form):
    original = network()
    original.compile("adam", "mse")
    original.optimizer.build(original.trainable_variables)
    save(original, tmp_path / form)
    model = teachers.from_keras(tmp_path / form, architecture=network(seed=1))
    np.testing.assert_array_equal(model(IMAGES), original(IMAGES, training=False))


@pytest.mark.parametrize("form", ["birds.h5", "legacy_weights.h5"])
def test_legacy_weights_go_by_name_where_the_order_differs(tmp_path, form):
    original = network()
    save(original, tmp_path / form)
    with h5py.File(tmp_path / form, "r+") as file:
        group = file if "layer_names" in file.attrs else file["model_weights"]
        group.attrs["layer_names"] = group.attrs["layer_names"][::-1]
    model = teachers.from_keras(tmp_path / form, architecture=network(seed=1))
    np.testing.assert_array_equal(model(IMAGES), original(IMAGES))


@pytest.mark.matrix
@pytest.mark.parametrize("form", FORMS)
def test_weights_go_by_order_where_the_names_differ(tmp_path, form):
    original = network(names=("conv2d_7", "conv2d_8", "dense_3"))
    save(original, tmp_path / form)
    model = teachers.from_keras(tmp_path / form, architecture=network(seed=1))
    np.testing.assert_array_equal(model(IMAGES), original(IMAGES))


OTHERS = {
    "wider": {"width": 7},
    "longer": {"more": True},
}


@pytest.mark.matrix
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_another_architecture_are_refused_and_fill_nothing(tmp_path, form, other):
    for trained, given in ((OTHERS[other], {}), ({}, OTHERS[other])):
        path = tmp_path / str(len(trained)) / form
        path.parent.mkdir()
        save(network(**trained), path)
        architecture = network(seed=1, **given)
        before = architecture.get_weights()
        with pytest.raises(ValueError, match=r"do not fit the architecture 'birds'.*only the file"):
            teachers.from_keras(path, architecture=architecture)
        for one, two in zip(architecture.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, two)


def crossed(first, second):
    """Layers of the same shapes in either order."""
    keras.utils.set_random_seed(len(first.name))
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="common")(inputs)
    for layer in (first, second):
        x = keras.layers.Concatenate()([x, x]) if layer.units == 4 and x.shape[-1] == 4 else x
        x = layer(x)
    return keras.Model(inputs, x, name="birds")


@pytest.mark.parametrize("form", FORMS)
def test_failure_half_way_leaves_the_architecture_as_it_was(tmp_path, form):
    """The same shapes in another order: the first layer fits, the second does not."""
    dense = keras.layers.Dense
    save(crossed(dense(8, name="a"), dense(4, name="b")), tmp_path / form)
    architecture = crossed(dense(4, name="other_a"), dense(8, name="other_b"))
    before = architecture.get_weights()
    with pytest.raises(ValueError, match="do not fit the architecture 'birds'"):
        teachers.from_keras(tmp_path / form, architecture=architecture)
    for one, two in zip(architecture.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    if form in ("birds.keras", "birds.weights.h5"):  # The twin: Keras leaves it half filled.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="could not be loaded"):
                architecture.load_weights(tmp_path / form)
        after = architecture.get_weights()
        assert not all(np.array_equal(one, two) for one, two in zip(after, before, strict=True))


def test_missing_file_of_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        teachers.from_keras(tmp_path / "missing.weights.h5", architecture=network())


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("form", FORMS)
def test_cut_off_file_of_weights_is_refused(tmp_path, form, fraction):
    save(network(), tmp_path / form)
    content = (tmp_path / form).read_bytes()
    (tmp_path / form).write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match="cut off or damaged"):
        teachers.from_keras(tmp_path / form, architecture=network(seed=1))
