"""What every term owes: it learns, it is saved, it sees real signals first, it can be compiled."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals

TERMS = {
    "soft_targets": lambda: ka.SoftTargets(temperature=2.0),
    "standardized": lambda: ka.SoftTargets(standardize=True, temperature=2.0),
    "fitted": lambda: ka.SoftTargets(fit_temperatures=True),
    "relational": lambda: ka.RelationalTargets(temperature=2.0),
    "variant_a": lambda: ka.CommonFeatures(units=4, weight=1.0),
    "variant_b": lambda: ka.CommonFeatures(units=4, weight=1.0, variant="B"),
    "pooled": lambda: ka.CommonFeatures(units=4, weight=1.0, variant="B", pooled=True),
    "median": lambda: ka.CommonFeatures(units=4, weight=1.0, bandwidths="median"),
    "unbiased": lambda: ka.CommonFeatures(
        units=4, weight=1.0, bandwidths="median", estimator="unbiased", taps="top"
    ),
    "subspace": lambda: ka.CommonFeatures(units=4, weight=1.0, subspace=3),
    "hints": lambda: ka.Hints(),
    "logits": lambda: ka.LogitRegression(),
    "codes": lambda: ka.LayerwiseCodes(),
    "orthogonal": lambda: ka.OrthogonalProjection(),
    "rebuilt": lambda: ka.RebuiltFeatures(),
    # Dropping draws other numbers in a compiled step.
    "standardized_heads": lambda: ka.StandardizedHeads(dropping=0.0),
}
ADAPTING = ("fitted", "median", "unbiased", "subspace", "rebuilt", "standardized_heads")


@pytest.fixture(params=TERMS)
def name(request):
    return request.param


def images_and_sources(make, count=48):
    return {"image": make.images(count), "source": np.arange(count, dtype="int32") % 2}


def terms_of(name):
    """The term, beside soft targets where it leaves the heads without a gradient."""
    term = TERMS[name]()
    alone = isinstance(term, (ka.SoftTargets, ka.RebuiltFeatures))
    return [term] if alone else [term, ka.SoftTargets(name="soft")]


def teachers_of(name, fake):
    return fake.one_tap_teachers() if name == "rebuilt" else fake.teachers()


def losses_of(model, images):
    student, teachers = model.signals(images.astype("float32"))
    return {key: float(v) for key, v in model.term_losses(student, teachers, images).items()}


def perfect_loss(model, images):
    """The term's loss of a student that answers as the teachers do: their entropy, mostly."""
    _, teachers = model.signals(images.astype("float32"))
    divisors = getattr(model.terms[0], "_divisors", np.ones(2))
    answers = {
        name: one.answers[name] / divisors[place]
        for place, (name, one) in enumerate(teachers.items())
    }
    losses = model.term_losses(Signals(answers), teachers, images)
    return float(losses[model.terms[0].name])


@pytest.mark.slow
@pytest.mark.matrix(slow=6)
def test_fit_lowers_the_term_for_every_teacher(name, fake, make):
    model = fake.amalgamator(terms_of(name), run_eagerly=False)
    images = make.images(48)
    model.adapt(images)
    before = losses_of(model, images)
    model.fit(images, batch_size=16, epochs=60, verbose=0)
    after = losses_of(model, images)
    term = model.terms[0]
    least = perfect_loss(model, images) if isinstance(term, ka.SoftTargets) else 0.0
    assert after[term.name] - least < 0.8 * (before[term.name] - least)
    if not isinstance(term, ka.SoftTargets):  # Whose teachers are owed an entropy each.
        parts = [key for key in before if key.startswith(f"{term.name}/")]
        deepest = [key for key in parts if not any(one.startswith(f"{key}/") for one in parts)]
        risen = [key for key in deepest if after[key] >= before[key]]
        assert len(deepest) == 2 * len(term.components) and not risen


def test_settings_survive_serialization(name):
    term = TERMS[name]()
    config = keras.saving.serialize_keras_object(term)
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config
    assert again.get_config() == term.get_config()


@pytest.mark.matrix(keep=4)
def test_saved_term_gives_the_same_losses_and_is_not_adapted_again(name, fake, make, tmp_path):
    model = fake.amalgamator(terms_of(name))
    images = make.images(24)
    model.fit(images, batch_size=8, epochs=1, verbose=0)
    model.save(tmp_path / "training.keras")
    again = ka.Amalgamator.load(tmp_path / "training.keras", teachers_of(name, fake))
    assert again.terms[0].is_adapted
    again.adapt(255 - images)  # Other images, which must leave no trace.
    assert losses_of(again, images) == pytest.approx(losses_of(model, images), rel=1e-5)


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize("name", ADAPTING)
def test_step_before_the_term_has_seen_signals_is_refused(name, fake, make):
    model = fake.amalgamator(terms_of(name))
    for step in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(
            RuntimeError, match=r"\['\w+'\], which have not. Call amalgamator.adapt"
        ):
            step(make.images(8))
    model.adapt(make.images(24))
    assert np.isfinite(model.train_on_batch(make.images(8))).all()


@pytest.mark.matrix(keep=1)
@pytest.mark.parametrize("name", ADAPTING)
def test_saved_term_is_refused_for_other_teachers(name, fake, make, tmp_path):
    model = fake.amalgamator(terms_of(name))
    model.adapt(make.images(24))
    model.save(tmp_path / "training.keras")
    others = teachers_of(name, fake)
    kernel = others[0].model.layers[-1].kernel
    kernel.assign(kernel + 0.1)
    with pytest.raises(ValueError, match="another teacher 'digits'"):
        ka.Amalgamator.load(tmp_path / "training.keras", others)


@pytest.mark.slow
@pytest.mark.matrix(slow=3)
def test_compiled_and_uncompiled_steps_agree(name, fake, make):
    images = make.images(16)
    histories = []
    for jit in (False, True):
        model = fake.amalgamator(terms_of(name))
        model.compile(optimizer=keras.optimizers.SGD(0.001), jit_compile=jit)
        histories.append(model.fit(images, batch_size=16, epochs=2, verbose=0).history)
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=5e-3, abs=1e-5)


@pytest.mark.slow
@pytest.mark.matrix(slow=5)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_to_finite_weights(name, policy, fake, make):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = fake.amalgamator(terms_of(name))
        model.run_eagerly = False
        history = model.fit(make.images(32), batch_size=8, epochs=6, verbose=0).history
    finally:
        keras.config.set_dtype_policy(before)
    assert history["loss"][-1] < history["loss"][0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.matrix(keep=8)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extreme_signals_give_finite_losses_and_gradients(name, dtype, fake, make):
    """Features and logits of ten thousand, exact zeros, and one batch of equal images."""
    model = fake.amalgamator(terms_of(name))
    model.adapt(make.images(24))
    term = model.terms[0]
    student, teachers = model.signals(make.images(6).astype("float32"))
    for scale in (1e4, 0.0):

        def scaled(values, scale=scale):
            return {
                key: tf.cast(tf.clip_by_value(scale * value, -1e4, 1e4), dtype)
                for key, value in values.items()
            }

        extreme = {
            n: Signals(scaled(one.answers), scaled(one.features)) for n, one in teachers.items()
        }
        answers, features = scaled(student.answers), scaled(student.features)
        watched = [*answers.values(), *features.values()]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            losses = term(Signals(answers, features), extreme, Batch(None), training=True)
            total = sum(tf.reduce_mean(one) for parts in losses.values() for one in parts.values())
        assert np.isfinite(float(total))
        for gradient in tape.gradient(total, watched):
            assert gradient is None or np.isfinite(np.asarray(gradient, "float32")).all()


@pytest.mark.matrix(keep=1)
def test_term_given_to_two_amalgamators_is_refused(name, fake):
    terms = terms_of(name)
    fake.amalgamator(terms)
    with pytest.raises(ValueError, match="A term belongs to one amalgamator"):
        fake.amalgamator(terms)


def test_adaptation_runs_once_per_training_on_what_fit_is_given(fake, make):
    seen = []

    class Looking(ka.AmalgamationTerm):
        adaptation_images = 20

        @property
        def components(self):
            return ("zero",)

        def connect(self, student, teachers):
            pass

        def adapt(self, batches):
            seen.append([batch for _, _, batch in batches])

        def call(self, student, teachers, batch):
            return {name: {"zero": 0.0 * student.answers[name][:, 0]} for name in teachers}

    model = fake.amalgamator([Looking(), ka.SoftTargets()])
    data = tf.data.Dataset.from_tensor_slices(images_and_sources(make)).batch(8)
    model.fit(data, epochs=1, verbose=0)
    model.fit(data, epochs=1, verbose=0)
    ((first, *others),) = seen
    assert len(others) == 2  # 3 batches of 8 are the first to reach 20 images.
    np.testing.assert_array_equal(first.source, [0, 1] * 4)
    assert first.images.shape == (8, 12, 12, 1)
    # Of the class, not counted through the process, and all taps unless it tells which.
    assert model.terms[0].name == Looking().name == "looking"
    assert model.terms[0].reads == ("mid", "top")


def test_adaptation_to_collections_one_after_the_other_sees_all_of_them(fake, make):
    """The first images alone would be the first teacher's, and speak for both."""
    images = make.images(96)
    data = {"image": images, "source": np.repeat(np.arange(2, dtype="int32"), 48)}
    model = fake.amalgamator([ka.SoftTargets(fit_temperatures=True)])
    seen = []
    observe = model._observe
    model._observe = lambda batch: seen.append(np.asarray(batch.source)) or observe(batch)
    term = model.terms[0]
    term.adaptation_images = 24
    model.adapt(tf.data.Dataset.from_tensor_slices(data).batch(8))
    assert sorted(np.concatenate(seen).tolist()) == [0] * 16 + [1] * 8
    mixed = {name: values[np.arange(96).reshape(2, 48).T.ravel()] for name, values in data.items()}
    model = fake.amalgamator([ka.SoftTargets(fit_temperatures=True)])
    model.terms[0].adaptation_images = 24
    seen.clear()
    observe = model._observe
    model._observe = lambda batch: seen.append(np.asarray(batch.source)) or observe(batch)
    model.adapt(tf.data.Dataset.from_tensor_slices(mixed).batch(8))
    assert np.concatenate(seen).tolist() == [0, 1] * 12, "Mixed already, the first ones will do."


@pytest.mark.parametrize("unknown", ["filtered", "repeated"])
def test_adaptation_sees_all_of_a_data_set_without_a_known_end(fake, make, unknown):
    data = {"image": make.images(96), "source": np.repeat(np.arange(2, dtype="int32"), 48)}
    batches = tf.data.Dataset.from_tensor_slices(data).batch(8)
    batches = batches.repeat() if unknown == "repeated" else batches.filter(lambda batch: True)
    model = fake.amalgamator([ka.SoftTargets(fit_temperatures=True)])
    seen = []
    observe = model._observe
    model._observe = lambda batch: seen.append(np.asarray(batch.source)) or observe(batch)
    model.terms[0].adaptation_images = 24
    model.adapt(batches)
    assert set(np.concatenate(seen).tolist()) == {0, 1}


@pytest.mark.parametrize(
    "losses",
    [
        lambda one: {"shapes": {"zero": one}},
        lambda one: {"shapes": {"zero": one}, "digits": {"other": one}},
        lambda one: {"shapes": {"zero": one}, "digits": {"zero": one, "other": one}},
        lambda one: {"shapes": one, "digits": one},
        lambda one: one,
        lambda one: None,
        lambda one: {},
    ],
    ids=["teacher", "component", "more", "flat", "scalar", "none", "empty"],
)
def test_losses_that_are_not_those_of_the_components_are_refused(fake, make, losses):
    class Odd(ka.AmalgamationTerm):
        @property
        def components(self):
            return ("zero",)

        def connect(self, student, teachers):
            pass

        def call(self, student, teachers, batch):
            return losses(0.0 * student.answers["digits"][:, 0])

    model = fake.amalgamator([Odd(), ka.SoftTargets()])
    with pytest.raises(ValueError, match="`Odd.call` must return a loss for every teacher"):
        model.fit(make.images(8), verbose=0)


@pytest.mark.parametrize("name", ["rebuilt", "standardized_heads", "subspace"])
def test_features_that_do_not_vary_are_refused_by_terms_that_scale_them(name, fake, make):
    teachers = teachers_of(name, fake)
    for layer in ("mid", "top"):  # Dead: features of zero, whatever the image.
        kernel, bias = teachers[0].model.get_layer(layer).get_weights()
        teachers[0].model.get_layer(layer).set_weights([0 * kernel, 0 * bias])
    model = fake.amalgamator(terms_of(name), teachers)
    with pytest.raises(ValueError, match="must vary, as they are divided by their deviation"):
        model.adapt(make.images(24))
