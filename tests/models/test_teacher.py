"""A teacher: built only of parts that fit, saved and loaded to the bit."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.teacher import Provenance
from keras_amalgam.models.teacher_files import CARD_KEYS

CLASSES = ["0", "1", "2"]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 15, 13, 1)).astype("uint8")


def network(inputs=(12, 12, 1), classes=3, first=None):
    images = keras.Input(inputs)
    x = first(images) if first else images
    x = keras.layers.Conv2D(4, 3, activation="relu", name="map")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(images, keras.layers.Dense(classes, name="head")(x), name="network")


def teacher_of(model=None, **changes):
    arguments = {
        "name": "digits",
        "class_names": CLASSES,
        "tap": "map",
        "preprocessing": ka.Preprocessing(mean=0.3, std=0.4),
    }
    return ka.Teacher(model or network(), **arguments | changes)


def signals(teacher, images=IMAGES):
    return Signals.of(teacher.signals(images.shape[-1])(images, training=False))


def assert_same_signals(a, b):
    assert a.shapes() == b.shapes()
    for mine, its in ((a.answers, b.answers), (a.features, b.features)):
        for key in mine:
            np.testing.assert_array_equal(mine[key], its[key])


def test_signals_are_the_models_answers_on_its_own_preprocessing():
    model = network(inputs=(15, 13, 1))
    given = signals(teacher_of(model))
    normalised = (IMAGES / 255 - 0.3) / 0.4
    np.testing.assert_allclose(given.answers["digits"], model(normalised), atol=1e-5)
    tapped = keras.Model(model.input, model.get_layer("map").output)
    np.testing.assert_allclose(given.features["features"], tapped(normalised), atol=1e-5)


def test_size_is_the_models_where_the_preprocessing_leaves_it_open():
    assert teacher_of().preprocessing == ka.Preprocessing(size=(12, 12), mean=0.3, std=0.4)
    assert teacher_of(network((None, None, 1))).preprocessing.size is None
    assert np.asarray(signals(teacher_of()).features["features"]).shape == (4, 10, 10, 4)


def test_teacher_without_a_tap_gives_logits_alone():
    assert signals(teacher_of(tap=None)).features == {}


def test_signals_run_in_inference_mode_after_training_mode_elsewhere():
    norm = keras.layers.BatchNormalization()
    teacher = teacher_of(network(first=norm))
    before = np.asarray(signals(teacher).answers["digits"])
    np.testing.assert_array_equal(teacher.answers(1)(IMAGES)[teacher.name], before)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(1))


def test_colour_images_serve_a_grey_teacher():
    teacher, colour = teacher_of(), np.repeat(IMAGES, 3, axis=-1)
    expected = signals(teacher).answers["digits"]
    np.testing.assert_allclose(signals(teacher, colour).answers["digits"], expected, atol=1e-3)


def test_probabilities_become_logits():
    model = network()
    with_softmax = keras.Model(model.input, keras.layers.Softmax()(model.output))
    np.testing.assert_array_equal(
        signals(teacher_of(with_softmax)).answers["digits"],
        signals(teacher_of(model)).answers["digits"],
    )


def test_saved_and_loaded_teacher_is_the_same_to_the_bit(tmp_path):
    teacher = teacher_of(network(first=keras.layers.BatchNormalization()), outputs="logits")
    teacher.save(tmp_path / "digits")
    again = ka.Teacher.load(tmp_path / "digits")
    assert_same_signals(signals(again), signals(teacher))
    assert again.card() == teacher.card()
    assert (again.name, again.class_names, again.tap) == ("digits", ("0", "1", "2"), ka.Tap("map"))
    assert sorted(p.name for p in (tmp_path / "digits").iterdir()) == [
        "card.json",
        "labels.txt",
        "model.keras",
    ]
    assert (tmp_path / "digits/labels.txt").read_text() == "0\n1\n2\n"


def test_provenance_translates_the_taps_name_once_and_is_kept(tmp_path):
    """The source's names may cross ours: its `pooled` is our `map`, its `map` our `pooled`."""
    model = network()
    names = {"pooled": "map", "map": "pooled", "/features/relu": "map"}
    model.provenance = Provenance("a.onnx", "0" * 64, "pytorch", "test 1", opset=17, names=names)
    assert teacher_of(model, tap="/features/relu").tap == ka.Tap("map")
    teacher = teacher_of(model, tap="pooled")
    assert teacher.tap == ka.Tap("map")
    teacher.save(tmp_path / "t")
    again = ka.Teacher.load(tmp_path / "t")
    assert (again.tap, again.provenance) == (teacher.tap, teacher.provenance)
    assert again.model.provenance == teacher.provenance


def test_fingerprint_tells_weights_apart_and_nothing_else():
    model = network()
    before = teacher_of(model).fingerprint()
    assert teacher_of(model, name="other", tap=None).fingerprint() == before
    model.layers[-1].bias.assign([0, 0, 1e-7])
    assert teacher_of(model).fingerprint() != before


def test_existing_directory_is_not_overwritten(tmp_path):
    teacher_of().save(tmp_path / "t")
    with pytest.raises(FileExistsError, match="exists already"):
        teacher_of().save(tmp_path / "t")


@pytest.fixture
def saved(tmp_path):
    teacher_of().save(tmp_path / "t")
    return tmp_path / "t"


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999], ids=str)
def test_truncated_model_is_refused_as_such(saved, part):
    path = saved / "model.keras"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"model.keras is not a whole .keras file. Received: \d+"):
        ka.Teacher.load(saved)


def test_model_with_damaged_weights_inside_is_refused_as_such(saved):
    path = saved / "model.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.weights.h5"] = parts["model.weights.h5"][:400]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="not a whole .keras file"):
        ka.Teacher.load(saved)


def test_changed_weights_are_refused(saved):
    model = keras.saving.load_model(saved / "model.keras")
    model.layers[-1].bias.assign([0, 0, 1e-7])
    model.save(saved / "model.keras")
    with pytest.raises(ValueError, match="not those of its card"):
        ka.Teacher.load(saved)


def test_damaged_cards_are_refused(saved):
    path = saved / "card.json"
    whole = json.loads(path.read_text())
    for text, says in (
        (json.dumps(whole)[:100], "is damaged. Received"),
        ("[]", "another version. Received: None"),
        (json.dumps(whole | {"card_version": 99}), "another version. Received: 99"),
        (json.dumps({k: v for k, v in whole.items() if k != "taps"}), r"without \['taps'\]"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            ka.Teacher.load(saved)
    assert CARD_KEYS | {"card_version"} == set(whole)


@pytest.mark.parametrize("name", ["card.json", "model.keras"])
def test_missing_files_are_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        ka.Teacher.load(saved)


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"class_names": ["0", "1"]}, r"Received: an output of shape \(None, 3\) and 2 class"),
        ({"class_names": ["0", "1", "1"]}, r"stand twice: \['1'\]"),
        ({"class_names": ["0", "1\n", "2"]}, r"lines of a labels file. Received: '1\\n'"),
        ({"class_names": None}, "Received: neither"),
        ({"task": ka.tasks.Classification(CLASSES)}, "Received: both"),
        ({"tap": "conv5"}, r"'digits': .*no layer 'conv5'.*'map' \(None, 10, 10, 4\)"),
        ({"tap": ka.Tap("map/inner")}, "no layer 'map/inner'"),
        ({"preprocessing": None}, "does not rescale inside"),
        ({"preprocessing": ka.Preprocessing((9, 9))}, r"size=\(9, 9\).*Set size=\(12, 12\)"),
        ({"preprocessing": ka.Preprocessing(channels="rgb")}, "'digits': .*about channels"),
        ({"preprocessing": ka.Preprocessing(mean=(1.0, 2.0, 3.0))}, "'digits': .*about channels"),
        ({"outputs": "probabilities"}, "'digits' is said to return probabilities"),
        ({"name": "my birds"}, "'my birds'. Expected: ASCII letters.*Name it 'my_birds'"),
        ({"name": "image"}, "name of a student's input. Received: 'image'"),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given),
)
def test_parts_that_do_not_fit_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        teacher_of(**changes)


def test_models_that_cannot_be_teachers_are_refused():
    for shape, says in (
        ((12, 12, 4), "takes 4"),
        ((12,), "one batch of images"),
        ((3, 12, 12), r"channels-first. Received: .*\(None, 3, 12, 12\).*teachers.from_onnx"),
    ):
        layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)]
        with pytest.raises(ValueError, match=f"'digits'.*{says}"):
            teacher_of(keras.Sequential(layers), tap=None)
    with pytest.raises(ValueError, match="'digits': A sequential model must know"):
        teacher_of(keras.Sequential([keras.layers.Dense(3)]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "model.keras"}, "needs a keras.Model. Received: str"),
        ({"name": 3}, "name must be a string. Received: 3 of type int"),
    ],
    ids=str,
)
def test_parts_of_another_type_are_refused(changes, says):
    with pytest.raises(TypeError, match=says):
        teacher_of(**changes)


def test_class_names_of_an_array_are_kept_as_plain_text(tmp_path):
    teacher = teacher_of(class_names=np.array(["ä", "b c", "d"]))
    teacher.save(tmp_path / "t")
    assert (tmp_path / "t/labels.txt").read_text("utf-8").splitlines() == ["ä", "b c", "d"]
    assert ka.Teacher.load(tmp_path / "t").task == teacher.task


def test_sequential_model_can_be_a_teacher(tmp_path):
    model = keras.Sequential([keras.Input((12, 12, 1)), *network().layers[1:]])
    teacher = teacher_of(model)
    assert_same_signals(signals(teacher), signals(teacher_of(network_like(model))))
    teacher.save(tmp_path / "t")
    assert_same_signals(signals(ka.Teacher.load(tmp_path / "t")), signals(teacher))


def network_like(model):
    functional = network()
    functional.set_weights(model.get_weights())
    return functional


def test_map_against_vector_is_refused_naming_both_taps(make):
    vector, student = teacher_of(tap="pooled"), None
    student = make.student([vector])
    with pytest.raises(
        ValueError, match=r"Teacher 'digits'.*'pooled' of shape \(4,\).*student_map"
    ):
        ka.Amalgamator(student, [vector], "student_map", [ka.CommonFeatures(units=2)])


def test_built_in_rescaling_needs_no_preprocessing_and_is_not_doubled():
    """MobileNetV3 takes 0..255, to which its layer Rescaling brings nothing but itself."""
    model = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=3, minimalistic=True
    )
    teacher = ka.Teacher(model, "things", class_names=CLASSES)
    assert teacher.preprocessing == ka.Preprocessing(size=(32, 32), scale=1.0)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    probabilities = np.asarray(model(images.astype("float32"), training=False))
    logits = np.asarray(signals(teacher, images).answers[teacher.name])
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(-1, keepdims=True), probabilities, atol=1e-6)
    with pytest.raises(ValueError, match="'things' would have its images rescaled twice"):
        ka.Teacher(model, "things", class_names=CLASSES, preprocessing=ka.Preprocessing())


@pytest.mark.parametrize(
    ("layer", "preprocessing", "twice"),
    [
        (keras.layers.Rescaling(1 / 255), ka.Preprocessing(scale=1.0), False),
        (keras.layers.Rescaling(1 / 255), ka.Preprocessing(scale=1.0, std=127.5), True),
        (keras.layers.Rescaling(2.0, -1.0), ka.Preprocessing(), False),
        (keras.layers.Normalization(mean=0.5, variance=0.05), ka.Preprocessing(), False),
        (keras.layers.Normalization(mean=120.0, variance=3600.0), ka.Preprocessing(), True),
        (keras.layers.Normalization(mean=120.0, variance=3600.0), None, False),
        (lambda x: x / 127.5 - 1, ka.Preprocessing(mean=0.5, std=0.5), True),
        (lambda x: x / 127.5 - 1, ka.Preprocessing(scale=1.0), False),
        (lambda x: x * 255.0, ka.Preprocessing(), False),
    ],
)
def test_rescaling_twice_is_told_from_rescaling_further(layer, preprocessing, twice):
    model = network(first=layer)
    if not twice:
        assert teacher_of(model, preprocessing=preprocessing).preprocessing.size == (12, 12)
        return
    with pytest.raises(ValueError, match="rescaled twice"):
        teacher_of(model, preprocessing=preprocessing)


def test_normalisation_inside_of_images_in_0_to_1_gets_them():
    """Not 0..255, on which every teacher would saturate without a word."""
    model = network(first=lambda x: (x - 0.13) / 0.31)
    teacher = teacher_of(model, preprocessing=None)
    assert teacher.preprocessing == ka.Preprocessing(size=(12, 12), scale=1 / 255)
    with pytest.raises(ValueError, match="'digits' would have its images left in another range"):
        teacher_of(model, preprocessing=ka.Preprocessing(scale=1.0))
