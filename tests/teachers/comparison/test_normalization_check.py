"""Running statistics tell under which normalisation a network was trained, or nothing is said."""

import dataclasses
import io

import keras
import numpy as np
import pytest
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import data, teachers
from keras_amalgam.files.provenance import Provenance
from keras_amalgam.teachers.comparison.normalization_check import (
    MIN_IMAGES,
    advice,
    check_normalization,
    rank_normalizations,
    usual_normalizations,
)
from keras_amalgam.teachers.comparison.running_statistics import (
    RunningStatistics,
    first_normalizations,
)

SIDE = 24
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CAFFE = (103.939, 116.779, 123.68)
TRUTHS = {
    "No normalisation (0..255)": {"scale": 1.0},
    "A scale of 1/255 (0..1)": {},
    "A range of -1..1": {"mean": 0.5, "std": 0.5},
    "ImageNet's mean and std": IMAGENET,
    "Subtracting Caffe's means": {"scale": 1.0, "mean": CAFFE, "channels": "bgr"},
}


def photographs(count=16, seed=0, side=SIDE, channels=3):
    """Smooth, coloured and contrasty as photographs are: noise of falling spectrum, uint8."""
    rng = np.random.default_rng(seed)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    falling = 1 / np.maximum(frequencies, 1 / side)
    light, colour = rng.normal(size=(count, 1, side, side)), rng.normal(size=(count, 3, side, side))
    waves = np.fft.ifft2(np.fft.fft2(light + 0.4 * colour) * falling).real
    waves *= 55 / waves.std()
    pixels = waves.transpose(0, 2, 3, 1) + np.array([124, 116, 104])
    return np.clip(pixels[..., :channels], 0, 255).round().astype("uint8")


def preprocessing(settings, **others):
    return ka.Preprocessing(size=(SIDE, SIDE), **settings, **others)


def trained_on(images, truth, layers=None, channels=3, side=SIDE):
    """A network whose running statistics are those of images under a preprocessing."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((side, side, channels)), *(layers or convolutions())])
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # The statistics become those of the next batch.
            gain, shift, *others = layer.get_weights()
            rng = np.random.default_rng(len(gain))
            gain, shift = rng.uniform(0.5, 1.5, len(gain)), rng.normal(0, 0.3, len(gain))
            layer.set_weights([gain, shift, *others])
    raw = keras.Input((None, None, images.shape[-1]))
    entering = keras.Model(raw, truth.build(raw, channels))(images.astype("float32"))
    model(entering, training=True)
    return model


def convolutions():
    layers = []
    for width in (8, 12):
        layers += [
            keras.layers.Conv2D(width, 3, strides=2, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return [*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]


def teacher_of(model, declared):
    return ka.Teacher(model, "cars", class_names=list("abcd"), preprocessing=declared)


def with_shuffled_statistics(model):
    """The same network whose channels bear each other's running statistics."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            *affine, mean, variance = layer.get_weights()
            layer.set_weights([*affine, np.roll(mean, 3), np.roll(variance, 3)])
    return copy


@pytest.fixture(scope="module")
def networks():
    """A network trained under each normalisation."""
    pool = photographs(48, seed=1)
    return {name: trained_on(pool, preprocessing(settings)) for name, settings in TRUTHS.items()}


@pytest.mark.matrix
@pytest.mark.parametrize("truth", TRUTHS)
def test_the_normalisation_of_the_training_is_not_warned_of(networks, truth):
    teacher = teacher_of(networks[truth], preprocessing(TRUTHS[truth]))
    check = check_normalization(teacher, photographs())
    assert check.warning is None and check.obstacle == ""
    assert check.declared.divergence < 0.05
    assert check.usual[0].name == check.clear.name == truth


@pytest.mark.matrix
@pytest.mark.parametrize("truth", TRUTHS)
def test_any_other_is_warned_of_and_the_right_one_named(networks, truth):
    order = TRUTHS[truth].get("channels")
    for declared in set(TRUTHS) - {truth}:
        settings = usual_normalizations(order, 3)[declared]
        teacher = teacher_of(networks[truth], dataclasses.replace(settings, size=(SIDE, SIDE)))
        check = check_normalization(teacher, photographs())
        assert check.better.name == truth, declared
        assert check.better.preprocessing == ka.Preprocessing(**TRUTHS[truth])
        assert advice(check.better.preprocessing) in check.warning


@pytest.mark.matrix
@pytest.mark.parametrize("truth", TRUTHS)
def test_shuffled_statistics_fit_nothing(networks, truth):
    model = with_shuffled_statistics(networks[truth])
    check = check_normalization(teacher_of(model, preprocessing(TRUTHS[truth])), photographs())
    assert check.declared.divergence > 0.2
    assert check.warning is None and check.clear is None


@pytest.mark.slow
def test_images_of_another_kind_are_not_warned_of(networks):
    dark = (photographs() // 8).astype("uint8")
    digits = data.from_tfds("demo_digits", "unlabelled", data.demo_data_dir())
    pools = {"dark": dark, "digits": [d.numpy() for d in digits.take(16)]}
    for truth, model in networks.items():
        teacher = teacher_of(model, preprocessing(TRUTHS[truth]))
        for name, pool in pools.items():
            check = check_normalization(teacher, pool)
            assert check.warning is None and check.declared.divergence > 0.1, (truth, name)


def test_divergence_is_the_mean_of_both_kullback_leibler_divergences():
    mean, variance = np.array([90.0, 140.0, 100.0]), np.array([3000.0, 4000.0, 2500.0])
    layers = [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    model.layers[0].set_weights(
        [np.array([2.0, 0.5, -1.0]), np.array([1.0, 0.0, -3.0]), mean, variance]
    )
    images = photographs()
    received = RunningStatistics(model, first_normalizations(model, 3)).divergence(
        [images[:5].astype("float32"), images[5:].astype("float32")], ka.Preprocessing(scale=1.0)
    )
    pixels = images.reshape(-1, 3).astype("float64")
    theirs, ours = (mean, variance), (pixels.mean(0), pixels.var(0))
    expected = np.median((kullback_leibler(theirs, ours) + kullback_leibler(ours, theirs)) / 2)
    np.testing.assert_allclose(received, expected, rtol=1e-4)


def test_channels_that_are_dead_or_multiplied_by_nothing_are_passed_over(networks):
    model = keras.models.clone_model(networks["ImageNet's mean and std"])
    model.set_weights(networks["ImageNet's mean and std"].get_weights())
    teacher = teacher_of(model, preprocessing(IMAGENET))
    before = check_normalization(teacher, photographs()).declared.divergence
    last = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)][-1]
    gain, shift, mean, variance = last.get_weights()
    gain[0], mean[1], variance[1] = 0.0, 0.0, 0.0
    last.set_weights([gain, shift, mean, variance])
    check = check_normalization(teacher, photographs())  # Divisions by zero are errors.
    assert abs(check.declared.divergence - before) < 0.02
    assert check.clear.name == "ImageNet's mean and std"


def kullback_leibler(p, q):
    """Of two normal distributions `(mean, variance)`: Bishop, 2006, exercise 1.30."""
    ratio = p[1] / q[1]
    return (ratio + (p[0] - q[0]) ** 2 / q[1] - 1 - np.log(ratio)) / 2


def test_a_normalisation_inside_the_network_is_not_asked_for_again():
    inside = [keras.layers.Rescaling(1 / 127.5, offset=-1), *convolutions()]
    raw = ka.Preprocessing(size=(SIDE, SIDE), scale=1.0)
    model = trained_on(photographs(seed=1), raw, inside)
    check = check_normalization(teacher_of(model, raw), photographs())
    assert check.warning is None
    assert check.clear.name == "No normalisation (0..255)"


def test_statistics_inside_nested_models_are_read():
    nested = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *convolutions()[:6]], name="inner")
    layers = [nested, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    model = trained_on(photographs(seed=1), preprocessing(IMAGENET), layers)
    assert [path.split("/")[0] for path in first_normalizations(model, 3)] == ["inner", "inner"]
    check = check_normalization(teacher_of(model, preprocessing({})), photographs())
    assert check.better.name == "ImageNet's mean and std"


def test_a_layer_that_is_called_twice_is_passed_over():
    inputs = keras.Input((SIDE, SIDE, 3))
    shared = keras.layers.BatchNormalization(name="shared")
    once = keras.layers.BatchNormalization(name="once")
    for layer in (shared, once):
        layer.build((None, SIDE, SIDE, 3))
        layer.set_weights([np.ones(3), np.zeros(3), np.full(3, 0.5), np.ones(3)])
    model = keras.Model(inputs, once(shared(shared(inputs))))
    assert first_normalizations(model, 3) == ["once"]


def test_grey_networks_are_judged_by_normalisations_of_one_number():
    pool, images = photographs(seed=1, channels=1), photographs(channels=1)
    model = trained_on(pool, preprocessing(TRUTHS["A range of -1..1"]), channels=1)
    check = check_normalization(teacher_of(model, preprocessing({})), images)
    assert check.better.name == "A range of -1..1" and len(check.usual) == 3


def test_images_of_all_sizes_are_shown_to_a_network_of_open_size():
    model = trained_on(photographs(seed=1), preprocessing(IMAGENET), side=None)
    images = [photographs(1, seed, side)[0] for seed, side in enumerate(range(20, 36))]
    check = check_normalization(teacher_of(model, ka.Preprocessing(mean=0.5, std=0.5)), images)
    assert check.images == 16 and check.better.name == "ImageNet's mean and std"


def flat():
    """Layers without a batch normalization."""
    return [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]


def test_it_says_that_nothing_can_be_told_without_statistics(networks):
    declared = preprocessing(IMAGENET)
    untrained = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *convolutions()])
    folded = trained_on(photographs(), declared, flat())
    folded.provenance = Provenance("n.onnx", "", "", "", batch_norm={"bn": {"mean": [0.0]}})
    few = photographs(MIN_IMAGES - 1)
    for model, images, reason in (
        (trained_on(photographs(), declared, flat()), photographs(), "no batch normalization"),
        (untrained, photographs(), "no batch normalization in it has statistics"),
        (folded, photographs(), "folded into the convolutions"),
        (networks["ImageNet's mean and std"], few, f"at least {MIN_IMAGES} images"),
    ):
        check = check_normalization(teacher_of(model, declared), images)
        assert reason in check.obstacle
        assert check.warning is None and check.clear is None
        ranked = rank_normalizations(model, images)
        assert ranked.obstacle and ranked.usual == ()


def test_images_in_another_range_than_0_to_255_are_refused(make):
    images = make.colour_images()
    model = make.remembering_network(images, ka.Preprocessing(**IMAGENET))
    shares = images.astype("float32") / 255
    with pytest.raises(ValueError, match="0..255"):
        rank_normalizations(model, shares)


def test_of_a_network_in_its_own_runtime_nothing_can_be_told(networks, tmp_path):
    networks["ImageNet's mean and std"].save(tmp_path / "n.keras")
    keras.saving.load_model(tmp_path / "n.keras").export(tmp_path / "saved", verbose=False)
    teacher = teachers.runtime_teacher(
        tmp_path / "saved", "cars", list("abcd"), preprocessing=preprocessing({})
    )
    assert "its own runtime" in check_normalization(teacher, photographs()).obstacle


@pytest.mark.slow
def test_check_teacher_warns_on_the_callers_images_and_never_on_generated_ones(networks):
    teacher = teacher_of(networks["ImageNet's mean and std"], preprocessing({}))
    images = {f"{number}.png": png(image) for number, image in enumerate(photographs(12))}
    with pytest.warns(UserWarning, match="'cars' seems .* ImageNet's mean and std fits them"):
        report = teachers.check_teacher(teacher, teacher.model, images=images)
    assert report["passed"] and "--mean=0.485" in report["normalization"]["warning"]
    assert teachers.check_teacher(teacher, teacher.model)["normalization"] is None
    right = teacher_of(networks["ImageNet's mean and std"], preprocessing(IMAGENET))
    report = teachers.check_teacher(right, right.model, images=images)  # Warnings are errors.
    assert report["normalization"]["declared"] < 0.05


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def test_advice_is_what_convert_takes():
    usual = usual_normalizations("bgr", 3)
    assert advice(usual["Subtracting Caffe's means"]) == (
        "--scale=1 --mean=103.939,116.779,123.68 --channels=bgr, in Python "
        "Preprocessing(scale=1.0, mean=(103.939, 116.779, 123.68), channels='bgr')"
    )
    assert advice(ka.Preprocessing()) == "--mean=0, in Python Preprocessing()"
