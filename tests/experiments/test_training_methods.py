"""The methods of a run with teachers of one's own: what each makes, and what is kept aside."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.choices import TRAINING_METHODS
from keras_amalgam.experiments import own_teachers, training_methods
from keras_amalgam.experiments.amalgamate import DEFAULTS

SETTINGS = {**DEFAULTS, "size": (16, 16), "channels": 3, "epochs": 10, "batch_size": 4}


def teacher(name, tap="features"):
    keras.utils.set_random_seed(len(name))
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="features")(inputs)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D(name="pooled")(x))
    taps = {"taps": tap} if isinstance(tap, dict) else {"tap": tap}
    return ka.Teacher(
        keras.Model(inputs, x), name, ["one", "other"], **taps,
        preprocessing=ka.Preprocessing((16, 16)),
    )  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    """Images of one grey each, by which they are known: 40 of cats, 20 of dogs."""
    for name, count, first in (("cats", 40, 0), ("dogs", 20, 100)):
        (tmp_path / name).mkdir()
        for number in range(count):
            image = np.full((16, 16, 3), first + number, np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    return tmp_path


def recipe_of(photos, method, tap="features", **choices):
    teachers = [teacher("cats", tap), teacher("dogs", tap)]
    settings = {**SETTINGS, "method": method, "say": lambda text: None, **choices}
    return own_teachers.recipe(teachers, photos, {}, **settings)


def greys(stream):
    """The images of one pass by their grey, with their sources."""
    seen = [
        (int(image.max()), int(source))
        for batch in stream.as_numpy_iterator()
        for image, source in zip(batch["image"], batch["source"], strict=True)
    ]
    return set(seen), len(seen)


@pytest.mark.matrix(keep=3)
@pytest.mark.parametrize("name", [name for name in TRAINING_METHODS if name != "choose"])
def test_each_name_is_one_method_of_the_runs_epochs_and_steps(photos, name):
    recipe = recipe_of(photos, name, epochs=None, steps=25, seed=3)
    (method,) = recipe.methods
    (stage,) = method.stages
    # An epoch has 15 batches.
    assert (method.name, method.seed, stage.epochs, stage.steps) == (name, 3, 2, 25)
    assert recipe.settings["steps"] == 25 and "epochs" not in recipe.settings
    assert recipe.candidates == [] and "kept_aside" not in recipe.streams
    (stage,) = recipe_of(photos, name, epochs=None).methods[0].stages
    assert (stage.epochs, stage.steps) == (30, None)


def test_teachers_are_asked_about_the_others_images_too_where_sources_are_known(photos):
    def soft(**choices):
        (stage,) = recipe_of(photos, "amalgamation", **choices).methods[0].stages
        terms = [one for one in stage.terms() if isinstance(one, ka.SoftTargets)]
        return [(one.name, one.ownership, one.temperature) for one in terms]

    by_source = ("soft_targets", "source", 3.0)
    assert soft(temperature=3.0) == [by_source, ("task_targets", "per_task", 3.0)]
    assert soft(ownership="per_task") == [("soft_targets", "per_task", 2.0)]
    assert soft(ownership="joint") == [("soft_targets", "joint", 2.0)]


def test_published_method_has_its_own_learning_rate(photos):
    def rate(name, **choices):
        optimizer = recipe_of(photos, name, **choices).methods[0].stages[0].optimizer(1000)
        return max(float(optimizer._learning_rate(step)) for step in range(101))

    assert rate("paper") == pytest.approx(1e-4)
    assert rate("standardized") == rate("amalgamation") == pytest.approx(1e-3)
    assert rate("paper", learning_rate=0.01) == pytest.approx(0.01)


def test_epochs_and_steps_are_not_both_taken(photos):
    with pytest.raises(ValueError, match="`epochs=10` and `steps=25`. Leave one out."):
        recipe_of(photos, "amalgamation", steps=25)


def test_reused_heads_brings_a_student_that_answers_by_the_teachers_heads(photos):
    (method,) = recipe_of(photos, "reused_heads").methods
    student = method.stages[0].student()
    assert student.get_layer("cats_rebuilt").filters == 6
    assert student.input_shape == (None, None, None, 3)


def test_choosing_keeps_a_tenth_of_each_collection_aside_and_never_trains_on_it(photos):
    recipe = recipe_of(photos, "choose")
    assert [one.name for one in recipe.candidates] == [*training_methods.CANDIDATES]
    assert recipe.methods == []
    aside, count = greys(recipe.streams["kept_aside"])
    assert count == 6 and {source for _, source in aside} == {0, 1}
    assert sum(source == 0 for _, source in aside) == 4
    trained = {grey for grey, _ in greys(recipe.streams["train"])[0]}
    assert not trained & {grey for grey, _ in aside}
    # The same images in another process, or the choice could not be gone on with.
    assert greys(recipe_of(photos, "choose").streams["kept_aside"])[0] == aside


def test_without_collections_the_images_kept_aside_have_no_source(photos):
    for number, path in enumerate([*photos.glob("*/*.png")]):
        path.rename(photos / f"{number}.png")
    for name in ("cats", "dogs"):
        (photos / name).rmdir()
    (first, *_) = recipe_of(photos, "choose").streams["kept_aside"]
    assert first.shape == (4, 16, 16, 3)


def test_matching_mixes_and_zooms_its_images():
    plain = data.Augmentation(translation=1, flip=True)
    mixed = training_methods.augmented("matching", plain)
    assert (mixed.mixup, mixed.zoom, mixed.translation, mixed.flip) == (1.0, 0.25, 1, True)
    assert training_methods.augmented("standardized", plain) == plain


@pytest.mark.parametrize("name", ["standardized", "reused_heads", "paper"])
def test_method_of_features_refuses_teachers_without_a_tap(photos, name):
    with pytest.raises(ValueError, match=r"imitates features. Received: .*\['cats', 'dogs'\]"):
        recipe_of(photos, name, tap=None)


def test_candidate_that_cannot_serve_is_left_out_and_named(photos, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("The heads hang on more than their taps.")

    monkeypatch.setattr(training_methods.methods, "reused_heads", refuse)
    recipe = recipe_of(photos, "choose")
    assert [one.name for one in recipe.candidates] == ["amalgamation", "standardized"]
    assert "Not tried, reused_heads: The heads hang on more than their taps." in recipe.notes


def test_candidate_whose_terms_do_not_fit_the_student_is_left_out_before_any_is_tried(photos):
    """Of vectors the compact student has none, which only the terms of `standardized` mind."""
    teachers = [teacher("cats", "pooled"), teacher("dogs", "pooled")]
    settings = {**SETTINGS, "method": "choose", "common_features": 0.0, "say": lambda text: None}
    recipe = own_teachers.recipe(teachers, photos, {}, **settings)
    assert [one.name for one in recipe.candidates] == ["amalgamation", "reused_heads"]
    (note,) = [note for note in recipe.notes if note.startswith("Not tried, standardized:")]
    assert "Both must be maps or both vectors" in note


def test_taps_of_other_names_are_refused_by_methods_that_compare_there_alone(photos):
    teachers = [teacher("cats", {"mid": "features"}), teacher("dogs", {"top": "features"})]

    def recipe(method, **choices):
        settings = {**SETTINGS, "method": method, "say": lambda text: None, **choices}
        return own_teachers.recipe(teachers, photos, {}, **settings)

    for method, advice in (("amalgamation", "`common_features=0`"), ("paper", "'matching'")):
        with pytest.raises(ValueError, match=f"where their taps have one name.*{advice}"):
            recipe(method)
    for method in ("matching", "reused_heads"):
        assert len(recipe(method).methods) == 1
    notes = recipe("amalgamation", common_features=0.0).notes
    assert not [note for note in notes if "common space" in note]
    chosen = recipe("choose")
    assert [one.name for one in chosen.candidates] == ["amalgamation", "reused_heads"]
    assert any("no tap of all teachers has one name" in note for note in chosen.notes)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("reused_heads", {"ownership": "source"}),
        ("paper", {"ownership": "source"}),
        ("reused_heads", {"temperature": 2.0}),
        ("paper", {"temperature": 2.0}),
        ("standardized", {"common_features": 0.1}),
        ("paper", {"common_features": 0.0}),
    ],
)
def test_argument_that_a_method_would_ignore_is_refused_before_anything_is_read(
    tmp_path, name, given
):
    (argument,) = given
    said = f"The method '{name}' .*Leave `{argument}` out, or choose a `method` of \\['amalga"
    with pytest.raises(ValueError, match=said):
        ka.amalgamate(["nowhere"], "nowhere", tmp_path / "out", method=name, **given)
    with pytest.raises(ValueError, match=said):
        recipe_of(tmp_path / "nowhere", name, **given)


def test_settings_tell_the_weight_of_the_common_space_where_there_is_one(photos):
    settings = {name: recipe_of(photos, name).settings for name in ("amalgamation", "paper")}
    assert settings["amalgamation"]["weight of the common space"] == 0.1
    assert "weight of the common space" not in settings["paper"]


def test_nothing_is_chosen_where_one_method_alone_serves_the_teachers(photos):
    with pytest.raises(ValueError, match="nothing to choose between.*standardized: The method"):
        recipe_of(photos, "choose", tap=None)
