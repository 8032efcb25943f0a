"""What a student starts from: names, files and teachers' folders, with their own normalisation."""

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers as teachers_island
from keras_amalgam.experiments import students
from keras_amalgam.models import backbones
from keras_amalgam.models.taps import with_taps

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(side=None, top=True, normalises=False):
    """A small network with numbers in it that no layer is initialised with."""
    images = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 255)(images) if normalises else images
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="early")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="late")(x)
    if top:
        x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, x)
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape, scale=0.3) for w in model.get_weights()])
    return model


def saved_teacher(folder, model, tap="late"):
    own = ka.Preprocessing(size=(32, 32), mean=MEAN, std=STD, crop_fraction=0.875)
    names = ("a", "b", "c")
    teacher = ka.Teacher(model, "cars", class_names=names, tap=tap, preprocessing=own)
    teacher.save(folder)
    return teacher


def images(side, seed=1):
    return np.random.default_rng(seed).uniform(0, 255, (2, side, side, 3)).astype("float32")


def test_student_from_a_teacher_has_its_features_on_the_images_it_normalises(tmp_path):
    model = network()
    teacher = saved_teacher(tmp_path / "cars", model)
    start = students.start(str(tmp_path / "cars"), size=(32, 32))
    student = start.student([teacher], False)
    pixels = images(32)
    expected = keras.Model(model.input, model.get_layer("late").output)(
        (pixels / 255 - np.array(MEAN)) / np.array(STD)
    )
    (features,) = with_taps(student, ["backbone"])(pixels)["taps"]
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert start.trained and start.weights.endswith("up to late")


def test_student_from_a_teacher_shares_no_weights_with_it_and_trains_all(tmp_path):
    teacher = saved_teacher(tmp_path / "cars", network())
    start = students.start(str(tmp_path / "cars"))
    first, second = (start.student([teacher], False) for _ in range(2))
    before = second.get_layer("backbone").get_weights()
    assert len(first.get_layer("backbone").trainable_weights) == len(before) == 4
    first.get_layer("backbone").set_weights([0 * weight for weight in before])
    for weight, same in zip(second.get_layer("backbone").get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_student_goes_on_from_a_students_file_without_its_resize_and_heads(tmp_path):
    backbone = network(16, top=False, normalises=True)
    teachers = [saved_teacher(tmp_path / "cars", network())]
    earlier = ka.build_student(backbone, teachers)
    earlier.save(tmp_path / "student.keras")
    start = students.start(str(tmp_path / "student.keras"))
    assert start.size == (16, 16) and start.trained
    student = start.student(teachers, True)
    features = keras.Model(student.input, student.get_layer("pooled").output)
    expected = keras.Model(earlier.input, earlier.get_layer("pooled").output)
    np.testing.assert_allclose(features(images(24)), expected(images(24)), atol=1e-5)


@pytest.mark.parametrize("ends_in", ["a map", "a pooled map", "classes"])
def test_file_is_taken_up_to_its_last_map_whatever_it_ends_in(tmp_path, ends_in):
    model = network(16, top=ends_in == "classes", normalises=True)
    if ends_in == "a pooled map":
        pooled = keras.layers.GlobalAveragePooling2D()(model.output)
        model = keras.Model(model.input, pooled)
    model.save(tmp_path / "network.keras")
    start = students.start(str(tmp_path / "network.keras"))
    backbone = start.make()
    assert backbone.output_shape == (None, 8, 8, 6)
    expected = keras.Model(model.input, model.get_layer("late").output)(images(16))
    np.testing.assert_allclose(backbone(images(16)), expected, atol=1e-5)


def test_trained_file_without_normalisation_is_refused_but_with_new_weights(tmp_path):
    model = network(16)
    model.save(tmp_path / "network.keras")
    with pytest.raises(ValueError, match="Nothing says how images were normalised"):
        students.start(str(tmp_path / "network.keras"))
    start = students.start(str(tmp_path / "network.keras"), "none")
    assert not start.trained
    first, second = start.make(), start.make()
    assert not np.any(first.get_layer("late").bias)
    assert np.any(first.get_layer("late").kernel != second.get_layer("late").kernel)


def test_file_of_weights_fills_a_network_of_keras_with_its_own_normalisation(tmp_path):
    trained = keras.applications.VGG16(include_top=False, input_shape=(32, 32, 3), weights=None)
    generator = np.random.default_rng(0)
    trained.set_weights([w + generator.uniform(0, 0.01, w.shape) for w in trained.get_weights()])
    trained.save_weights(tmp_path / "vgg.weights.h5")
    start = students.start("VGG16", str(tmp_path / "vgg.weights.h5"), (32, 32))
    assert start.normalisation == teachers_island.preprocessing_of("VGG16")
    teacher = saved_teacher(tmp_path / "cars", network())
    student = start.student([teacher], False)
    pixels = images(32)
    expected = trained(keras.applications.vgg16.preprocess_input(pixels.copy()))
    (features,) = with_taps(student, ["vgg16"])(pixels)["taps"]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on …")

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(ConnectionError, match="MobileNetV2 could not be .*give the file"):
        students.start("MobileNetV2", "imagenet")


@pytest.mark.parametrize(
    ("student", "weights", "policy", "message"),
    [
        ("nowhere", None, "float32", "Unknown student 'nowhere'"),
        ("", None, "float32", "Unknown student ''"),
        ("photos", None, "float32", "not a teacher's: it has no card.json"),
        ("compact", "imagenet", "float32", "'compact' has no ImageNet weights"),
        ("MobileNetV2", "missing.h5", "float32", "The weights file 'missing.h5' does not exist"),
        ("network.keras", "imagenet", "float32", "has that file's weights"),
        ("network.keras", None, "mixed_bfloat16", "computes in float32"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_before_it_is_read(
    tmp_path, monkeypatch, student, weights, policy, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "network.keras").write_bytes(b"not read")
    with pytest.raises(ValueError, match=message):
        students.check(student, weights, policy)


def test_size_that_is_not_the_networks_is_refused_and_an_open_one_is_taken(tmp_path):
    network(16, normalises=True).save(tmp_path / "fixed.keras")
    network(None, normalises=True).save(tmp_path / "open.keras")
    with pytest.raises(ValueError, match=r"Received: `size=\(32, 24\)`. Expected: `size=\(16, "):
        students.start(str(tmp_path / "fixed.keras"), size=(32, 24))
    assert students.start(str(tmp_path / "open.keras"), size=(32, 24)).size == (32, 24)
    assert students.start(str(tmp_path / "open.keras")).size == (96, 96)


def test_heads_that_read_different_features_are_refused(tmp_path):
    model = network(16, top=False, normalises=True)
    heads = {
        name: keras.layers.Dense(2, name=name)(
            keras.layers.GlobalAveragePooling2D()(model.get_layer(name_of).output)
        )
        for name, name_of in (("a", "early"), ("b", "late"))
    }
    keras.Model(model.input, heads).save(tmp_path / "two.keras")
    with pytest.raises(ValueError, match="do not read the same features.*'early', 'late'"):
        students.start(str(tmp_path / "two.keras"))


def test_from_scratch_on_few_photographs_says_so_and_from_weights_does_not(tmp_path):
    saved_teacher(tmp_path / "cars", network())
    scratch = students.start("compact")
    assert "500 photographs are few" in scratch.note(500)
    assert scratch.note(students.FEW_IMAGES) is None
    assert students.start(str(tmp_path / "cars")).note(500) is None


def test_trained_backbone_without_a_known_normalisation_is_refused(tmp_path):
    teacher = saved_teacher(tmp_path / "cars", network())
    with pytest.raises(ValueError, match="was trained before"):
        ka.build_student(network(16, top=False), [teacher])
    ka.build_student(network(16, top=False, normalises=True), [teacher])
    ka.build_student(backbones.compact((16, 16, 3), width=8, depth=1), [teacher])


@pytest.mark.parametrize("weights", [None, "none"])
def test_mask_of_a_converted_network_stays_and_what_was_frozen_is_trained(tmp_path, weights):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, padding="same", trainable=False, name="late")(x)
    zero = keras.ops.cast(keras.ops.argmin(keras.ops.zeros_like(x[:, :1, 0, 0]), axis=1), "int32")
    x = x + keras.ops.reshape(
        keras.layers.Embedding(1, 4, trainable=False, name="mask")(zero), (-1, 1, 1, 4)
    )
    model = keras.Model(images, x)
    model.get_layer("mask").set_weights([np.array([[0.0, -100.0, 0.0, -100.0]], "float32")])
    model.save(tmp_path / "network.keras")
    made = students.start(str(tmp_path / "network.keras"), weights).make()
    np.testing.assert_array_equal(made.get_layer("mask").get_weights(), [[[0, -100, 0, -100]]])
    assert {w.path for w in made.trainable_weights} == {"late/kernel", "late/bias"}
    same = np.array_equal(made.get_layer("late").kernel, model.get_layer("late").kernel)
    assert same is (weights is None)
