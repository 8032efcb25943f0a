"""Taps by name: in teachers, their cards, and the student."""

import json

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.taps import as_taps, with_taps

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 1)).astype("float32")


@pytest.fixture
def network():
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(3, 3, strides=2, padding="same", name="mid")(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="top")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


def teacher_of(network, **settings):
    settings = {"preprocessing": ka.Preprocessing((12, 12), mean=0.5, std=0.3)} | settings
    return ka.Teacher(network, "shapes", ["circle", "square"], **settings)


def test_features_are_those_of_the_named_layers(network):
    teacher = teacher_of(network, taps={"deep": "top", "early": ka.Tap("mid"), "vector": "pooled"})
    signals = Signals.of(teacher.signals(1)(IMAGES))
    inside = keras.Model(
        network.input, {name: network.get_layer(name).output for name in ("mid", "top", "pooled")}
    )((IMAGES / 255 - 0.5) / 0.3)
    for tap, layer in (("early", "mid"), ("deep", "top"), ("vector", "pooled")):
        np.testing.assert_allclose(signals.features[tap], inside[layer], atol=1e-5)
    assert list(signals.answers) == ["shapes"]


def test_one_layer_may_have_two_taps_inside_the_student_too(network):
    student = ka.build_student(
        keras.Model(network.input, network.get_layer("top").output, name="backbone"),
        [teacher_of(network)],
    )
    for model, layer in ((network, "top"), (student, "backbone/top")):
        twice = with_taps(model, [layer, layer]).output["taps"]
        assert len(twice) == 2 and twice[0].shape == twice[1].shape == (None, 3, 3, 4)


def test_one_tap_is_short_for_features(network):
    assert teacher_of(network, tap="top").taps == {"features": ka.Tap("top")}
    assert teacher_of(network, tap="top").tap == ka.Tap("top")
    assert teacher_of(network).taps == {} and teacher_of(network).tap is None
    several = teacher_of(network, taps={"a": "mid", "b": "top"})
    with pytest.raises(ValueError, match=r"several taps. Received: \['a', 'b'\]"):
        _ = several.tap


@pytest.mark.parametrize("load", [teachers.load, ka.Teacher.load])
def test_card_keeps_the_taps(network, load, tmp_path):
    teacher = teacher_of(network, taps={"mid": "mid", "top": "top"})
    teacher.save(tmp_path / "t")
    card = json.loads((tmp_path / "t" / "card.json").read_text())
    assert card["card_version"] == 2
    assert card["taps"]["mid"] == {"layer": "mid", "tokens": "auto"}
    assert load(tmp_path / "t").taps == teacher.taps


@pytest.mark.parametrize(
    ("tap", "taps"),
    [({"layer": "top", "tokens": "map"}, {"features": ka.Tap("top", "map")}), (None, {})],
    ids=["one", "none"],
)
def test_card_of_version_1_loads_with_its_tap(network, tap, taps, tmp_path):
    teacher_of(network, tap="top").save(tmp_path / "t")
    path = tmp_path / "t" / "card.json"
    card = json.loads(path.read_text())
    del card["taps"]
    path.write_text(json.dumps({**card, "card_version": 1, "tap": tap}))
    assert ka.Teacher.load(tmp_path / "t").taps == taps


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"card_version": 1}, "damaged at 'tap'"),
        ({"card_version": 1, "tap": "top"}, "damaged at 'tap'"),
        ({"taps": {"a/b": {"layer": "top", "tokens": "auto"}}}, "damaged at 'taps'.*'a/b'"),
    ],
    ids=["no tap", "a bare name", "a slash"],
)
def test_damaged_taps_of_a_card_are_refused(network, changes, match, tmp_path):
    teacher_of(network, tap="top").save(tmp_path / "t")
    path = tmp_path / "t" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=match):
        ka.Teacher.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("tap", "taps", "error", "match"),
    [
        ("top", {"mid": "mid"}, ValueError, "either one tap or several"),
        (None, ["mid"], TypeError, "needs its taps by name"),
        (None, {"a/b": "mid"}, ValueError, "Received: 'a/b'"),
        (None, {"": "mid"}, ValueError, "cannot stand in the history. Received: ''"),
        (None, {"mid": 3}, TypeError, "not a layer. Received: 3 for 'mid'"),
    ],
    ids=["both", "a list", "slash", "empty", "number"],
)
def test_taps_given_badly_are_refused(tap, taps, error, match):
    with pytest.raises(error, match=match):
        as_taps(tap, taps, "Teacher 'x'")


def test_student_has_taps_of_the_same_names(network):
    teacher = teacher_of(network, taps={"mid": "mid", "top": "top"})
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", name="one")(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="two")(x)
    student = ka.build_student(keras.Model(inputs, x, name="body"), [teacher])
    model = ka.Amalgamator(
        student, [teacher], student_taps={"mid": "body/one", "top": "two"}, terms=[ka.Hints()]
    )
    features = model.signals(IMAGES)[0].features
    assert {tap: tuple(one.shape) for tap, one in features.items()} == {
        "mid": (3, 6, 6, 5),
        "top": (3, 3, 3, 6),
    }
