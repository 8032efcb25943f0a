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
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    return ka.Teacher(
        keras.Model(inputs, x), name, ["one", "other"], tap=tap,
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


@pytest.mark.parametrize("name", [name for name in TRAINING_METHODS if name != "choose"])
def test_each_name_is_one_method_of_the_runs_epochs_and_steps(photos, name):
    recipe = recipe_of(photos, name, steps=25, seed=3)
    (method,) = recipe.methods
    (stage,) = method.stages
    assert (method.name, method.seed, stage.epochs, stage.steps) == (name, 3, 10, 25)
    assert recipe.candidates == [] and "kept_aside" not in recipe.streams


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
    said = f"The method '{name}' .*Leave `{argument}` out, or choose another `method`."
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
