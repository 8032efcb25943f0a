"""What travels with an artifact: whatever of it is not as it should be is found out."""

import dataclasses
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

from keras_amalgam import export
from keras_amalgam.export.decisions import outputs_of
from keras_amalgam.export.serving import warmup
from keras_amalgam.export.verification import companions

pytestmark = pytest.mark.usefixtures("verified_here")


@pytest.fixture
def copied(exported, tmp_path):
    """An artifact of the shared ones where a test may change it, with what lies beside it."""

    def copy(kind):
        artifact = exported.artifacts[kind]
        folder = tmp_path / "copy"
        folder.mkdir()
        if artifact.path.is_dir():
            shutil.copytree(artifact.path, folder / artifact.path.name)
        else:
            for file in artifact.path.parent.glob(f"{artifact.path.stem}.*"):
                if file.is_file():
                    shutil.copy(file, folder)
        return dataclasses.replace(artifact, path=folder / artifact.path.name)

    return copy


@pytest.fixture
def bundle(student, images, tmp_path):
    return export.to_serving(student, tmp_path / "bundle", images=images)


def rewritten(path, change):
    """Writes the zip at a TFLite file's end again, with other files in it."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
        flatbuffer = path.read_bytes()[: min(one.header_offset for one in archive.filelist)]
    path.write_bytes(flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in change(files).items():
            archive.writestr(name, text)


@pytest.mark.parametrize("kind", ["float32", "int8", "onnx", "saved_model", "keras"])
def test_what_an_exporter_writes_is_as_it_should_be(kind, copied, class_names):
    assert companions.wrong(copied(kind), class_names) == []


@pytest.mark.slow
def test_bundle_is_as_it_should_be(bundle, class_names):
    assert companions.wrong(bundle, class_names) == []


def test_labels_of_the_joint_prediction_are_expected(student, class_names, tmp_path):
    artifact = export.to_tflite(student, tmp_path / "a.tflite", joint=True, top_k=2)
    assert companions.wrong(artifact, outputs_of(class_names, True, 0)) == []
    assert "for 'joint'" in companions.wrong(artifact, class_names)[0]
    verification = export.verify(artifact, student, np.zeros((1, 28, 28, 3)), repeats=1)
    assert verification.missed == ()


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["float32", "onnx", "saved_model", "keras"])
def test_labels_in_another_order_are_found_out(kind, student, class_names, images, tmp_path):
    permuted = class_names | {"colour": class_names["colour"][::-1]}
    exporter, suffix = {
        "float32": (export.to_tflite, ".tflite"),
        "onnx": (export.to_onnx, ".onnx"),
        "saved_model": (export.to_saved_model, ""),
        "keras": (export.to_keras, ".keras"),
    }[kind]
    artifact = exporter(student, tmp_path / f"a{suffix}", class_names=permuted)
    missed = export.verify(artifact, student, images[:4], repeats=1).missed
    assert "names other classes for 'colour'" in missed[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["saved_model", "bundle"])
def test_lines_in_a_folder_that_are_not_the_labels_are_found_out(kind, copied, bundle, class_names):
    artifact = bundle if kind == "bundle" else copied(kind)
    lines = artifact.path / "assets.extra" / "labels_colour.txt"
    lines.write_text("red\ngreen\n")
    (wrong,) = companions.wrong(artifact, class_names)
    assert "'labels_colour.txt' is not" in wrong and "Received: ['red', 'green']" in wrong
    lines.unlink()
    (lines.parent / "labels_more.txt").write_text("a\n")
    missing, further = companions.wrong(artifact, class_names)
    assert "Received: no such file" in missing and "Expected: no such file" in further


def test_labels_of_a_further_head_are_found_out(copied, class_names):
    artifact = copied("keras")
    beside = artifact.path.with_suffix(".labels.json")
    beside.write_text(json.dumps(class_names | {"more": ["a"]}))
    (wrong,) = companions.wrong(artifact, class_names)
    assert "for 'more'. Received: ['a']. Expected: no such head" in wrong


@pytest.mark.parametrize("text", ["[1, 2]", "no json", '{"colour": 3}'])
def test_labels_that_are_none_are_found_out(text, copied, class_names):
    artifact = copied("keras")
    artifact.path.with_suffix(".labels.json").write_text(text)
    (wrong,) = companions.wrong(artifact, class_names)
    assert "cannot be read" in wrong and "Export the student again" in wrong


def test_lines_inside_a_file_that_are_not_the_labels_are_found_out(copied, class_names):
    artifact = copied("int8")
    rewritten(artifact.path, lambda files: files | {"labels_colour.txt": "other\n"})
    (wrong,) = companions.wrong(artifact, class_names)
    assert "'labels_colour.txt'" in wrong and "['other']" in wrong


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda given: given["outputs"]["colour"].update(labels=["a"]), "outputs.colour.labels"),
        (lambda given: given["inputs"]["image"].update(range=[0, 1]), "inputs.image.range"),
        (lambda given: given["inputs"]["image"].update(scale=0.5), "inputs.image.scale"),
        (lambda given: given["outputs"].pop("quadrant"), "outputs.quadrant"),
        (lambda given: given.update(precision="float32"), "precision"),
    ],
)
def test_description_of_another_file_is_found_out(change, where, copied, class_names):
    artifact = copied("int8")
    beside = artifact.path.with_suffix(".metadata.json")
    described = json.loads(beside.read_text())
    change(described)
    text = json.dumps(described, ensure_ascii=False, indent=2) + "\n"
    rewritten(artifact.path, lambda files: files | {"metadata.json": text})
    apart, of_another = companions.wrong(artifact, class_names)
    assert "beside the file is not the one inside. Received: another" in apart
    assert f"other values at ['{where}']" in of_another
    beside.write_text(text)
    assert companions.wrong(artifact, class_names) == [of_another]


def test_missing_description_is_found_out(copied, class_names):
    artifact = copied("float32")
    artifact.path.with_suffix(".metadata.json").unlink()
    (wrong,) = companions.wrong(artifact, class_names)
    assert "Received: none at" in wrong
    for text in (None, "no json", "[]"):
        rewritten(
            artifact.path,
            lambda files, text=text: (
                {name: kept for name, kept in files.items() if name != "metadata.json"}
                | ({} if text is None else {"metadata.json": text})
            ),
        )
        (wrong,) = companions.wrong(artifact, class_names)
        assert "carries no description" in wrong


def test_companions_with_a_broken_byte_are_found_out(copied, class_names):
    artifact = copied("float32")
    content = bytearray(artifact.path.read_bytes())
    content[content.rindex(b'"red"') + 1] ^= 1  # Of metadata.json, the last that is inside.
    content[content.index(b'{"quadrant"') + 2] ^= 1  # Of labels.json.
    artifact.path.write_bytes(content)
    artifact.path.with_suffix(".metadata.json").write_bytes(b"\xff")
    labels, description = companions.wrong(artifact, class_names)
    assert "cannot be read" in labels and "CRC" in labels
    assert "carries no description" in description


@pytest.mark.slow
def test_warmup_requests_of_something_else_are_found_out(bundle, class_names):
    file = bundle.path / warmup.FOLDER / warmup.FILE_NAME
    content = file.read_bytes()
    for broken, said in (
        (content[: len(content) // 2], "cannot be read"),
        (content[:-9] + b"x" + content[-8:], "cannot be read"),
        (b"", "not those of the bundle. Received: []"),
    ):
        file.write_bytes(broken)
        (wrong,) = companions.wrong(bundle, class_names)
        assert said in wrong
    file.unlink()
    (wrong,) = companions.wrong(bundle, class_names)
    assert "there is none" in wrong


@pytest.mark.slow
def test_heads_called_like_further_outputs_are_heads(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    heads = {name: keras.layers.Dense(3)(x) for name in ("joint", "a", "a_ids")}
    student = keras.Model(image, heads, name="named")
    student.class_names = dict.fromkeys(heads, ("x", "y", "z"))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    for artifact in (
        export.to_tflite(student, tmp_path / "a.tflite"),
        export.to_onnx(student, tmp_path / "a.onnx"),
        export.to_serving(student, tmp_path / "bundle"),
    ):
        verification = export.verify(artifact, student, images, repeats=1)
        assert verification.missed == ()
        assert set(verification.measured["heads"]) == set(heads)
