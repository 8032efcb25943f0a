"""The demo's embedded images and teachers, and the checks that `make demo-assets` ends with."""

import copy
import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEMO = ROOT / "keras_amalgam" / "data" / "demo"
NAMES = ("digits", "fashion")

LOAD_WITHOUT_THE_PACKAGE = """
import json, sys
sys.modules["keras_amalgam"] = None
import tensorflow_datasets as tfds
found = {}
for name in ("demo_digits", "demo_fashion"):
    builder = tfds.builder(name, data_dir=sys.argv[1])
    for split in builder.info.splits:
        data = tfds.as_numpy(tfds.load(name, data_dir=sys.argv[1], split=split, batch_size=-1))
        found[f"{name}/{split}"] = [list(data["image"].shape), str(data["image"].dtype)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def scripts():
    """The modules of `scripts/demo_assets` that need no PyTorch."""
    folder = str(ROOT / "scripts" / "demo_assets")
    sys.path.insert(0, folder)
    yield {name: importlib.import_module(name) for name in ("sources", "cards", "check")}
    sys.path.remove(folder)
    for name in ("sources", "cards", "check"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def shipped():
    """`{(name, split): (images (n, 28, 28, 1), labels (n,))}` of everything shipped."""
    splits = {}
    for name in NAMES:
        for split in ("unlabelled", "test"):
            data = tfds.load(f"demo_{name}", data_dir=DEMO, split=split, batch_size=-1)
            data = tfds.as_numpy(data)
            splits[name, split] = data["image"], data["label"]
    return splits


@pytest.fixture
def collection(scripts):
    """A small collection, of other images in every part."""
    random = np.random.RandomState(0)

    def labelled(number):
        images = random.randint(0, 256, (number, 28, 28), dtype="uint8")
        return scripts["sources"].Labelled(images, random.randint(0, 10, number))

    official_test = labelled(20)
    test = official_test.take(np.arange(5))
    return scripts["sources"].Collection(labelled(40), labelled(10), test, official_test)


def without_labels(data):
    return dataclasses.replace(data, labels=np.full(len(data.labels), -1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_split_has_9000_images_and_no_label(shipped, name):
    images, labels = shipped[name, "unlabelled"]
    assert images.shape == (9_000, 28, 28, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, -1)


@pytest.mark.parametrize("name", NAMES)
def test_test_split_has_200_images_of_every_class(shipped, name):
    images, labels = shipped[name, "test"]
    assert images.shape == (2_000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(labels), 200)


@pytest.mark.parametrize("name", NAMES)
def test_no_test_image_is_among_the_unlabelled(shipped, name):
    unlabelled = {image.tobytes() for image in shipped[name, "unlabelled"][0]}
    test = {image.tobytes() for image in shipped[name, "test"][0]}
    assert len(unlabelled) == 9_000
    assert len(test) == 2_000
    assert not unlabelled & test


@pytest.mark.slow
def test_data_sets_load_in_a_fresh_process_without_the_package(tmp_path):
    command = [sys.executable, "-c", LOAD_WITHOUT_THE_PACKAGE, str(DEMO)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {
        f"demo_{name}/{split}": [[number, 28, 28, 1], "uint8"]
        for name in NAMES
        for split, number in (("unlabelled", 9_000), ("test", 2_000))
    }


@pytest.mark.matrix
@pytest.mark.parametrize("name", NAMES)
def test_teacher_reaches_its_cards_accuracy_on_the_shipped_test_images(scripts, shipped, name):
    cards = scripts["cards"]
    card = cards.read_card(DEMO / "teachers", name)
    images, labels = shipped[name, "test"]
    logits = cards.logits_of(DEMO / "teachers" / card["file"], card["preprocessing"], images)
    reached = cards.accuracy(logits, labels)
    assert reached == pytest.approx(card["accuracy"]["demo_test"], abs=0.0015)
    assert reached >= card["accuracy"]["test"] - 0.01


@pytest.mark.matrix
@pytest.mark.parametrize("name", NAMES)
def test_teacher_misses_its_accuracy_when_images_are_not_scaled(scripts, shipped, name):
    cards = scripts["cards"]
    card = cards.read_card(DEMO / "teachers", name)
    images, labels = shipped[name, "test"]
    unscaled = card["preprocessing"] | {"scale": 1.0}
    logits = cards.logits_of(DEMO / "teachers" / card["file"], unscaled, images)
    assert cards.accuracy(logits, labels) < card["accuracy"]["demo_test"] - 0.01


def test_teachers_are_as_accurate_as_the_demo_promises(scripts):
    least = scripts["check"].LEAST_ACCURACY
    for name in NAMES:
        accuracy = scripts["cards"].read_card(DEMO / "teachers", name)["accuracy"]
        assert accuracy["images"] == 10_000
        assert accuracy["test"] >= least[name]


@pytest.mark.parametrize("name", NAMES)
def test_card_describes_the_shipped_file(scripts, name):
    cards = scripts["cards"]
    card = cards.read_card(DEMO / "teachers", name)
    path = DEMO / "teachers" / card["file"]
    facts = (cards.facts_of_onnx if name == "digits" else cards.facts_of_keras)(path, card["tap"])
    assert {key: card[key] for key in facts} == facts
    assert {key: card[key] for key in cards.DESCRIBED[name]} == cards.DESCRIBED[name]
    assert card["bytes"] == path.stat().st_size


@pytest.mark.parametrize("name", NAMES)
def test_unknown_tap_is_refused(scripts, name):
    cards = scripts["cards"]
    facts = cards.facts_of_onnx if name == "digits" else cards.facts_of_keras
    with pytest.raises(ValueError, match="nowhere"):
        facts(DEMO / "teachers" / cards.DESCRIBED[name]["file"], "nowhere")


def test_shipped_files_keep_their_size_limits(scripts):
    assert scripts["check"].size_problems(DEMO) == []


@pytest.mark.parametrize("file", ["teachers/digits.onnx", "teachers/fashion.keras"])
def test_teacher_files_do_not_tell_the_folders_of_the_machine_that_made_them(file):
    content = (DEMO / file).read_bytes()
    assert b"site-packages" not in content
    assert b"train_" not in content


def test_size_check_names_what_is_too_large(scripts, tmp_path):
    for file, number in (
        ("teachers/digits.onnx", 1_500_000),
        ("teachers/fashion.keras", 1_999_999),
        ("demo_digits/1.0.0/images", 10_000_001),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(bytes(number))
    problems = scripts["check"].size_problems(tmp_path)
    assert [problem.split(":")[0] for problem in problems] == ["teachers/digits.onnx", "the images"]


def test_split_check_accepts_disjoint_splits(scripts, collection):
    unlabelled = without_labels(collection.unlabelled)
    assert scripts["check"].split_problems(collection, unlabelled, collection.test) == []


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("unlabelled", "1 unlabelled images that a teacher was trained on"),
        ("test", "1 test images that a teacher was trained on"),
    ],
)
def test_split_check_finds_one_image_that_a_teacher_saw(scripts, collection, part, problem):
    parts = {"unlabelled": without_labels(collection.unlabelled), "test": collection.test}
    parts[part].images[3] = collection.taught.images[17]
    assert problem in scripts["check"].split_problems(collection, **parts)


def test_split_check_finds_one_test_image_among_the_unlabelled(scripts, collection):
    unlabelled = without_labels(collection.unlabelled)
    unlabelled.images[0] = collection.test.images[2]
    problems = scripts["check"].split_problems(collection, unlabelled, collection.test)
    assert problems == ["1 test images among the unlabelled"]


def test_split_check_finds_one_label_and_one_missing_image(scripts, collection):
    unlabelled = without_labels(collection.unlabelled).take(np.arange(9))
    unlabelled.labels[4] = 7
    problems = scripts["check"].split_problems(collection, unlabelled, collection.test)
    assert problems == ["1 labels in split unlabelled", "1 unlabelled images missing or too many"]


def test_card_check_finds_another_file_another_accuracy_and_a_weak_teacher(scripts):
    check = scripts["check"]
    stated = scripts["cards"].read_card(DEMO / "teachers", "digits")
    assert check.card_problems("digits", stated, copy.deepcopy(stated)) == []

    found = copy.deepcopy(stated)
    found["provenance"]["sha256"] = "0" * 64
    found["accuracy"]["test"] = 0.9899
    problems = check.card_problems("digits", stated, found)
    assert [problem.split(" ")[1] for problem in problems] == [
        "accuracy",
        "provenance",
        "accuracy",
    ]


def test_division_is_disjoint_and_the_same_for_the_same_seed(scripts):
    sources = scripts["sources"]
    number = sources.NUM_UNLABELLED + 100
    train = sources.Labelled(np.arange(number), np.arange(number) % 10)
    official = sources.Labelled(np.arange(4_000), np.arange(4_000) % 10)
    once, again = (sources.divide(train, official, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once.unlabelled.images, again.unlabelled.images)
    np.testing.assert_array_equal(once.test.images, again.test.images)
    together = np.concatenate([once.taught.images, once.unlabelled.images])
    np.testing.assert_array_equal(np.sort(together), np.arange(number))
    np.testing.assert_array_equal(np.bincount(once.test.labels), sources.NUM_TEST_PER_CLASS)


def test_missing_source_names_the_package(scripts, tmp_path):
    sources = scripts["sources"]
    arguments = sources.parser(None).parse_args(["--fashion", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        sources.load("fashion", arguments)


def test_source_with_other_bytes_is_refused(scripts, tmp_path):
    sources = scripts["sources"]
    for file in sources.SHA256["digits"]:
        (tmp_path / file).write_bytes(b"\0\0\x08\x01\0\0\0\x01\x05")
    arguments = sources.parser(None).parse_args(["--mnist", str(tmp_path)])
    with pytest.raises(ValueError, match="SHA-256"):
        sources.load("digits", arguments)
