"""From noisy photographs, 20 times the student's size, to an artifact: right as on the canvas."""

import dataclasses
import functools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

import keras_amalgam as ka
from keras_amalgam import export
from keras_amalgam.export.entrance import entrance_of
from keras_amalgam.export.serving import endpoints, images_in_graph
from keras_amalgam.export.signatures import describe
from keras_amalgam.export.to_saved_model import write
from keras_amalgam.export.verification import report, runner

pytestmark = pytest.mark.usefixtures("verified_here")

SIDE, TIMES, CLASSES = 8, 20, 10
PATTERNS = np.random.default_rng(0).choice([-1.0, 1.0], (CLASSES, SIDE, SIDE))
NAMES = {"pattern": tuple(f"pattern {number}" for number in range(CLASSES))}
ONE_POINT = export.Thresholds(max_accuracy_loss=1.0, min_agreement=0.0)


def student_of(**resizing):
    """Tells patterns by how well they match: its weights are the patterns, nothing is trained."""
    image = keras.Input((None, None, 1), name="image")
    settings = ka.Preprocessing(size=(SIDE, SIDE), mean=0.5, std=0.25, **resizing)
    x = keras.layers.Flatten()(settings.build(image, 1))
    head = keras.layers.Dense(CLASSES, name="pattern")
    student = keras.Model(image, {"pattern": head(x)}, name="matcher")
    head.set_weights([PATTERNS.reshape(CLASSES, -1).T.astype("float32"), np.zeros(CLASSES)])
    student.class_names = NAMES
    return student


@pytest.fixture(scope="module")
def student():
    return student_of()


@pytest.fixture(scope="module")
def plain_student():
    """As older versions made them: its own resize leaves most of the photograph out."""
    return student_of(antialias=False)


@pytest.fixture(scope="module")
def photographs():
    """200 faint patterns under a sensor's noise, and their classes."""
    generator = np.random.default_rng(1)
    classes = np.arange(200) % CLASSES
    faint = 128 + 3.0 * np.kron(PATTERNS[classes], np.ones((1, TIMES, TIMES)))
    noisy = faint + generator.normal(0, 50, faint.shape)
    return np.clip(noisy, 0, 255).astype("uint8")[..., np.newaxis], classes


@pytest.fixture(scope="module")
def on_pillows_canvas(student, photographs):
    """The student's accuracy on what Pillow makes of the photographs, with no code of ours."""
    images, classes = photographs
    seen = [
        np.asarray(Image.fromarray(image[..., 0]).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        for image in images
    ]
    logits = student.get_layer("pattern")(np.stack(seen).reshape(200, -1) / 63.75 - 2.0)
    return float((np.asarray(logits).argmax(-1) == classes).mean())


@pytest.fixture(scope="module")
def calibration(photographs):
    """Of twice the student's size."""
    return tf.image.resize(photographs[0][::4], (2 * SIDE, 2 * SIDE), antialias=True).numpy()


def tflite(student, path, calibration, precision, side=2 * SIDE, **options):
    given = calibration if precision in ("int8", "int16") else None
    return export.to_tflite(
        student, path, precision, given, (side, side), tolerance=np.inf, min_agreement=0, **options
    )


EXPORTERS = {
    "a.tflite": lambda student, path, _: export.to_tflite(student, path),
    **{
        f"{precision}.tflite": functools.partial(tflite, precision=precision)
        for precision in ("float32", "float16", "dynamic", "int8", "int16")
    },
    "litert.tflite": functools.partial(tflite, precision="int8", quantizer="litert"),
    "a.onnx": lambda student, path, _: export.to_onnx(student, path),
    "first.onnx": lambda student, path, _: export.to_onnx(student, path, 13, layout="NCHW"),
    "a": lambda student, path, _: export.to_saved_model(student, path),
    "a.keras": lambda student, path, _: export.to_keras(student, path),
    "bundle": lambda student, path, _: export.to_serving(student, path),
}
# One of each format is fast enough for every day.
VARIANTS = {"float16.tflite", "dynamic.tflite", "int16.tflite", "litert.tflite", "first.onnx"}
THAT_SHRINK = [name for name in EXPORTERS if name not in ("a.tflite", "litert.tflite")]


def each(names, slow=VARIANTS):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in names]


@pytest.mark.matrix(slow=4)
@pytest.mark.parametrize("name", each(EXPORTERS))
def test_artifact_is_as_right_on_photographs_as_the_student_on_its_canvas(
    name, student, photographs, on_pillows_canvas, calibration, tmp_path
):
    artifact = EXPORTERS[name](student, tmp_path / name, calibration)
    verification = export.verify(
        artifact, student, labelled={"pattern": photographs}, thresholds=ONE_POINT, repeats=1
    )
    assert verification.missed == ()
    accuracy = verification.measured["accuracy"]["pattern"]
    assert on_pillows_canvas > 0.9
    assert accuracy["student"] == pytest.approx(on_pillows_canvas, abs=0.01)
    shares = accuracy.get("signatures", {"": accuracy["artifact"]})
    assert len(shares) == (4 if name == "bundle" else 1)
    for share in shares.values():
        assert share == pytest.approx(on_pillows_canvas, abs=0.01)


@pytest.mark.slow
@pytest.mark.matrix(slow=4)
@pytest.mark.parametrize("name", each(THAT_SHRINK, {*THAT_SHRINK} - {"float32.tflite", "a.onnx"}))
def test_graph_that_shrinks_plainly_loses_what_the_student_had_on_its_canvas(
    name, plain_student, photographs, on_pillows_canvas, calibration, tmp_path
):
    """Exactly what its student does with these pixels, so that no difference of logits shows it."""
    exporters = EXPORTERS
    if name.endswith(".tflite"):  # Of a size that its graph has to shrink a good deal.
        images = photographs[0][::4, ..., :]
        precision = name.removesuffix(".tflite")
        exporters = {name: functools.partial(tflite, precision=precision, side=TIMES * SIDE)}
        calibration = images.astype("float32")
    artifact = exporters[name](plain_student, tmp_path / name, calibration)
    verification = export.verify(
        artifact, plain_student, labelled={"pattern": photographs}, thresholds=ONE_POINT, repeats=1
    )
    accuracy = verification.measured["accuracy"]["pattern"]
    assert accuracy["student"] == pytest.approx(on_pillows_canvas, abs=0.01)
    assert accuracy["artifact"] < 0.7
    assert any("loses too many points of accuracy" in text for text in verification.missed)
    if name == "bundle":  # The files it antialiases itself.
        assert accuracy["signatures"]["encoded"] == pytest.approx(on_pillows_canvas, abs=0.01)
        assert accuracy["signatures"]["classify"] == accuracy["signatures"]["encoded"]
        assert not any("'encoded'" in text for text in verification.missed)


def test_plain_shrinking_in_front_of_an_artifact_is_a_loss(
    student, photographs, tmp_path, monkeypatch
):
    """As by an application that does not do what the documentation says."""

    def plainly(pixels, size, channels, covers=False):
        return np.clip(np.rint(tf.image.resize(pixels, size)), 0, 255).astype("uint8")

    artifact = export.to_tflite(student, tmp_path / "a.tflite")
    monkeypatch.setattr(runner, "shown", plainly)
    verification = export.verify(
        artifact, student, labelled={"pattern": photographs}, thresholds=ONE_POINT, repeats=1
    )
    # But for a photograph between two patterns.
    assert verification.measured["heads"]["pattern"]["argmax_agreement"] >= 0.99
    assert verification.measured["heads"]["pattern"]["on_canvas"] < 0.7
    assert any("Task 'pattern' loses too many points" in text for text in verification.missed)


@pytest.mark.slow
def test_signatures_of_files_that_resize_plainly_are_found_out(
    student, photographs, tmp_path, monkeypatch
):
    artifact = export.to_serving(student, tmp_path / "bundle")
    faulty = tmp_path / "1"
    shutil.copytree(artifact.path / "assets.extra", faulty / "assets.extra")
    monkeypatch.setattr(
        images_in_graph, "_resized", lambda image, resize: tf.image.resize(image, resize.size)
    )
    signatures = endpoints.endpoints(student, describe(student), NAMES, entrance_of(student), 5)
    write({key: (one.function, one.spec()) for key, one in signatures.items()}, faulty)
    with pytest.raises(ValueError, match="signature 'encoded', disagrees"):
        export.to_serving(student, tmp_path / "bundle")
    verification = export.verify(
        dataclasses.replace(artifact, path=faulty),
        student,
        labelled={"pattern": photographs},
        thresholds=ONE_POINT,
        repeats=1,
    )
    for name in endpoints.OF_FILES:
        lost = f"Signature '{name}', task 'pattern', loses too many points of accuracy"
        assert any(lost in text for text in verification.missed)
    assert not any("'uint8'" in text for text in verification.missed)
    table = report.table({"bundle": verification})
    assert "bundle, encoded: pattern" in table and "bundle, uint8: pattern" in table
    assert table.count("the student on its canvas") == 4


@pytest.mark.matrix
@pytest.mark.parametrize("covers", [False, True])
def test_description_has_the_line_that_makes_the_artifacts_image_of_a_photograph(
    covers, photographs, tmp_path
):
    student = student_of(crop_to_aspect_ratio=covers)
    artifact = export.to_tflite(student, tmp_path / "a.tflite", image_shape=(16, 16))
    described = json.loads((tmp_path / "a.metadata.json").read_text())["inputs"]["image"]
    pixels = np.concatenate([photographs[0][0], photographs[0][1]], axis=1)
    photo = Image.fromarray(pixels[..., 0])
    made = eval(
        described["photograph"]["pillow"], {"Image": Image, "ImageOps": ImageOps, "photo": photo}
    )
    shown = runner.shown(pixels, (16, 16), 1, covers=artifact.covers)
    np.testing.assert_array_equal(np.asarray(made), shown[..., 0])
    assert artifact.covers is covers
    # As the student itself makes of the photograph, within the rounding of what is handed over.
    whole, handed_over = (
        student(image[None].astype("float32"))["pattern"].numpy() for image in (pixels, shown)
    )
    squeezed = runner.shown(pixels, (16, 16), 1, covers=not covers)[None].astype("float32")
    error = np.abs(whole - handed_over).max()
    assert 4 * error < np.abs(whole - student(squeezed)["pattern"].numpy()).max()


@pytest.mark.slow
def test_students_canvas_is_what_it_is_evaluated_on(student, photographs, tmp_path):
    """On a canvas of four times its size it shrinks the rest of the way by itself."""
    artifact = export.to_onnx(student, tmp_path / "a.onnx")
    images, classes = photographs
    seen = tf.image.resize(images, (32, 32), antialias=True)
    logits = student(np.rint(seen))["pattern"].numpy()
    verification = export.verify(
        artifact, student, labelled={"pattern": (images, classes)}, canvas=(32, 32), repeats=1
    )
    accuracy = verification.measured["accuracy"]["pattern"]["student"]
    assert accuracy == (logits.argmax(-1) == classes).mean()
    assert verification.measured["canvas"] == [32, 32, "resize"]
    with pytest.raises(ValueError, match="canvas"):
        export.verify(artifact, student, images[:1], canvas=(32, 32, "squash"))


def test_canvas_of_another_size_than_a_student_of_fixed_size_is_refused(tmp_path):
    image = keras.Input((8, 8, 1))
    head = keras.layers.Dense(2)(keras.layers.Flatten()(image))
    student = keras.Model(image, {"a": head}, name="fixed")
    student.class_names = {"a": ("x", "y")}
    artifact = export.to_onnx(student, tmp_path / "a.onnx")
    images = np.zeros((1, 20, 20, 1), "uint8")
    with pytest.raises(ValueError, match=r"\(9, 8\). Expected: .*agreeing with .*\(8, 8\)"):
        export.verify(artifact, student, images, canvas=(9, 8))
