"""The recipe behind `amalgamate`: what it reads, what it refuses, what it measures."""

import dataclasses
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import evaluation
from keras_amalgam.cli.main import main
from keras_amalgam.experiments import canvas_cost, first_look, own_teachers
from keras_amalgam.images.resizing import Resize, first_resize
from keras_amalgam.models import backbones
from keras_amalgam.models.taps import with_taps
from keras_amalgam.report import TaskResult
from keras_amalgam.training import state as states

# Not in alphabetical order, which is that of the folders.
VEHICLES = ("van", "bus", "sedan")
DEFAULTS = {
    "student": "compact",
    "size": (16, 16),
    "channels": 3,
    "epochs": 1,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "temperature": 2.0,
    "common_features": 0.1,
    "ownership": None,
    "flip": True,
    "say": lambda text: None,
}
# Named by Keras as their class, in lower case, and in a way of its own.
NETWORKS = ("MobileNetV3Small", "ResNet50V2", "NASNetMobile")


def channel_teacher(name, class_names, size=(16, 16), **preprocessing):
    """Right by construction: class 0 is the reddest image, 1 the greenest, 2 the bluest."""
    inputs = keras.Input((*size, 3))
    x = keras.layers.Conv2D(3, 1, use_bias=False, name="colours")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False, name="logits")(x))
    model.get_layer("colours").set_weights([np.eye(3, dtype="float32").reshape(1, 1, 3, 3)])
    model.get_layer("logits").set_weights([10 * np.eye(3, dtype="float32")])
    own = ka.Preprocessing(size=size, scale=1 / 255, **preprocessing)
    return ka.Teacher(model, name, class_names=class_names, tap="colours", preprocessing=own)


def write_images(folder, count, channel=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 100, (20, 20, 3))
        image[..., channel] += 100
        Image.fromarray(image.astype("uint8")).save(folder / f"{number}.png")


@pytest.fixture
def vehicles(tmp_path):
    """A teacher, images to learn from, and test images of which one in six lies wrong."""
    write_images(tmp_path / "photos" / "cars", 6)
    for channel, name in enumerate(VEHICLES):
        write_images(tmp_path / "test" / name, 2, channel)
    write_images(tmp_path / "test" / "van", 1, channel=1)
    return SimpleNamespace(
        teacher=channel_teacher("cars", VEHICLES),
        folder=tmp_path,
        images=tmp_path / "photos",
        test=tmp_path / "test",
    )


def notes_of(recipe):
    """Those about the images: all students here learn from scratch on few of them."""
    *notes, scratch = recipe.notes
    assert "photographs are few" in scratch
    return notes


def make_recipe(vehicles, tests=None, **changes):
    return own_teachers.recipe(
        [vehicles.teacher], vehicles.images, tests or {}, **{**DEFAULTS, **changes}
    )


@pytest.mark.slow
def test_test_folders_number_the_classes_as_the_teacher_does(vehicles):
    recipe = make_recipe(vehicles, {"cars": str(vehicles.test)})
    space = ka.LabelSpace({"cars": VEHICLES})
    predict = evaluation.teachers_predictor(recipe.teachers)
    said = evaluation.evaluate(predict, recipe.evaluation, space)
    assert said.task_accuracy == {"cars": pytest.approx(5 / 6)}


@pytest.mark.matrix
@pytest.mark.parametrize("change", ["another class", "a missing class"])
def test_test_folders_of_other_classes_are_refused(vehicles, change):
    if change == "another class":
        write_images(vehicles.test / "tram", 1)
    else:
        (vehicles.test / "bus").rename(vehicles.folder / "bus")
    with pytest.raises(ValueError, match=r"teacher 'cars': .*(tram|bus)"):
        make_recipe(vehicles, {"cars": str(vehicles.test)})


@pytest.mark.slow
@pytest.mark.parametrize("name", [backbones.COMPACT, *NETWORKS])
def test_student_tap_is_found_in_every_student_made(vehicles, name):
    recipe = make_recipe(vehicles, student=name, size=(96, 96))
    for _ in range(2):
        student = recipe.student()
        (tapped,) = with_taps(student, [recipe.student_tap["features"]]).output["taps"]
        assert len(tapped.shape) == 4


def test_images_in_no_collection_are_counted_and_named(vehicles):
    write_images(vehicles.images / "dogs" / "small", 3)
    write_images(vehicles.images, 1)
    recipe = make_recipe(vehicles)
    assert recipe.settings["images of cars"] == 6
    assert recipe.settings["images left out"] == 4
    (note,) = notes_of(recipe)
    assert f"4, in {vehicles.images} (1), {vehicles.images / 'dogs'} (3)." in note


@pytest.mark.slow
def test_a_note_of_left_out_images_stays_short(vehicles):
    for number in range(8):
        write_images(vehicles.images / f"class_{number}", 1)
    (note,) = notes_of(make_recipe(vehicles))
    assert note.endswith("class_4 (1) and 3 more folders.")


def test_all_images_are_used_without_collections(vehicles):
    write_images(vehicles.images / "dogs", 3)
    (vehicles.images / "cars").rename(vehicles.images / "street")
    recipe = make_recipe(vehicles)
    assert (recipe.settings["images"], recipe.settings["images left out"]) == (9, 0)
    assert not notes_of(recipe)


def test_what_is_passed_over_below_the_images_is_noted(vehicles):
    (vehicles.images / "README.md").write_text("Photos of vehicles.")
    write_images(vehicles.images / "cars" / ".thumbnails", 2)
    (note,) = notes_of(make_recipe(vehicles))
    assert note == f"Passed over in '{vehicles.images}': 1 .md, 1 hidden."


@pytest.mark.slow
@pytest.mark.parametrize("flip", [True, False])
def test_images_are_mirrored_only_if_told(vehicles, flip):
    """Every image is dark on the left, so a mirrored one is dark on the right."""
    image = np.zeros((16, 16, 3), "uint8")
    image[:, 8:] = 200
    for path in (vehicles.images / "cars").iterdir():
        Image.fromarray(image).save(path)
    recipe = make_recipe(vehicles, flip=flip)
    batches = [np.asarray(batch["image"]) for batch in recipe.streams["train"].repeat(8)]
    mirrored = [one[:, :5].mean() > one[:, -5:].mean() for one in np.concatenate(batches)]
    assert any(mirrored) is flip
    assert recipe.settings["mirrored images"] is flip


def write_photographs(folder, sizes):
    """Ones that are bright in a disc."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        y, x = np.mgrid[0:height, 0:width]
        disc = np.hypot(y - height / 2, x - width / 2) < 0.3 * min(height, width)
        pixels = np.where(disc[..., None], 250, 20).repeat(3, axis=-1).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cuts", "method"),
    [(True, "crop"), pytest.param(False, "resize", marks=pytest.mark.slow)],
)
def test_canvas_is_the_teachers_and_the_size_the_students(vehicles, cuts, method):
    settings = {"crop_fraction": 0.875, "crop_to_aspect_ratio": cuts}
    vehicles.teacher = channel_teacher("cars", VEHICLES, (28, 28), **settings)
    write_photographs(vehicles.images / "cars", [(40, 80), (90, 60), (50, 50), (40, 64)])
    recipe = make_recipe(vehicles, {"cars": str(vehicles.test)})
    assert recipe.settings["canvas"] == [32, 32, method]
    assert recipe.settings["student's size"] == [16, 16]
    for batches in (*recipe.streams.values(), recipe.evaluation["cars"]):
        batch = next(iter(batches))
        images = batch["image"] if isinstance(batch, dict) else batch[0]
        assert images.shape[1:] == (32, 32, 3)
    student = recipe.student()
    assert student.get_layer("compact").input_shape[1:] == (16, 16, 3)
    # A whole photograph is cut by the student itself if the canvas cut it, else squeezed.
    first_resizing, _ = first_resize(student)
    assert first_resizing == Resize((16, 16), covers=cuts)


@pytest.mark.slow
def test_augmentation_shifts_by_a_part_of_the_canvas(vehicles):
    """By a sixteenth of 64 pixels, so that the disc's edge moves by at most four."""
    vehicles.teacher = channel_teacher("cars", VEHICLES, (64, 64))
    write_photographs(vehicles.images / "cars", [(64, 64)] * 8)
    recipe = make_recipe(vehicles, flip=False)
    images = [batch["image"] for batch in recipe.streams["train"].repeat(6)]
    tops = {int(np.argmax((one[..., 0] > 200).any(axis=1))) for one in np.concatenate(images)}
    assert len(tops) > 4
    assert min(tops) >= 13 - 4 and max(tops) <= 13 + 4


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("canvas", "expected"), [((24, 24), [24, 24, "resize"]), ((24, 40, "crop"), [24, 40, "crop"])]
)
def test_a_chosen_canvas_is_taken_and_what_it_does_is_a_note(vehicles, canvas, expected):
    recipe = make_recipe(vehicles, canvas=canvas)
    assert recipe.settings["canvas"] == expected
    assert bool(notes_of(recipe)) is (expected[-1] == "crop")


def test_a_chosen_canvas_smaller_than_a_teacher_takes_is_refused(vehicles):
    with pytest.raises(ValueError, match="small: Teacher 'cars' resizes photographs to 16 × 16"):
        make_recipe(vehicles, canvas=(12, 12), size=(8, 8))


@pytest.mark.slow
def test_teacher_is_judged_by_photographs_at_their_own_size(vehicles):
    recipe = make_recipe(vehicles, {"cars": str(vehicles.test)})
    images, labels = next(iter(recipe.photographs["cars"]))
    assert (images.shape, labels.shape) == ((1, 20, 20, 3), (1,))
    assert canvas_cost.own_accuracies(recipe) == {"cars": pytest.approx(5 / 6)}


@pytest.mark.slow
def test_a_colour_teacher_is_judged_by_colours_though_the_canvas_is_grey(vehicles):
    recipe = make_recipe(vehicles, {"cars": str(vehicles.test)}, channels=1)
    space = ka.LabelSpace({"cars": VEHICLES})
    predict = evaluation.teachers_predictor(recipe.teachers)
    said = evaluation.evaluate(predict, recipe.evaluation, space)
    assert said.task_accuracy["cars"] < 0.5
    assert canvas_cost.own_accuracies(recipe) == {"cars": pytest.approx(5 / 6)}


def test_what_the_images_take_is_said_before_they_are_read(vehicles):
    said = []
    make_recipe(vehicles, say=said.append)
    assert said == ["6 images of 16 × 16 × 3, 4.61 kB decoded: kept in memory."]
    (vehicles.images / "cars" / "0.png").write_bytes(b"no image")
    said.clear()
    with pytest.raises(ValueError, match=r"0\.png"):
        make_recipe(vehicles, say=said.append)
    assert not said


@pytest.mark.parametrize(("loss", "is_noted"), [(0.75, True), (0.005, False), (0.0, False)])
def test_notes_say_what_the_canvas_costs_where_it_is_worth_a_sentence(loss, is_noted):
    cars = TaskResult(
        num_test_images=8,
        teacher_own_pipeline_accuracy=1.0,
        teacher_canvas_accuracy=1 - loss,
        student_accuracy=None,
        agreement=None,
    )
    on_canvas_alone = dataclasses.replace(cars, teacher_own_pipeline_accuracy=None)
    notes = canvas_cost.notes({"cars": cars, "birds": on_canvas_alone})
    assert cars.teacher_accuracy == 1.0 and on_canvas_alone.teacher_accuracy == 1 - loss
    assert [note[:44] for note in notes] == (
        ["The canvas costs teacher 'cars' 75.00 points"] if is_noted else []
    )


def test_run_goes_on_as_it_was_begun_whatever_memory_is_free(vehicles, monkeypatch):
    run = vehicles.folder / "run"
    assert own_teachers.begun_with(run) is None
    begun, said = make_recipe(vehicles), []
    monkeypatch.setattr(states, "_variables", lambda _: [])
    state = states.State(made_from={"images": dict(begun.made_from)})
    states.save(run / "training" / "main" / "states", state, None, 1)
    monkeypatch.setattr(own_teachers, "free_memory", lambda: 1000)
    assert not make_recipe(vehicles).made_from["read_once"]
    goes_on = make_recipe(vehicles, read_once=own_teachers.begun_with(run), say=said.append)
    assert goes_on.made_from == begun.made_from and begun.made_from["read_once"]
    assert said == [
        "6 images of 16 × 16 × 3, 4.61 kB decoded: kept in memory, as when the run was begun."
    ]


def test_a_batch_larger_than_the_images_is_refused_with_what_to_lower(vehicles):
    with pytest.raises(ValueError, match=r"6 images .*Lower `batch_size` to 6"):
        make_recipe(vehicles, batch_size=7)


@pytest.mark.slow
def test_command_reports_accuracies_images_and_bytes_known_beforehand(vehicles, capsys):
    write_images(vehicles.images / "dogs", 3)
    vehicles.teacher.save(vehicles.folder / "cars")
    folders = {name: vehicles.folder / name for name in ("cars", "photos", "test", "out")}
    code = main(
        ["amalgamate", f"--teacher={folders['cars']}", f"--images={folders['photos']}",
         f"--test=cars={folders['test']}", f"--out={folders['out']}", "--size=32", "--epochs=1",
         "--batch_size=4", "--noflip"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    report = json.loads((folders["out"] / "report.json").read_text())
    assert report["tasks"]["cars"]["teacher_own_pipeline_accuracy"] == pytest.approx(5 / 6)
    assert report["tasks"]["cars"]["teacher_canvas_accuracy"] == pytest.approx(5 / 6)
    assert report["settings"]["canvas"] == [20, 20, "resize"]
    assert report["teachers"]["bytes"] == (folders["cars"] / "model.keras").stat().st_size
    settings = report["settings"]
    assert (settings["images of cars"], settings["images left out"]) == (6, 3)
    assert settings["mirrored images"] is False
    assert f"sub-folder: 3, in {folders['photos'] / 'dogs'} (3)." in said.out


@pytest.mark.slow
def test_a_teacher_whose_statistics_another_normalisation_fits_is_doubted(make, tmp_path):
    imagenet = ka.Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    half = ka.Preprocessing(mean=0.5, std=0.5)
    teachers = [
        ka.Teacher(
            make.remembering_network(make.colour_images(seed=1), imagenet),
            name,
            class_names=VEHICLES,
            preprocessing=declared,
        )
        for name, declared in (("right", imagenet), ("wrong", half))
    ]
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(make.colour_images(seed=2)):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    recipe = own_teachers.recipe(teachers, tmp_path / "photos", {}, **DEFAULTS)
    (note,) = first_look.doubts(recipe)
    assert note.startswith("Teacher 'wrong' seems") and "ImageNet's mean and std fits" in note


def test_common_space_that_is_left_out_is_said(vehicles):
    tapless = channel_teacher("cars", VEHICLES)
    tapless.taps = {}
    recipe = own_teachers.recipe([tapless], vehicles.images, {}, **DEFAULTS)
    assert recipe.notes[-1].startswith("The common space is left out, and")
    assert "cars named no layer at which features are read" in recipe.notes[-1]
    assert recipe.settings["weight of the common space"] == 0.0
    unwanted = {**DEFAULTS, "common_features": 0.0}
    recipe = own_teachers.recipe([tapless], vehicles.images, {}, **unwanted)
    assert not [note for note in recipe.notes if "common space" in note]
