"""KerasHub's classifiers as teachers. KerasHub is an extra, imported inside the tests only."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers

# KerasHub's own: layers that it builds late, and a compile() of its own that is not restored.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer"),
    pytest.mark.filterwarnings("ignore:`compile\\(\\)` was not called"),
]
CLASSES = ["cat", "dog", "owl", "fox"]
IMAGENET = {"scale": [0.0171, 0.0175, 0.0174], "offset": [-2.118, -2.036, -1.804]}


def resnet(hub, **options):
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    return hub.models.ResNetImageClassifier(backbone, num_classes=4, **options)


def vgg(hub, **options):
    backbone = hub.models.VGGBackbone([1, 1], [4, 8], image_shape=(32, 32, 3))
    return hub.models.VGGImageClassifier(backbone, num_classes=4, pooling="avg", **options)


def vit(hub, **options):
    backbone = hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    return hub.models.ViTImageClassifier(backbone, num_classes=4, **options)


def with_converter(hub, make, family, activation="softmax", **settings):
    """A classifier with a preprocessor of these settings."""
    keras.utils.set_random_seed(0)
    converter = getattr(hub.layers, f"{family}ImageConverter")(image_size=(32, 32), **settings)
    preprocessor = getattr(hub.models, f"{family}ImageClassifierPreprocessor")(converter)
    return make(hub, preprocessor=preprocessor, activation=activation)


@pytest.fixture(scope="module")
def hub():
    import keras_hub

    return keras_hub


NETWORKS = [(resnet, "ResNet", True), (vgg, "VGG", True), (vit, "ViT", False)]


@pytest.mark.parametrize(("make", "family", "is_stock"), NETWORKS)
def test_local_preset_becomes_a_teacher_that_answers_as_keras_hub_does(
    tmp_path, hub, make, family, is_stock
):
    source = with_converter(hub, make, family, **IMAGENET)
    source.save_to_preset(str(tmp_path / "preset"))
    model = teachers.from_keras_hub(tmp_path / "preset")
    kept = [x for x in model._flatten_layers() if not type(x).__module__.startswith("keras.")]
    assert (not kept) == is_stock
    teacher = ka.Teacher(model, "animals", CLASSES, preprocessing=model.preprocessing)
    teacher.save(tmp_path / "teacher")
    again = ka.Teacher.load(tmp_path / "teacher")
    assert again.preprocessing == model.preprocessing
    for height, width in ((32, 32), (48, 70), (61, 40)):
        images = np.random.default_rng(0).uniform(0, 255, (2, height, width, 3))
        images = images.astype(np.float32)
        expected = source(source.preprocessor(images))
        received = keras.ops.softmax(again.answers()(images)[again.name])
        np.testing.assert_allclose(received, expected, atol=1e-5)


def test_wrong_preprocessing_is_found_out(hub):
    source = with_converter(hub, resnet, "ResNet", **IMAGENET)
    model = teachers.from_keras_hub(source, verify=False)
    wrong = ka.Preprocessing(size=(32, 32), mean=0.5, std=0.5)
    teacher = ka.Teacher(model, "animals", CLASSES, preprocessing=wrong)
    images = np.random.default_rng(0).uniform(0, 255, (2, 48, 70, 3)).astype(np.float32)
    answer = keras.ops.softmax(teacher.answers()(images)[teacher.name])
    assert np.abs(np.asarray(answer) - source(source.preprocessor(images))).max() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 1 / 127.5, "offset": -1.0, "crop_to_aspect_ratio": False},
        {"scale": [0.01, 0.02, 0.03]},
        {"offset": -100.0, "interpolation": "bicubic", "antialias": True},
        {"interpolation": "nearest"},
        {},
    ],
)
def test_converter_is_read_as_it_works(hub, settings):
    source = with_converter(hub, vgg, "VGG", **settings)
    preprocessing = teachers.from_keras_hub(source, verify=False).preprocessing
    images = np.random.default_rng(0).uniform(0, 255, (2, 50, 41, 3)).astype(np.float32)
    inputs = keras.Input((50, 41, 3))
    received = keras.Model(inputs, preprocessing.build(inputs, 3))(images)
    np.testing.assert_allclose(received, source.preprocessor(images), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pad_to_aspect_ratio": True, "crop_to_aspect_ratio": False}, "pad_to_aspect_ratio=True"),
        ({"scale": [1.0, 0.0, 1.0]}, "drops colours"),
        ({"scale": -1.0}, "drops colours"),
        ({"data_format": "channels_first"}, "channels_first"),
    ],
)
def test_preprocessing_that_cannot_be_expressed_is_refused(hub, settings, message):
    source = with_converter(hub, vgg, "VGG", **settings)
    with pytest.raises(ValueError, match=message):
        teachers.from_keras_hub(source)
    source.preprocessor = None
    assert teachers.from_keras_hub(source, verify=False).preprocessing is None


def test_converter_with_a_way_of_its_own_is_refused(hub):
    class Inverting(hub.layers.ImageConverter):
        def call(self, inputs):
            return 255.0 - super().call(inputs)

    preprocessor = hub.models.VGGImageClassifierPreprocessor(Inverting())
    with pytest.raises(ValueError, match="Inverting prepares images in a way of its own"):
        teachers.from_keras_hub(vgg(hub, preprocessor=preprocessor))


def test_backbone_in_memory_is_taken_with_its_layers_as_taps(hub):
    backbone = resnet(hub).backbone
    model = teachers.from_keras_hub(backbone)
    assert model.output_shape == (None, 4, 4, 64)
    assert model.provenance.source == f"{backbone.name} (in memory)"
    assert model.provenance.framework.startswith("keras-hub ")


def test_layers_of_the_backbone_are_taps_of_the_classifier(hub):
    model = teachers.from_keras_hub(with_converter(hub, resnet, "ResNet", **IMAGENET))
    last = next(x.name for x in reversed(model.layers) if x.output.shape[1:] == (4, 4, 64))
    teacher = ka.Teacher(model, "animals", CLASSES, tap=last, preprocessing=model.preprocessing)
    features = teacher.signals()(np.zeros((1, 32, 32, 3)))["features"]["features"]
    assert features.shape == (1, 4, 4, 64)


@pytest.mark.parametrize(
    ("make", "blocked", "loads"), [(resnet, True, True), (vit, True, False), (vit, False, True)]
)
def test_saved_network_loads_in_a_fresh_process(tmp_path, hub, make, blocked, loads):
    """One of stock layers without KerasHub, any other where it is installed; Keras imports it."""
    model = teachers.from_keras_hub(make(hub), verify=False)
    model.save(tmp_path / "model.keras")
    missing = "sys.modules['keras_hub'] = " if blocked else ""
    code = (
        f"import sys; {missing}sys.modules['keras_amalgam'] = None\n"
        "import keras; print(keras.saving.load_model('model.keras', compile=False).count_params())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == loads, done.stderr
    assert not loads or int(done.stdout) == model.count_params()


def test_preset_that_holds_code_is_refused(tmp_path, hub):
    vgg(hub).save_to_preset(str(tmp_path / "preset"))
    config = json.loads((tmp_path / "preset" / "task.json").read_text())
    config["config"]["preprocessor"] = {"class_name": "Lambda", "config": {"name": "evil"}}
    (tmp_path / "preset" / "task.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"task.json.*'evil' is a Lambda"):
        teachers.from_keras_hub(tmp_path / "preset")


@pytest.mark.parametrize("file", ["config.json", "task.json", "model.weights.h5"])
def test_damaged_preset_is_refused(tmp_path, hub, file):
    vgg(hub).save_to_preset(str(tmp_path / "preset"))
    content = (tmp_path / "preset" / file).read_bytes()
    (tmp_path / "preset" / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged"):
        teachers.from_keras_hub(tmp_path / "preset")


def test_preset_of_a_backbone_alone_is_refused_with_advice(tmp_path, hub):
    vgg(hub).backbone.save_to_preset(str(tmp_path / "preset"))
    with pytest.raises(ValueError, match=r"cannot load.*Backbone.from_preset"):
        teachers.from_keras_hub(tmp_path / "preset")


@pytest.mark.parametrize("source", [None, 3, keras.layers.ReLU(), keras.Sequential()])
def test_what_is_no_model_of_keras_hub_is_refused(source):
    with pytest.raises(TypeError, match="preset's name or directory"):
        teachers.from_keras_hub(source)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-amalgam\[hub\]'"):
        teachers.from_keras_hub("resnet_50_imagenet")
