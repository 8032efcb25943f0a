"""Signals kept on disk: what they are, how they are read, and what is refused."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_amalgam as ka
from keras_amalgam import data, training
from keras_amalgam.data.cache import building, going_on, signal_cache
from keras_amalgam.models.signals import Signals
from keras_amalgam.training.methods import matching

SHIFT = data.Augmentation(translation=2)


@pytest.fixture
def collections(make):
    """Ten images of digits and six of shapes."""
    return {"digits": make.images(10, seed=1), "shapes": make.images(6, seed=2)}


@pytest.fixture
def build(collections, teachers, tmp_path, monkeypatch):
    """Builds a cache of shards of four images each, unless told otherwise."""
    monkeypatch.setattr(building, "BATCH", 4)
    monkeypatch.setattr(signal_cache, "BATCH", 4)
    monkeypatch.setattr(signal_cache, "SHARD_BYTES", 1)

    def go(folder=tmp_path / "cache", images=None, by=None, **settings):
        sources = {name: data.from_arrays(one) for name, one in (images or collections).items()}
        settings = {"views": 2, "augmentation": SHIFT, **settings}
        return data.SignalCache.build(folder, sources, by or teachers, **settings)

    return go


def images_of(stream):
    """All images of one pass, as bytes."""
    return [image.tobytes() for batch in stream.as_numpy_iterator() for image in batch["image"]]


@pytest.mark.parametrize("kept", [True, False])
def test_an_epoch_shows_each_image_once_with_what_the_teachers_say_of_it(build, teachers, kept):
    stream = build().stream(batch_size=4, epoch=data.Epoch(cache=kept, drop_remainder=False))
    assert stream.source_names == ("digits", "shapes") and int(stream.cardinality()) == 4
    models = {teacher.name: teacher.signals(1) for teacher in teachers}
    for _ in range(2):
        batches = [*stream.as_numpy_iterator()]
        ids = np.concatenate([batch["id"] for batch in batches])
        assert sorted(ids) == [*range(16)]
        source = np.concatenate([batch["source"] for batch in batches])
        assert (source == (ids >= 10)).all()
        for batch in batches:
            for name, model in models.items():
                live = Signals.of(model(batch["image"]))
                stored = Signals.of(batch["signals"][name])
                assert stored.answers[name] == pytest.approx(
                    np.asarray(live.answers[name]), abs=1e-5
                )
                for tap, features in live.features.items():
                    assert stored.features[tap] == pytest.approx(
                        np.asarray(features), rel=1e-3, abs=1e-3
                    )


@pytest.mark.parametrize("kept", [True, False])
def test_epochs_show_the_views_in_turn_in_an_order_of_their_own(build, kept):
    stream = build(views=3).stream(batch_size=16, seed=5, epoch=data.Epoch(cache=kept))
    epochs = [images_of(stream) for _ in range(4)]
    assert sorted(epochs[0]) == sorted(epochs[3]) and epochs[0] != epochs[3]
    assert len({tuple(sorted(images)) for images in epochs[:3]}) == 3
    stream.epoch_number.next = 1
    assert images_of(stream) == epochs[1]


def test_each_sources_views_are_those_that_its_augmentation_draws(build, collections):
    lit = data.Augmentation(brightness=1.0)
    stream = build(augmentation={"digits": SHIFT, "shapes": lit}).stream(
        batch_size=16, epoch=data.Epoch(shuffle=False)
    )
    for view in range(2):
        (batch,) = stream.as_numpy_iterator()
        for augmentation, start, name in ((SHIFT, 0, "digits"), (lit, 10, "shapes")):
            drawn = augmentation(collections[name][:4], (0, view * 2**40 + start))
            assert (batch["image"][start : start + 4] == drawn.numpy()).all()


def test_without_an_augmentation_images_are_stored_as_they_are(build, collections):
    stream = build(augmentation=None, views=1).stream(
        batch_size=16, epoch=data.Epoch(shuffle=False, drop_remainder=False)
    )
    (batch,) = stream.as_numpy_iterator()
    assert (batch["image"] == np.concatenate([*collections.values()])).all()


def test_memory_and_disk_show_the_same_images_in_each_epoch(build):
    cache = build()
    kept, read = (cache.stream(batch_size=4, epoch=data.Epoch(cache=one)) for one in (True, False))
    for _ in range(3):
        assert sorted(images_of(kept)) == sorted(images_of(read))


@pytest.mark.parametrize("kept", [True, False])
def test_proportions_are_kept_to_one_image(build, kept):
    stream = build().stream(
        batch_size=4, proportions={"digits": 1, "shapes": 3}, epoch=data.Epoch(cache=kept)
    )
    source = np.concatenate([batch["source"] for batch in stream.as_numpy_iterator()])
    assert np.bincount(source).tolist() == [4, 12]


def test_stored_and_live_training_have_the_same_losses_step_by_step(build, teachers, make):
    stored = build(features="float32").stream(batch_size=4, seed=3)
    live = stored.map(lambda batch: {key: batch[key] for key in ("image", "source")})
    losses = []
    for images in (stored, live):
        stored.epoch_number.next = 0
        keras.utils.set_random_seed(4)
        terms = [ka.SoftTargets("source"), ka.CommonFeatures(units=4, weight=1.0)]
        student = make.student(teachers)
        model = ka.Amalgamator(student, teachers, student_tap="backbone/student_map", terms=terms)
        model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
        losses.append([model.train_on_batch(batch) for batch in images.repeat(2)])
    assert np.asarray(losses[0]) == pytest.approx(np.asarray(losses[1]), rel=1e-4, abs=1e-6)


def test_taps_that_no_term_reads_need_not_be_stored(build, teachers, make):
    stored = build(taps=()).stream(batch_size=4)
    assert [*stored.element_spec["signals"]["digits"]] == ["answers"]

    def amalgamator(*terms):
        student = make.student(teachers)
        model = ka.Amalgamator(
            student, teachers, student_tap="backbone/student_map", terms=[*terms]
        )
        model.compile(run_eagerly=True)
        return model

    assert np.isfinite(amalgamator(ka.SoftTargets("source")).fit(stored, verbose=0).history["loss"])
    with pytest.raises(ValueError, match="Received: .*'answers/digits'.*Expected: .*'features/"):
        amalgamator(ka.CommonFeatures(units=4)).fit(stored, verbose=0)


def test_tfds_reads_it_a_split_for_each_view(build):
    cache = build()
    builder = tfds.builder_from_directory(str(cache.folder))
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
        "view0": 16, "view1": 16,
    }  # fmt: skip
    own = cache.stream(batch_size=1, epoch=data.Epoch(shuffle=False)).unbatch()
    read = builder.as_dataset(split="view0")
    for ours, theirs in zip(own.as_numpy_iterator(), read.as_numpy_iterator(), strict=True):
        tf.nest.assert_same_structure(ours, theirs)
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
            assert (a == b).all()


def test_whole_cache_is_not_made_again(build, teachers):
    first = build()
    times = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*tfrecord*")}
    said = []
    again = build(say=said.append)
    assert not said and again.manifest == first.manifest
    assert times == {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*tfrecord*")}
    assert data.SignalCache.open(first.folder, teachers).manifest == first.manifest


def test_what_there_is_to_make_and_what_is_left_is_said(build):
    said = []
    cache = build(say=said.append)
    first, second, *others = said
    size = re.fullmatch(r"10 shards to make, about (\S+) kB\.", first)
    assert size and float(size[1]) == pytest.approx(cache.bytes / 1000, rel=0.3)
    assert re.fullmatch(r"digits: 8 shards to go, about \d+ s\.", second)
    assert len(others) == 3 and others[-1].startswith("shapes: 2 shards to go")


def test_building_that_ended_goes_on_to_the_same_bytes(build, teachers, tmp_path):
    whole = build(tmp_path / "whole")

    def fail(text):
        if "to go" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "broken", say=fail)
    with pytest.raises(ValueError, match="is not whole. Received: 8 of 10 shards missing"):
        data.SignalCache.open(tmp_path / "broken", teachers)
    broken = build(tmp_path / "broken")
    assert broken.manifest == whole.manifest
    for path in whole.folder.iterdir():
        assert path.read_bytes() == (broken.folder / path.name).read_bytes()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.unlink()])
def test_damaged_shard_is_named_and_made_again_alone(build, teachers, damage):
    cache = build()
    path = sorted(cache.folder.glob("*tfrecord*"))[2]
    before, others = path.read_bytes(), {
        one: one.stat().st_mtime_ns for one in cache.folder.glob("*tfrecord*") if one != path
    }  # fmt: skip
    damage(path)
    with pytest.raises(ValueError, match=rf"are damaged. Received: \['{path.name}'\]"):
        data.SignalCache.open(cache.folder, teachers)
    build()
    assert path.read_bytes() == before
    assert others == {one: one.stat().st_mtime_ns for one in others}


def test_other_teachers_are_refused(build, teachers, make):
    cache = build()
    others = [make.teacher("digits", ["0", "1", "2"], seed=9), teachers[1]]
    differs = "from something else. Received: weights_sha256 of teacher 'digits': .*, was "
    with pytest.raises(ValueError, match=differs):
        data.SignalCache.open(cache.folder, others)
    with pytest.raises(ValueError, match=differs):
        build(by=others)


def test_equal_weights_in_other_layers_are_another_teacher(build, teachers, make):
    cache = build()
    other = make.teacher("digits", ["0", "1", "2"])
    next(layer for layer in other.model.layers if layer.weights).activation = keras.ops.tanh
    with pytest.raises(ValueError, match="Received: architecture of teacher 'digits'"):
        data.SignalCache.open(cache.folder, [other, teachers[1]])


def test_training_with_other_teachers_than_the_caches_is_refused(build, make):
    stream = build().stream(batch_size=4)
    others = [
        make.teacher("digits", ["0", "1", "2"], seed=9),
        make.teacher("shapes", ["circle", "square"], size=(16, 16), width=5, seed=2),
    ]
    model = ka.Amalgamator(make.student(others), others, terms=[ka.SoftTargets("source")])
    model.compile()
    with pytest.raises(ValueError, match=r"another teacher than 'digits'.*\['weights_sha256'\]"):
        model.fit(stream, verbose=0)


def test_matching_refuses_a_cache_which_mixes_nothing_up(build, teachers, make):
    method = matching(teachers, epochs=1)
    with pytest.raises(ValueError, match="without mixup for"):
        training.train(
            method, teachers, lambda: make.student(teachers), "backbone/student_map",
            build().stream(batch_size=4), verbose=0,
        )  # fmt: skip


def test_one_source_without_a_name_is_nobodys_collection(build, teachers, make, tmp_path):
    images = data.from_arrays(make.images(8))
    stream = data.SignalCache.build(tmp_path / "one", images, teachers).stream(batch_size=4)
    assert "source" not in stream.element_spec and not hasattr(stream, "source_names")


def test_other_order_of_the_sources_is_refused(build, collections):
    build()
    with pytest.raises(ValueError, match="from something else"):
        build(images=dict(reversed(collections.items())))


def test_refused_precision_can_be_changed_where_nothing_was_made(build, make, tmp_path):
    with pytest.raises(ValueError, match="Give features='float32'"):
        build(by=[large_teacher(make), make.teacher("shapes", ["circle", "square"], seed=2)])
    assert not (tmp_path / "cache").exists()


def test_second_process_that_makes_the_same_cache_is_refused(build, tmp_path):
    refused = []

    def second(text):
        with pytest.raises(ValueError, match="Another process is making the cache") as error:
            build()
        refused.append(error)

    build(say=second)
    assert refused and build().manifest.num_missing == 0


def test_images_are_compared_where_a_damaged_shard_is_made_again(build, collections):
    cache = build(augmentation=None, views=1)
    sorted(cache.folder.glob("signals-*"))[0].unlink()
    other = {**collections, "digits": 255 - collections["digits"]}
    with pytest.raises(ValueError, match="'digits' are not those"):
        build(images=other, augmentation=None, views=1)


def test_image_that_cannot_be_read_is_named(teachers, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        keras.utils.save_img(tmp_path / "photos" / f"{number}.jpg", np.zeros((16, 16, 1)))
    path = tmp_path / "photos" / "1.jpg"
    content = bytearray(path.read_bytes())
    content[200:-2] = bytes(len(content) - 202)
    path.write_bytes(content)
    images = data.from_folder(tmp_path / "photos", channels=1)
    with pytest.raises(ValueError, match=r"'images' cannot be read. Received: .*1\.jpg"):
        data.SignalCache.build(tmp_path / "cache", images, teachers, canvas=(16, 16, 1))


@pytest.mark.parametrize(
    ("settings", "differs"),
    [
        ({"augmentation": data.Augmentation(translation=3)}, "augmentation: "),
        ({"views": 3}, "views: 3, was 2"),
        ({"seed": 1}, "seed: 1, was 0"),
        ({"taps": ()}, "taps: [], was None"),
        ({"features": "float32"}, "features: float32, was float16"),
        ({"canvas": (20, 20, 1)}, "canvas: "),
    ],
)
def test_other_settings_are_refused_by_name(build, settings, differs):
    build()
    with pytest.raises(ValueError, match="from something else") as refused:
        build(**settings)
    assert differs in str(refused.value)


def test_other_images_are_refused(build, collections):
    build()
    with pytest.raises(ValueError, match="images by source"):
        build(images={**collections, "shapes": collections["shapes"][:5]})
    other = {**collections, "shapes": collections["shapes"].copy()}
    other["shapes"][5, 0, 0] ^= 1
    with pytest.raises(ValueError, match=r"'shapes' are not those .* images 4 to 5"):
        build(images=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(version=9), "of another version. Received: 9"),
        (lambda content: content["made_from"].clear(), "not what its hash says"),
        (lambda content: content.pop("version"), "is damaged or was edited"),
        (lambda content: content.update(views=0), "is damaged or was edited"),
        (lambda content: content.update(record=3), "is damaged or was edited"),
        (lambda content: content["sources"].update(digits="many"), "is damaged or was edited"),
        (lambda content: content["shards"].update(other={}), "is damaged or was edited"),
    ],
)
def test_edited_manifest_is_refused(build, teachers, change, message):
    cache = build()
    path = cache.folder / "cache.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        data.SignalCache.open(cache.folder, teachers)


def test_cut_off_manifest_is_refused(build, teachers):
    cache = build()
    truncate(cache.folder / "cache.json")
    with pytest.raises(ValueError, match="is damaged or was edited"):
        data.SignalCache.open(cache.folder, teachers)


def test_what_is_no_cache_is_refused(build, teachers, tmp_path):
    with pytest.raises(ValueError, match="There is no cache of signals"):
        data.SignalCache.open(tmp_path, teachers)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="a folder of its own"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 0}, "`views` must be a positive whole number"),
        ({"features": "int4"}, "`features` must be"),
        ({"taps": ["layer4"]}, r"Received: \['layer4'\]. Expected: some of \['features'\]"),
        ({"taps": "features"}, "Received: 'features'"),
        ({"augmentation": None}, "all views of an image are the same"),
        ({"augmentation": data.Augmentation(mixup=1.0)}, "Stored images are not mixed up"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    build, settings, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        build(**settings)
    assert not (tmp_path / "cache").exists()


def test_what_storing_costs_is_measured(build, tmp_path):
    assert build(tmp_path / "whole", features="float32").error == 0.0
    assert 0.0 < build().error < 2.0**-11  # Half of the distance between neighbours.


def test_without_an_augmentation_there_is_one_view(build):
    assert build(augmentation=None, views=None).manifest.views == 1


def test_disk_that_is_too_small_is_told_before_anything_is_made(build, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 20_000})
    monkeypatch.setattr(going_on.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="do not fit on the disk, which has 20.0 kB free"):
        build()
    assert not (tmp_path / "cache").exists()


def large_teacher(make):
    large = make.teacher("digits", ["0", "1", "2"])
    for layer in large.model.layers:
        if layer.weights:
            layer.set_weights([1e4 * one for one in layer.get_weights()])
    return large


def test_signals_too_large_for_half_precision_are_refused(build, make):
    with pytest.raises(ValueError, match="cannot be stored in float16.*features='float32'"):
        build(by=[large_teacher(make), make.teacher("shapes", ["circle", "square"], seed=2)])
