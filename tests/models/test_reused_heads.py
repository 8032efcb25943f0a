"""Students whose heads are the teachers' own."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import export
from keras_amalgam.models.signals import Signals

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 1), dtype=np.uint8)


def backbone(width=5, strides=2):
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(width, 3, strides=strides, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, x, name="backbone")


@pytest.fixture
def teachers(make):
    """Maps of 6 by 6 by 8 and of 8 by 8 by 5."""
    return [
        make.teacher("digits", ["0", "1", "2"], width=8),
        make.teacher("shapes", ["circle", "square"], size=(16, 16), width=5, seed=2),
    ]


@pytest.fixture
def student(teachers):
    keras.utils.set_random_seed(3)
    return ka.build_student(backbone(), teachers, heads="reused")


def amalgamator(student, teachers, run_eagerly=True):
    model = ka.Amalgamator(
        student, teachers, student_taps=ka.taps.rebuilt(teachers), terms=[ka.RebuiltFeatures()]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=run_eagerly)
    return model


def behind(student, name):
    """From rebuilt features to the student's answer."""
    features = student.get_layer(f"{name}_rebuilt").output
    return keras.Model(features, student.output[name])


def test_teachers_own_features_give_the_teachers_own_answers(student, teachers):
    for teacher in teachers:
        signals = Signals.of(teacher.signals(1)(IMAGES.astype("float32")))
        answer = behind(student, teacher.name)(signals.features["features"])
        np.testing.assert_allclose(answer, signals.answers[teacher.name], atol=1e-5)
        other = behind(student, teacher.name)(0.9 * signals.features["features"])
        assert np.abs(other - signals.answers[teacher.name]).max() > 1e-3


def test_head_of_a_teacher_with_a_softmax_gives_logits(make):
    plain = make.teacher("digits", ["0", "1", "2"])
    network = keras.Model(plain.model.input, keras.layers.Softmax()(plain.model.output))
    teacher = ka.Teacher(
        network, "digits", ["0", "1", "2"], tap="digits_map", preprocessing=plain.preprocessing
    )
    student = ka.build_student(backbone(), [teacher], heads="reused")
    signals = Signals.of(teacher.signals(1)(IMAGES.astype("float32")))
    answer = behind(student, "digits")(signals.features["features"])
    np.testing.assert_allclose(answer, signals.answers["digits"], atol=1e-5)
    assert np.abs(np.asarray(answer).sum(-1) - 1).min() > 1e-3


@pytest.mark.parametrize("strides", [1, 2, 3], ids=["larger", "other", "smaller"])
def test_rebuilt_features_have_each_teachers_size(teachers, strides):
    student = ka.build_student(backbone(strides=strides), teachers, heads="reused")
    signals = amalgamator(student, teachers).signals(IMAGES.astype("float32"))
    for teacher in teachers:
        theirs = signals[1][teacher.name].features["features"]
        assert signals[0].features[teacher.name].shape == theirs.shape


def test_shared_layers_have_the_backbones_channels_at_most_half_the_widest_teachers(teachers):
    for width, units, expected in ((3, None, 3), (16, None, 4), (3, 7, 7)):
        student = ka.build_student(backbone(width), teachers, heads="reused", units=units)
        assert student.get_layer("common_2").filters == expected


def test_training_brings_the_student_to_the_teachers_answers_and_leaves_their_heads(make):
    teachers = [make.teacher("digits", ["0", "1", "2"], width=8)]
    images = make.images(64)
    student = ka.build_student(backbone(8), teachers, heads="reused", units=8)
    model = amalgamator(student, teachers, run_eagerly=False)
    head = [weight.copy() for weight in student.get_layer("digits").get_weights()]
    said = teachers[0].answers(1).predict(images, verbose=0)["digits"]

    def error():
        return np.abs(student.predict(images, verbose=0)["digits"] - said).mean()

    before = error()
    history = model.fit(images, batch_size=16, epochs=40, verbose=0).history
    assert history["rebuilt_features"][-1] < 0.3 * history["rebuilt_features"][0]
    assert error() < 0.5 * before
    for mine, its in zip(head, student.get_layer("digits").get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_teachers_networks_stay_as_they_are(teachers):
    flags = [layer.trainable for one in teachers for layer in one.model._flatten_layers()]
    student = ka.build_student(backbone(), teachers, heads="reused")
    assert flags == [layer.trainable for one in teachers for layer in one.model._flatten_layers()]
    owned = {id(weight) for teacher in teachers for weight in teacher.model.weights}
    assert not owned & {id(weight) for weight in student.weights}
    trained = {weight.path for weight in student.trainable_weights}
    assert not any(path.startswith(("digits/", "shapes/")) for path in trained)


wrapped = keras.layers.TimeDistributed


def noisy(layer):
    """A teacher with a layer between its tap and its pooling."""
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(4, 3, name="map")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(layer(x))
    network = keras.Model(inputs, keras.layers.Dense(3)(x))
    return ka.Teacher(
        network, "digits", list("abc"), tap="map", preprocessing=ka.Preprocessing((12, 12))
    )


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Dropout(0.9),
        lambda: keras.layers.SpatialDropout2D(0.9),
        lambda: keras.layers.GaussianNoise(0.9),
        lambda: wrapped(keras.layers.Dropout(0.9)),
        lambda: wrapped(wrapped(keras.layers.Dropout(0.9))),
    ],
    ids=["dropout", "spatial_dropout", "noise", "wrapped", "wrapped_twice"],
)
def test_noise_of_a_reused_head_stays_off_in_training(layer):
    student = ka.build_student(backbone(), [noisy(layer())], heads="reused")
    part = behind(student, "digits")
    features = np.random.default_rng(0).normal(size=(4, 10, 10, 4)).astype("float32")
    np.testing.assert_array_equal(part(features, training=True), part(features, training=False))


@keras.saving.register_keras_serializable("tests")
class Attending(keras.layers.Layer):
    """Attention among the places of a map, with layers inside."""

    def build(self, shape):
        self.attention = keras.layers.MultiHeadAttention(1, 4)
        self.attention.build((None, None, shape[-1]), (None, None, shape[-1]))
        super().build(shape)

    def call(self, x):
        tokens = keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        return keras.ops.reshape(self.attention(tokens, tokens), (-1, *x.shape[1:]))


def test_loaded_training_leaves_a_reused_head_with_attention_as_it_is(tmp_path):
    teacher = noisy(Attending())
    model = amalgamator(ka.build_student(backbone(), [teacher], heads="reused"), [teacher])
    model.fit(IMAGES, epochs=2, verbose=0)
    model.save(tmp_path / "half.keras")
    again = ka.Amalgamator.load(tmp_path / "half.keras", [teacher])
    assert len(again.trainable_weights) == len(model.trainable_weights)
    assert int(again.optimizer.iterations) == 2
    again.fit(IMAGES, verbose=0)
    for mine, its in zip(
        again.student.get_layer("digits").get_weights(),
        model.student.get_layer("digits").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.matrix(keep=1)
def test_resized_maps_train_in_half_precision_under_xla(make, policy):
    """Of 6 by 6 from 4 by 4: interpolated, not averaged."""
    teacher = make.teacher("digits", ["0", "1", "2"], width=4)
    keras.config.set_dtype_policy(policy)
    try:
        student = ka.build_student(backbone(strides=3), [teacher], heads="reused")
        model = amalgamator(student, [teacher])
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(optimizer=keras.optimizers.SGD(0.01), jit_compile=True)
    assert np.isfinite(model.fit(IMAGES, batch_size=3, verbose=0).history["loss"]).all()


@keras.saving.register_keras_serializable("tests")
class Drawing(keras.layers.Layer):
    """Noise that no setting tells of."""

    def call(self, x, training=None):
        return x + keras.random.normal(keras.ops.shape(x)) if training else x


def test_head_that_answers_otherwise_in_training_is_refused():
    with pytest.raises(ValueError, match="'digits' cannot be reused, .* layers of .*'Drawing'"):
        ka.build_student(backbone(), [noisy(Drawing())], heads="reused")


def test_error_is_divided_by_the_variance_of_the_teachers_features(student, teachers):
    model = amalgamator(student, teachers)
    images = IMAGES.astype("float32")
    model.adapt(IMAGES)
    mine, theirs = model.signals(images)
    losses = model.terms[0](mine, theirs, ka.Batch(images))
    for teacher in teachers:
        target = np.asarray(theirs[teacher.name].features["features"], "float64")
        error = (np.asarray(mine.features[teacher.name]) - target) ** 2
        variance = target.reshape(-1, target.shape[-1]).var(0, ddof=1).mean()
        expected = error.mean((1, 2, 3)) / variance
        np.testing.assert_allclose(losses[teacher.name]["error"], expected, rtol=1e-4)


@pytest.mark.slow
def test_saved_student_loads_with_keras_alone(student, tmp_path):
    student.save(tmp_path / "student.keras")
    np.savez(tmp_path / "images.npz", images=IMAGES)
    code = (
        "import sys, keras, numpy as np;"
        f"model = keras.saving.load_model(r'{tmp_path / 'student.keras'}');"
        f"images = np.load(r'{tmp_path / 'images.npz'}')['images'];"
        f"np.savez(r'{tmp_path / 'said.npz'}', **model.predict(images, verbose=0));"
        "assert 'keras_amalgam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    said = np.load(tmp_path / "said.npz")
    for name, logits in student.predict(IMAGES, verbose=0).items():
        np.testing.assert_allclose(said[name], logits, atol=1e-5)


def to_tflite(precision, **settings):
    calibration = None if precision in ("float32", "float16", "dynamic") else IMAGES
    return lambda model, path: export.to_tflite(
        model, path / "s.tflite", precision, calibration, (12, 12), images=IMAGES,
        tolerance=float("inf"), min_agreement=0.0, **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda model, path: export.to_keras(model, path / "s.keras"), 1e-4),
        (lambda model, path: export.to_saved_model(model, path / "saved"), 1e-4),
        (lambda model, path: export.to_onnx(model, path / "s.onnx", images=IMAGES), 1e-4),
        (to_tflite("float32"), 1e-4),
        (to_tflite("int8"), 0.5),
        pytest.param(to_tflite("float16"), 0.01, marks=pytest.mark.slow),
        pytest.param(to_tflite("dynamic"), 0.5, marks=pytest.mark.slow),
        pytest.param(to_tflite("int16"), 0.05, marks=pytest.mark.slow),
        pytest.param(
            lambda model, path: export.to_serving(model, path / "bundle", images=IMAGES),
            1e-4,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["keras", "saved", "onnx", "tflite", "int8", "float16", "dynamic", "int16", "serving"],
)
def test_every_exporter_takes_the_student(student, write, error, tmp_path):
    artifact = write(student, tmp_path)
    assert artifact.parity["max_abs_error"] < error


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda make: make.teacher("digits", ["0", "1"]), None),
        (lambda make: tapless(make), "Received: a teacher with no tap"),
        (lambda make: skipping(), "'merged' behind the tap, which also reads 'early'"),
    ],
    ids=["right", "no tap", "skip around"],
)
def test_heads_that_cannot_be_reused_are_refused_with_the_reason(make, change, match):
    teacher = change(make)
    if match is None:
        ka.build_student(backbone(), [teacher], heads="reused")
        return
    with pytest.raises(ValueError, match=match):
        ka.build_student(backbone(), [teacher], heads="reused")


def tapless(make):
    teacher = make.teacher("digits", ["0", "1"])
    return ka.Teacher(teacher.model, "digits", ["0", "1"], preprocessing=teacher.preprocessing)


def skipping():
    inputs = keras.Input((12, 12, 1))
    early = keras.layers.Conv2D(4, 3, padding="same", name="early")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", name="map")(early)
    x = keras.layers.Add(name="merged")([x, early])
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    return ka.Teacher(
        network, "digits", ["0", "1"], tap="map", preprocessing=ka.Preprocessing((12, 12))
    )


def test_map_for_a_student_that_ends_in_a_vector_is_refused(teachers):
    inputs = keras.Input((12, 12, 1))
    vector = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3)(inputs))
    with pytest.raises(ValueError, match="'digits' reads a map, and the student's backbone ends"):
        ka.build_student(keras.Model(inputs, vector, name="body"), teachers, heads="reused")


def test_vectors_are_rebuilt_for_heads_on_vectors(make):
    plain = make.teacher("digits", ["0", "1", "2"], width=8)
    teacher = ka.Teacher(
        plain.model, "digits", ["0", "1", "2"], tap="digits_pooled",
        preprocessing=plain.preprocessing,
    )  # fmt: skip
    student = ka.build_student(backbone(), [teacher], heads="reused")
    model = amalgamator(student, [teacher])
    history = model.fit(make.images(32), batch_size=8, epochs=6, verbose=0).history
    assert history["rebuilt_features"][-1] < 0.9 * history["rebuilt_features"][0]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"heads": "own"}, "must be 'new' or 'reused'"),
        ({"units": 4}, "belongs to reused heads"),
        ({"heads": "reused", "dropout": 0.2}, "without dropout"),
        ({"heads": "reused", "units": 0}, "units=0"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(teachers, settings, match):
    with pytest.raises(ValueError, match=match):
        ka.build_student(backbone(), teachers, **settings)


def test_term_for_a_student_with_new_heads_is_refused(teachers, make):
    with pytest.raises(ValueError, match="Use build_student.*heads='reused'"):
        ka.Amalgamator(
            make.student(teachers), teachers, student_tap="student_map",
            terms=[ka.RebuiltFeatures()],
        )  # fmt: skip


def test_rebuilt_features_of_another_shape_are_refused(teachers, student):
    taps = ka.taps.rebuilt(reversed(teachers))
    crossed = dict(zip(taps, reversed(taps.values()), strict=True))
    with pytest.raises(ValueError, match=r"Received: \(8, 8, 5\) at 'shapes_rebuilt'"):
        ka.Amalgamator(student, teachers, student_taps=crossed, terms=[ka.RebuiltFeatures()])
