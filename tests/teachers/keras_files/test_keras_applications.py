"""The networks of keras.applications: their preprocessing, rescaling inside, and softmax heads."""

import sys

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.models.outputs import final_activation, to_logits

ALL = [name for name in dir(keras.applications) if name[0].isupper()]
# By the module that has their preprocess_input, where it is not the one they are defined in.
MODULES = {
    "MobileNetV3Small": keras.applications.mobilenet_v3,
    "MobileNetV3Large": keras.applications.mobilenet_v3,
    "ResNet50V2": keras.applications.resnet_v2,
    "ResNet101V2": keras.applications.resnet_v2,
    "ResNet152V2": keras.applications.resnet_v2,
}
BUILT_IN = ("ConvNeXt", "EfficientNet", "MobileNetV3")
SMALL = ["MobileNet", "MobileNetV2", "MobileNetV3Small"]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


def built(preprocessing, size=32):
    """The preprocessing as a model of three-channel images."""
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, preprocessing.build(inputs, 3))


def applied(preprocessing, images):
    return keras.ops.convert_to_numpy(built(preprocessing, images.shape[1])(images))


def module_of(name):
    builder = getattr(keras.applications, name)
    return MODULES.get(name) or sys.modules[builder.__module__]


@pytest.mark.parametrize("name", ALL)
def test_preprocessing_is_that_of_the_networks_own_module(name):
    expected = module_of(name).preprocess_input(IMAGES.copy())
    received = applied(teachers.preprocessing_of(name), IMAGES)
    np.testing.assert_allclose(received, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121", "MobileNetV2"])
def test_preprocessing_of_another_family_is_found_out(name):
    expected = module_of(name).preprocess_input(IMAGES.copy())
    others = [teachers.preprocessing_of(n) for n in ("VGG16", "DenseNet201", "Xception")]
    errors = [np.abs(applied(other, IMAGES) - expected).max() for other in others]
    assert sorted(error < 1e-4 for error in errors) == [False, False, True]


def test_builder_itself_may_be_given():
    given = teachers.preprocessing_of(keras.applications.ResNet50)
    assert given == teachers.preprocessing_of("ResNet50")
    assert given.channels == "bgr"


@pytest.mark.parametrize("name", ["MobileNetV5", "mobilenet_v2", "imagenet_utils", "", len])
def test_unknown_network_is_refused_and_the_known_are_listed(name):
    with pytest.raises(ValueError, match="has no network.*MobileNetV2"):
        teachers.preprocessing_of(name)


def test_network_that_cannot_leave_out_its_preprocessing_is_refused():
    with pytest.raises(ValueError, match="VGG16 has no include_preprocessing"):
        teachers.preprocessing_of("VGG16", include_preprocessing=False)


def bare_and_whole(name, **options):
    """The network without and with its rescaling, of equal weights."""
    builder = getattr(keras.applications, name)
    options |= {"weights": None, "classes": 4, "input_shape": (32, 32, 3)}
    keras.utils.set_random_seed(0)
    bare = builder(include_preprocessing=False, **options)
    whole = builder(include_preprocessing=True, **options)
    weights = iter(bare.get_weights())
    for layer in whole.layers:
        if not isinstance(layer, keras.layers.Normalization):
            layer.set_weights([next(weights) for _ in layer.weights])
    assert next(weights, None) is None
    return bare, whole


def check_bare(name):
    bare, whole = bare_and_whole(name)
    images = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    # Before the first weights: untrained networks hardly tell images apart in the end.
    first = next(layer.name for layer in bare.layers if layer.weights)
    ours = applied(teachers.preprocessing_of(name, include_preprocessing=False), images)
    received = keras.Model(bare.input, bare.get_layer(first).output)(ours)
    expected = keras.Model(whole.input, whole.get_layer(first).output)(images)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(received, keras.Model(bare.input, bare.get_layer(first).output)(images))


@pytest.mark.parametrize("name", ["MobileNetV3Small"])
def test_network_without_its_rescaling_gets_the_same_images(name):
    check_bare(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["MobileNetV3Large", "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny"]
)
def test_other_networks_without_their_rescaling_get_the_same_images(name):
    check_bare(name)


def check_recognised(name, **options):
    model = getattr(keras.applications, name)(weights=None, **options)
    assert (built_in_normalisation(model) is not None) == name.startswith(BUILT_IN)
    assert final_activation(model.output) == "probabilities"
    logits = to_logits(model, "probabilities")
    assert final_activation(logits.output) is None
    assert logits.count_params() == model.count_params()
    return model, logits


@pytest.mark.matrix
@pytest.mark.parametrize("name", SMALL)
def test_head_and_rescaling_are_recognised(name):
    model, logits = check_recognised(name, input_shape=(32, 32, 3), classes=5)
    np.testing.assert_allclose(
        keras.ops.softmax(logits(IMAGES)), model(IMAGES, training=False), atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.matrix(slow=6)
@pytest.mark.parametrize("name", ALL)
def test_head_and_rescaling_of_every_network_are_recognised_at_full_size(name):
    check_recognised(name)
    keras.backend.clear_session()


# One of each family, at the smallest size that it takes.
FAMILIES = {
    "ConvNeXtTiny": 32, "DenseNet121": 32, "EfficientNetB0": 32, "EfficientNetV2S": 32,
    "InceptionResNetV2": 75, "InceptionV3": 75, "NASNetMobile": 32, "ResNet50": 32,
    "ResNet50V2": 32, "VGG16": 32, "Xception": 71,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.matrix(slow=4)
@pytest.mark.parametrize(("name", "size"), FAMILIES.items())
def test_every_family_becomes_a_teacher_that_is_saved_and_loaded(tmp_path, name, size):
    options = {"weights": None, "classes": 3, "input_shape": (size, size, 3)}
    keras.utils.set_random_seed(0)
    # Without its own comparison at every layer: the teacher is saved and loaded below.
    model = teachers.from_keras(getattr(keras.applications, name)(**options), verify=False)
    built_in = name.startswith(BUILT_IN)
    teacher = ka.Teacher(
        model,
        "animals",
        class_names=["cat", "dog", "owl"],
        preprocessing=None if built_in else teachers.preprocessing_of(name),
    )
    teacher.save(tmp_path / "animals")
    again = ka.Teacher.load(tmp_path / "animals")
    images = np.random.default_rng(0).uniform(0, 255, (2, 90, 80, 3)).astype(np.float32)
    received = again.answers()(images)[again.name]
    resized = keras.ops.image.resize(images, (size, size), antialias=True)
    given = module_of(name).preprocess_input(keras.ops.convert_to_numpy(resized).copy())
    np.testing.assert_allclose(keras.ops.softmax(received), model(given), atol=1e-5)


def test_rescaling_an_image_twice_is_refused():
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=2, include_top=True
    )
    with pytest.raises(ValueError, match="rescaled twice"):
        ka.Teacher(model, "pets", ["cat", "dog"], preprocessing=ka.Preprocessing())
    teacher = ka.Teacher(model, "pets", ["cat", "dog"])
    assert teacher.preprocessing == ka.Preprocessing(size=(32, 32), scale=1.0)
