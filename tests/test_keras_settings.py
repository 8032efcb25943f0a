"""Teachers, students and their training under what a user set globally in Keras."""

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam.images.preprocessing import check_takes_images
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models import backbones
from keras_amalgam.models.signals import Signals


@pytest.fixture
def photographs():
    return np.random.default_rng(0).integers(0, 256, (4, 23, 31, 3)).astype("uint8")


def settings():
    return (
        keras.config.floatx(),
        keras.config.image_data_format(),
        keras.config.dtype_policy().name,
    )


def test_defaults_hold_in_the_block_and_the_users_settings_behind_it(one_setting):
    with one_setting():
        users = settings()
        with keras_defaults():
            assert settings() == ("float32", "channels_last", "float32")
        assert settings() == users
        with pytest.raises(ZeroDivisionError), keras_defaults():
            raise ZeroDivisionError
        assert settings() == users


def test_defaults_keep_a_policy_that_is_to_be_kept(one_setting):
    with one_setting():
        users = settings()
        with keras_defaults(keep_policy=True):
            assert settings() == ("float32", "channels_last", users[2])


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize(
    "preprocessing",
    [
        ka.Preprocessing(size=(20, 20), channels="bgr", mean=(0.4, 0.5, 0.6), crop_fraction=0.8),
        ka.Preprocessing(size=(20, 20), channels="grey", interpolation="bicubic", antialias=True),
        ka.Preprocessing(size=(12, 30), crop_to_aspect_ratio=True),
    ],
    ids=["bgr", "grey", "cut"],
)
def test_preprocessing_is_the_same_under_every_setting(preprocessing, photographs, one_setting):
    def prepared():
        images = keras.Input((None, None, 3), dtype="float32")
        channels = 1 if preprocessing.channels == "grey" else 3
        return keras.Model(images, preprocessing.build(images, channels))

    expected = prepared()(photographs)
    with one_setting():
        model = prepared()
        received = model(photographs)
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-6)
    assert keras.backend.standardize_dtype(received.dtype) == "float32"


@pytest.mark.matrix
def test_saved_preprocessing_is_the_same_under_every_setting(photographs, tmp_path, one_setting):
    images = keras.Input((None, None, 3))
    grey = ka.Preprocessing(size=(8, 8)).build(images, 1)
    colours = ka.Preprocessing(size=(8, 8), mean=(0.1, 0.2, 0.3)).build(images, 3)
    model = keras.Model(images, [grey, colours])
    model.save(tmp_path / "prepared.keras")
    with one_setting():
        again = keras.saving.load_model(tmp_path / "prepared.keras")
        received = again(photographs)
    for mine, its in zip(received, model(photographs), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-6)


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("ending", ["logits", "softmax", "hidden softmax", "1x1"])
def test_teacher_gives_the_same_signals_under_every_setting(ending, photographs, one_setting):
    keras.utils.set_random_seed(0)
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="map")(images)
    x = keras.layers.GlobalAveragePooling2D(keepdims=ending == "1x1")(x)
    x = keras.layers.Conv2D(3, 1)(x) if ending == "1x1" else keras.layers.Dense(3)(x)
    x = keras.layers.Softmax()(x) if "softmax" in ending else x
    # Nothing that looks like a softmax stands at the end.
    x = keras.layers.Reshape((3,))(x) if ending == "hidden softmax" else x
    network = keras.Model(images, x)

    def signals():
        teacher = ka.Teacher(
            network, name="net", class_names=list("abc"), tap="map",
            preprocessing=ka.Preprocessing(size=(16, 16)),
        )  # fmt: skip
        given = Signals.of(teacher.signals()(photographs))
        return {**given.answers, **given.features}

    expected = signals()
    with one_setting():
        received = signals()
    assert set(received) == {"net", "features"}
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, rtol=0, atol=1e-6)
        assert received[name].dtype == values.dtype


@pytest.mark.matrix
def test_saved_teacher_is_the_same_under_every_setting(make, tmp_path, one_setting):
    teacher, images = make.teacher("digits", ["0", "1"]), make.images()
    teacher.save(tmp_path / "digits")
    with one_setting():
        again = ka.Teacher.load(tmp_path / "digits")
        received = again.signals(1)(images)
    expected = teacher.signals(1)(images)
    np.testing.assert_allclose(
        received["answers"]["digits"], expected["answers"]["digits"], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        received["features"]["features"], expected["features"]["features"], rtol=0, atol=1e-6
    )


def trained(teachers, image_format=None):
    """The history of two epochs of a student whose backbone stands before the settings change."""
    keras.utils.set_random_seed(7)
    backbone = backbones.compact((16, 16, 1), width=8, depth=1)
    student = ka.build_student(backbone, teachers)
    terms = [ka.SoftTargets(), ka.CommonFeatures(units=4, weight=0.5)]
    model = ka.Amalgamator(student, teachers, student_tap="map", terms=terms)
    model.compile(optimizer=keras.optimizers.SGD(0.05))
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1)).astype("uint8")
    history = model.fit(images, epochs=2, batch_size=4, shuffle=False, verbose=0).history
    return history, model


@pytest.mark.slow
def test_training_is_the_same_where_channels_come_first(teachers, all_settings):
    """All settings at once, but for the policy, which is the user's to choose."""
    expected, _ = trained(teachers)
    with all_settings():
        keras.config.set_dtype_policy("float32")
        received, _ = trained(teachers)
        keras.config.set_dtype_policy("mixed_float16")
    assert received.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, rtol=1e-5)


@pytest.mark.slow
def test_mixed_precision_stays_the_students_but_for_its_preprocessing(teachers, all_settings):
    with all_settings():
        _, model = trained(teachers)
    student = model.student
    assert student.get_layer("compact").layers[1].compute_dtype == "float16"
    assert model.terms[1].extractor.compute_dtype == "float16"
    assert student.input.dtype == student.get_layer("compact").input.dtype == "float32"
    resized = [x for x in student.operations if x.name.startswith("resize_")]
    assert [x.output.dtype for x in resized] == ["float32"]


def channels_first_network(nested):
    """As it comes out where a user's `keras.json` says channels first."""
    images = keras.Input((16, 16, 3))
    convolution = keras.layers.Conv2D(4, 3, name="stem", data_format="channels_first")
    inner = keras.Model(images, convolution(images))
    return keras.Model(images, inner(images), name="backbone") if nested else inner


@pytest.mark.parametrize("nested", [False, True])
def test_network_built_channels_first_is_refused_with_the_setting(nested, teachers):
    network = channels_first_network(nested)
    said = r"layer 'stem' is channels-first. .*set_image_data_format\('channels_first'\)"
    with pytest.raises(ValueError, match=f"The backbone takes .*{said}"):
        ka.build_student(network, teachers)
    with pytest.raises(ValueError, match=f"Teacher 'net' takes .*{said}"):
        ka.Teacher(network, name="net", class_names=["a", "b"], preprocessing=ka.Preprocessing())


def test_network_that_turns_its_images_itself_is_no_mistake():
    images = keras.Input((16, 16, 3))
    turned = keras.layers.Permute((3, 1, 2))(images)
    maps = keras.layers.Conv2D(4, 3, data_format="channels_first")(turned)
    check_takes_images(keras.Model(images, maps), "The network")
