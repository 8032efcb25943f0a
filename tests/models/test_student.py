"""The student: a stock Keras model with one named head per task."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam.models.taps import with_taps

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 14, 1)).astype("uint8")

LOAD_ALONE = """
import sys
sys.modules["keras_amalgam"] = None  # Any import of it fails.
import keras, numpy as np
student = keras.saving.load_model(sys.argv[1])
with np.load(sys.argv[2]) as saved:
    outputs = student.predict(saved["images"], verbose=0)
    for name in ("digits", "shapes"):
        np.testing.assert_allclose(outputs[name], saved[name], atol=1e-5)
print(list(outputs))
"""


def backbone_of(shape=(12, 12, 1), vector=False, first=None):
    inputs = keras.Input(shape)
    x = first(inputs) if first else inputs
    x = keras.layers.Conv2D(4, 3, activation="relu", name="map")(x)
    x = keras.layers.GlobalAveragePooling2D()(x) if vector else x
    return keras.Model(inputs, x, name="backbone")


def answers(student, images=IMAGES):
    return {name: np.asarray(value) for name, value in student(images, training=False).items()}


def map_of(student, images):
    """What the backbone inside gives."""
    return np.asarray(with_taps(student, ["backbone"])(images)["taps"][0])


def test_heads_are_named_and_sized_by_task_in_the_teachers_order(teachers):
    student = ka.build_student(backbone_of(), teachers)
    outputs = answers(student)
    assert {name: value.shape for name, value in outputs.items()} == {
        "digits": (3, 3),
        "shapes": (3, 2),
    }
    assert student.class_names == {"digits": ("0", "1", "2"), "shapes": ("circle", "square")}
    assert list(student.class_names) == ["digits", "shapes"]
    assert [layer.name for layer in student.layers][-2:] == ["digits", "shapes"]


@pytest.mark.parametrize("vector", [False, True])
def test_answers_are_the_heads_on_the_pooled_backbone_of_images_in_minus_one_to_one(
    teachers, vector
):
    backbone = backbone_of((20, 14, 1), vector=vector)
    student = ka.build_student(backbone, teachers)
    pooled = np.asarray(backbone(IMAGES / 127.5 - 1))
    pooled = pooled if vector else pooled.mean((1, 2))
    for name, value in answers(student).items():
        head = student.get_layer(name)
        expected = pooled @ np.asarray(head.kernel) + np.asarray(head.bias)
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_images_of_any_size_are_brought_to_a_backbone_of_fixed_size_only(teachers):
    fixed = ka.build_student(backbone_of((12, 12, 1)), teachers)
    large = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    assert {map_of(fixed, images).shape for images in (IMAGES, large)} == {(3, 10, 10, 4)}
    free = ka.build_student(backbone_of((None, None, 1)), teachers)
    assert map_of(free, IMAGES).shape == (3, 18, 12, 4)


def test_image_channels_may_differ_from_the_backbones(teachers):
    student = ka.build_student(backbone_of((12, 12, 3)), teachers, image_channels=1)
    assert student.input_shape == (None, None, None, 1)
    colour = ka.build_student(student.get_layer("backbone"), teachers)
    for layer in ("digits", "shapes"):
        colour.get_layer(layer).set_weights(student.get_layer(layer).get_weights())
    repeated = answers(colour, np.repeat(IMAGES, 3, axis=-1))
    for name, value in answers(student).items():
        np.testing.assert_allclose(value, repeated[name], atol=1e-5)


def test_built_in_rescaling_of_the_backbone_is_not_doubled(teachers):
    plain, inside = backbone_of(), backbone_of(first=keras.layers.Rescaling(1 / 127.5, -1.0))
    inside.set_weights(plain.get_weights())
    student, other = (ka.build_student(b, teachers) for b in (plain, inside))
    other.set_weights(student.get_weights())
    for name, value in answers(other).items():
        np.testing.assert_allclose(value, answers(student)[name], atol=1e-5)
    with pytest.raises(ValueError, match="The student would have its images rescaled twice"):
        ka.build_student(inside, teachers, preprocessing=ka.Preprocessing((12, 12)))


@pytest.mark.parametrize(
    ("first", "scale"), [(lambda x: (x - 0.5) / 0.25, 1 / 255), (lambda x: x / 127.5 - 1, 1.0)]
)
def test_backbone_gets_the_range_that_its_own_operations_take(teachers, first, scale):
    backbone = backbone_of((20, 14, 1), first=first)
    student = ka.build_student(backbone, teachers)
    np.testing.assert_allclose(
        map_of(student, IMAGES), backbone(IMAGES.astype("float32") * scale), atol=1e-5
    )


def test_own_preprocessing_is_used_as_given(teachers):
    backbone = backbone_of((20, 14, 1))
    student = ka.build_student(backbone, teachers, ka.Preprocessing(mean=0.3, std=0.4))
    default = ka.build_student(backbone, teachers)
    default.set_weights(student.get_weights())
    expected = backbone((IMAGES / 255 - 0.3) / 0.4)
    np.testing.assert_allclose(map_of(student, IMAGES), expected, atol=1e-5)
    assert np.abs(answers(default)["digits"] - answers(student)["digits"]).max() > 1e-3


def test_dropout_acts_in_training_only(teachers):
    student = ka.build_student(backbone_of(), teachers, dropout=0.5)
    plain, again = answers(student)["digits"], answers(student)["digits"]
    np.testing.assert_array_equal(plain, again)
    assert np.abs(np.asarray(student(IMAGES, training=True)["digits"]) - plain).max() > 1e-3


def test_plain_call_leaves_the_batch_norm_alone(teachers):
    norm = keras.layers.BatchNormalization()
    student = ka.build_student(backbone_of(first=norm), teachers)
    np.testing.assert_array_equal(student(IMAGES)["digits"], answers(student)["digits"])
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(1))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_under(policy, teachers):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        student = ka.build_student(backbone_of(), teachers)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert student.get_layer("backbone").get_layer("map").compute_dtype == policy.removeprefix(
        "mixed_"
    )
    assert {value.dtype for value in answers(student).values()} == {np.dtype("float32")}


def test_sequential_backbone_serves(teachers):
    backbone = keras.Sequential([keras.Input((12, 12, 1)), keras.layers.Conv2D(4, 3, name="top")])
    student = ka.build_student(backbone, teachers)
    model = ka.Amalgamator(student, teachers, "top", [ka.CommonFeatures(units=2)])
    features = model.signals(IMAGES.astype("float32"))[0].features["features"]
    assert tuple(features.shape) == (3, 10, 10, 4)


@pytest.mark.slow
def test_saved_student_loads_with_plain_keras_in_a_process_without_this_package(teachers, tmp_path):
    student = ka.build_student(backbone_of(first=keras.layers.BatchNormalization()), teachers)
    student.save(tmp_path / "student.keras")
    np.savez(tmp_path / "expected.npz", images=IMAGES, **answers(student))
    command = [sys.executable, "-c", LOAD_ALONE, "student.keras", "expected.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['digits', 'shapes']"


def test_backbones_and_teachers_that_do_not_fit_are_refused(teachers):
    tokens = keras.Model(inputs := keras.Input((12, 12, 1)), keras.layers.Reshape((36, 4))(inputs))
    with pytest.raises(ValueError, match=r"output \(None, 36, 4\). Build it with include_top"):
        ka.build_student(tokens, teachers)
    with pytest.raises(ValueError, match="must know its input's shape"):
        ka.build_student(keras.Sequential([keras.layers.Conv2D(4, 3)]), teachers)
    with pytest.raises(ValueError, match="At least one teacher"):
        ka.build_student(backbone_of(), [])
    with pytest.raises(ValueError, match=r"Received twice: \['digits'\]"):
        ka.build_student(backbone_of(), [teachers[0], teachers[0]])
    with pytest.raises(ValueError, match="disagree about channels. Received: images with 1"):
        ka.build_student(
            backbone_of(), teachers, ka.Preprocessing(channels="bgr"), image_channels=1
        )


def test_a_backbone_that_ends_in_probabilities_is_refused(teachers):
    features = backbone_of(vector=True)
    x = keras.layers.Dense(4, activation="softmax")(features.output)
    with pytest.raises(ValueError, match="ends in a softmax. Build it with include_top=False"):
        ka.build_student(keras.Model(features.input, x), teachers)


def test_a_backbone_of_several_outputs_is_refused(teachers):
    backbone = backbone_of()
    several = keras.Model(backbone.input, [backbone.output, backbone.output])
    with pytest.raises(ValueError, match="backbone's output must be"):
        ka.build_student(several, teachers)


@pytest.mark.parametrize("name", ["backbone", "pooled"])
def test_a_teacher_named_like_a_layer_of_the_student_is_refused(name, make):
    with pytest.raises(ValueError, match=f"Received: teacher '{name}' and a layer"):
        ka.build_student(backbone_of(), [make.teacher(name, ["x", "y"])])


@pytest.mark.parametrize("wrong", [{"a": 1}, "teachers", [keras.Sequential()]])
def test_what_are_no_teachers_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="Teachers must be a list of Teacher. Received: "):
        ka.build_student(backbone_of(), wrong)
