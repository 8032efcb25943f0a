"""Verification in a fresh process: what it measures, and what it must not let pass."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import unicodedata

import keras
import numpy as np
import pytest
from PIL import Image

from keras_amalgam import export
from keras_amalgam.export import parity
from keras_amalgam.export.verification import processes, runner
from keras_amalgam.export.verification.encoded import collect
from keras_amalgam.images import pillow_files

pytestmark = pytest.mark.usefixtures("verified_here")


@pytest.fixture(scope="module")
def photos(images):
    """JPEG files, of twice the artifact's size."""
    contents = []
    for image in images[:16]:
        buffer = io.BytesIO()
        Image.fromarray(image).resize((56, 56)).save(buffer, "JPEG", quality=95)
        contents.append(buffer.getvalue())
    return contents


@pytest.mark.fresh_process
@pytest.mark.parametrize(
    "kind",
    [
        "int8",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("float32", "onnx", "saved_model", "keras")
        ),
    ],
)
def test_artifact_agrees_from_encoded_images_on(kind, exported, student, photos, tmp_path):
    verification = export.verify(exported.artifacts[kind], student, photos, repeats=5)
    assert verification.missed == ()
    measured = verification.measured
    assert measured["images"] == 16
    assert measured["bytes"] == exported.artifacts[kind].bytes
    assert measured["memory_bytes"] > 0
    for threads in ("one_thread", "all_threads"):
        latency = measured["latency_ms"][threads]
        assert 0 < latency["median"] <= latency["p95"]
    for head in ("quadrant", "colour"):
        assert measured["heads"][head]["argmax_agreement"] >= 0.9
        if kind != "int8":
            assert measured["heads"][head]["max_abs_error"] <= 1e-4
    said = json.loads(json.dumps(verification.to_dict()))
    assert said["operators"] and said["bounds"]["min_agreement"] == (0.9 if kind == "int8" else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_keras_file_of_reduced_precision_is_held_against_float32(
    policy, make_student, photos, tmp_path
):
    mixed = make_student(policy=policy)
    artifact = export.to_keras(mixed, tmp_path / "student.keras")
    verification = export.verify(artifact, mixed, photos)
    assert verification.missed == ()
    assert verification.measured["heads"]["colour"]["max_abs_error"] > 1e-4
    strict = export.Thresholds(max_error=1e-4)
    assert export.verify(artifact, mixed, photos, thresholds=strict).missed


def test_decisions_count_on_images_of_the_task(exported, student, make_student, images, tmp_path):
    """A file of another model decides otherwise; on what it is told apart is that task's images."""
    twin = make_student()
    kernel = twin.get_layer("colour").kernel
    kernel.assign(-kernel)  # All colours are mistaken, no quadrant is.
    artifact = export.to_keras(twin, tmp_path / "twin.keras")
    free = export.Thresholds(max_error=1e6, min_agreement=0.0)
    both = {"quadrant": images[:4], "colour": images[4:12]}
    said = export.verify(artifact, student, both, thresholds=free).measured["heads"]
    told = student(images[:12], training=False)["colour"].numpy().argmax(-1)
    mistaken = twin(images[:12], training=False)["colour"].numpy().argmax(-1)
    assert said["colour"]["argmax_agreement"] == (told == mistaken)[4:].mean()
    assert said["quadrant"]["argmax_agreement"] == 1.0
    labelled = {"colour": (images[4:12], told[4:])}
    again = export.verify(artifact, student, both, labelled=labelled, thresholds=free).measured
    assert again["images"] == 20
    assert again["heads"]["colour"]["argmax_agreement"] == (told == mistaken)[4:].mean()


def test_images_of_no_task_are_refused(images, class_names):
    with pytest.raises(ValueError, match="images of 'shade'"):
        collect({"shade": images[:2]}, None, class_names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "int8", "onnx"])
def test_artifact_of_a_sabotaged_student_is_found_out(
    twin, kind, exported, student, images, photos, class_names, tmp_path
):
    if kind == "onnx":
        path = tmp_path / "a.onnx"
        artifact = export.to_onnx(twin, path, class_names=class_names, images=images)
    else:
        artifact = export.to_tflite(
            twin, tmp_path / "a.tflite", kind, images, class_names=class_names, images=images
        )
    assert export.verify(exported.artifacts[kind], student, photos, repeats=1).missed == ()
    missed = export.verify(artifact, student, photos, repeats=1).missed
    assert any("disagrees with the student" in sentence for sentence in missed)
    # On its canvas too, as the photographs that both got are those of the canvas.
    assert all("disagrees with" in one or "on its canvas" in one for one in missed)


def test_accuracy_is_that_of_the_artifact_and_of_the_student(
    exported, student, images, make_student, class_names
):
    labels = {
        head: values.numpy().argmax(-1) for head, values in student(images, training=False).items()
    }
    # A quarter of the labels of one task are wrong on purpose.
    labels["colour"][::4] = (labels["colour"][::4] + 1) % 4
    labelled = {head: (images, values) for head, values in labels.items()}
    verification = export.verify(exported.artifacts["onnx"], student, labelled=labelled, repeats=1)
    assert verification.measured["accuracy"] == {
        "quadrant": {"artifact": 1.0, "student": 1.0},
        "colour": {"artifact": 0.75, "student": 0.75},
    }


def test_long_lists_of_classes_say_how_many_more_there_are(tmp_path):
    names = tuple(f"class {number}" for number in range(12))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"\['other'\]. Expected: .*'class 7'\] and 4 more\."):
        collect(None, {"a": tmp_path}, {"a": names})


def test_hidden_folders_hold_no_images_and_accents_may_be_apart(photos, tmp_path):
    """As notebooks and archives from other systems leave them."""
    names = ("Caf\u00e9", "Th\u00e9")
    for number, name in enumerate(names):
        folder = tmp_path / unicodedata.normalize("NFD", name)
        for place in (folder, folder / ".ipynb_checkpoints", tmp_path / ".ipynb_checkpoints"):
            place.mkdir(exist_ok=True)
            (place / f"{number}.jpg").write_bytes(photos[number])
    assert collect(None, {"a": tmp_path}, {"a": names}).labels["a"].tolist() == [0, 1]
    assert len(collect(tmp_path, None, {"a": names}).contents) == 2


@pytest.mark.fresh_process
def test_process_finds_what_this_one_finds(exported, photos, tmp_path, monkeypatch):
    """Packages of one user alone, or behind PYTHONPATH, which an isolated process leaves out."""
    (tmp_path / "stray.py").write_text("found = 1")
    (tmp_path / "runner.py").write_text(
        "import json, sys, numpy, stray\n"
        "job = json.load(open(sys.argv[1]))\n"
        "numpy.savez(job['outputs'])\n"
        "json.dump({'found': stray.found}, open(job['measured'], 'w'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    encoded = collect(photos, None, {})
    _, measured = processes.run(exported.artifacts["onnx"], encoded, None, 3, [1], 1)
    assert measured == [{"found": 1}]


@pytest.mark.fresh_process
def test_processes_load_side_by_side_and_are_timed_in_turn(exported, photos, tmp_path, monkeypatch):
    (tmp_path / "runner.py").write_text(
        "import json, sys, time, numpy\n"
        "job = json.load(open(sys.argv[1]))\n"
        "loaded = time.time()\n"
        "print('loaded', flush=True)\n"
        "sys.stdin.readline()\n"
        "begun = time.time()\n"
        "time.sleep(0.2)\n"
        "if job['outputs']: numpy.savez(job['outputs'])\n"
        "json.dump([loaded, begun, time.time()], open(job['measured'], 'w'))\n"
    )
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    encoded = collect(photos, None, {})
    _, (first, second) = processes.run(exported.artifacts["onnx"], encoded, None, 3, [1, 2], 1)
    assert max(first[0], second[0]) < first[1]
    assert first[2] < second[1]


@pytest.mark.fresh_process
def test_what_a_failing_process_said_is_said(exported, photos, tmp_path, monkeypatch):
    (tmp_path / "runner.py").write_text("raise OSError('no such runtime')")
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    with pytest.raises(RuntimeError, match="(?s)exit status 1 .*OSError: no such runtime"):
        processes.run(exported.artifacts["onnx"], collect(photos, None, {}), None, 3, [1, 2], 1)


def test_labelled_folders_are_read_by_class_name(student, images, class_names, tmp_path):
    labels = student(images, training=False)["colour"].numpy().argmax(-1)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / class_names["colour"][label]
        folder.mkdir(exist_ok=True)
        keras.utils.save_img(folder / f"{number}.png", image, scale=False)
    encoded = collect(None, {"colour": tmp_path}, class_names)
    assert len(encoded.contents) == 64
    pixels = encoded.decoded(None, 3, most=64)
    said = student(pixels, training=False)["colour"].numpy().argmax(-1)
    np.testing.assert_array_equal(encoded.labels["colour"], said)


@pytest.mark.matrix
@pytest.mark.fresh_process
@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_error": 1e-9}, "Task '.*' disagrees with the student. .* at most 1e-09"),
        ({"max_bytes": 1000}, "too large, in bytes. Received: .* at most 1000"),
        ({"max_memory_bytes": 1}, "too much memory, in bytes. Received: .* at most 1"),
        ({"max_latency_ms": 1e-9}, "too long, in ms. Received: .* at most 1e-09"),
        ({"min_accuracy": 0.9}, "'colour' is not accurate enough. Received: 0.* at least 0.9"),
        (
            {"max_accuracy_loss": -1.0},
            "'colour' loses too many points.* Received: 0. .* at most -1",
        ),
    ],
)
def test_each_threshold_that_is_missed_is_said(limit, message, exported, student, images):
    wrong = (student(images, training=False)["colour"].numpy().argmax(-1) + 1) % 4
    verification = export.verify(
        exported.artifacts["float32"],
        student,
        labelled={"colour": (images, wrong)},
        thresholds=export.Thresholds(**limit),
        repeats=1,
    )
    assert re.search(message, " ".join(verification.missed)), verification.missed


def test_every_head_and_bound_that_is_missed_is_said(exported, student, make_student, images):
    strict = export.Thresholds(max_error=1e-9)
    missed = export.verify(exported.artifacts["int8"], student, images, thresholds=strict).missed
    assert [text.split("'")[1] for text in missed] == ["quadrant", "colour"]
    heads = {
        "a": parity.HeadParity(5.0, 1.0, 0.5, 1.0),
        "b": parity.HeadParity(0.0, 0.0, 0.9, 1.0),
    }
    latency = {"one_thread": {"median": 1.0}}
    measured = {"bytes": 1, "memory_bytes": 1, "latency_ms": latency, "accuracy": {}}
    limits = export.Thresholds(max_error=1.0, min_agreement=0.95)
    first, second, third = limits.missed(measured, heads, "float32")
    assert "'a'" in first and "error 5" in first
    assert "'a'" in second and "50.0%" in second
    assert "'b'" in third and "90.0%" in third


@pytest.mark.parametrize("limit", ["max_accuracy_loss", "min_accuracy"])
def test_limit_on_accuracy_needs_labelled_images(limit, exported, student, photos):
    limits = export.Thresholds(**{limit: 0.5})
    with pytest.raises(ValueError, match=f"Received: `{limit}` without labelled images"):
        export.verify(exported.artifacts["onnx"], student, photos, thresholds=limits)


def test_image_that_cannot_be_decoded_is_named(photos, class_names, tmp_path):
    cut = photos[0][: len(photos[0]) // 2]
    (tmp_path / "cut.jpg").write_bytes(cut)
    (tmp_path / "good.jpg").write_bytes(photos[1])
    for given in (tmp_path, [tmp_path / "good.jpg", tmp_path / "cut.jpg"]):
        with pytest.raises(ValueError, match=r"holds what is no image. Received: '.*cut\.jpg'"):
            collect(given, None, class_names)
    with pytest.raises(ValueError, match=r"`images\['colour'\]` holds .*'number 1'"):
        collect({"colour": [photos[1], b"no image"]}, None, class_names)


@pytest.mark.fresh_process
def test_broken_artifact_is_an_error_with_what_the_process_said(
    exported, student, photos, tmp_path
):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    artifact = dataclasses.replace(exported.artifacts["onnx"], path=path)
    with pytest.raises(RuntimeError, match="exit status 1 for '.*a.onnx'.*said:\n"):
        export.verify(artifact, student, photos)


def test_artifact_that_is_gone_is_said_to_be(exported, student, photos, tmp_path):
    gone = dataclasses.replace(exported.artifacts["onnx"], path=tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="not there any more. Received: '.*a.onnx'"):
        export.verify(gone, student, photos)


@pytest.mark.parametrize("repeats", [0, 1.5, True])
def test_number_of_timed_calls_is_a_whole_number(repeats, exported, student, photos):
    with pytest.raises(ValueError, match=f"`repeats` is no number .*Received: {repeats}"):
        export.verify(exported.artifacts["onnx"], student, photos, repeats=repeats)


def test_path_is_no_record_of_an_exporter(exported, student, photos):
    with pytest.raises(
        TypeError, match="Received: 'a.tflite' of type str. Expected: the `Artifact`"
    ):
        export.verify("a.tflite", student, photos)


def test_process_imports_nothing_of_ours(exported, photos, tmp_path):
    collect(photos, None, {}).write(tmp_path / "images.zip")
    job = {
        "artifact": str(exported.folder / "student_int8.tflite"),
        "format": "tflite",
        "images": str(tmp_path / "images.zip"),
        "decoder": pillow_files.__file__,
        "size": [28, 28],
        "channels": 3,
        "covers": False,
        "threads": 1,
        "repeats": 1,
        "outputs": None,
        "measured": str(tmp_path / "measured.json"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-I", runner.__file__, str(tmp_path / "job.json")]
    subprocess.run(command, input="\n", text=True, check=True)
    imported = json.loads((tmp_path / "measured.json").read_text())["imported"]
    assert "ai_edge_litert" in imported
    assert not {"keras_amalgam", "keras", "tensorflow"} & set(imported)


@pytest.mark.parametrize(
    ("images", "labelled", "message"),
    [
        (None, None, "no image to verify with"),
        ([], None, "no image to verify with"),
        ("missing", None, "`images` holds no images. Received: 'missing'"),
        (["a", 3], None, "`images` cannot be read. Received: a list"),
        (5, None, "`images` cannot be read. Received: a int"),
        (np.full((1, 4, 4, 3), -1.0), None, "not raw images.*from -1 to -1"),
        (np.full((1, 4, 4, 3), 0.5), None, "scaled to 0..1: multiply them by 255"),
        (np.full((1, 4, 4, 3), np.nan), None, "not raw images.*from nan to nan"),
        ({"colour": np.full((1, 4, 4, 3), 0.5)}, None, r"`images\['colour'\]` are not raw"),
        (np.zeros((4, 4, 3)), None, r"not raw images. Received: shape \(4, 4, 3\)"),
        (None, {"shape": ("x", [0])}, "no such task to measure. Received: labelled images of 's"),
        (None, {"colour": "missing"}, "not sorted by its classes. Received: 'missing'"),
        (None, {"colour": (np.zeros((2, 4, 4, 3)), [0, 4])}, r"values \[0, 4\] for 2 images"),
        (None, {"colour": (np.full((1, 4, 4, 3), 0.5), [0])}, r"`labelled\['colour'\]` are not"),
        (None, {"colour": (np.zeros((2, 4, 4, 3)), [0])}, r"shape \(1,\)"),
    ],
)
def test_images_that_cannot_be_used_are_refused(images, labelled, message, class_names):
    with pytest.raises(ValueError, match=message):
        collect(images, labelled, class_names)
