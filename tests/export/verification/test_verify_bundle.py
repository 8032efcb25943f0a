"""Verification of a TF Serving bundle: each signature from the files on, and its labels."""

import dataclasses
import io
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_amalgam import export
from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.entrance import entrance_of
from keras_amalgam.export.serving import endpoints, warmup
from keras_amalgam.export.signatures import describe
from keras_amalgam.export.to_saved_model import write

pytestmark = pytest.mark.usefixtures("verified_here")


@pytest.fixture(scope="module")
def files(images):
    """JPEG, PNG and BMP files of another size than the student's."""
    contents = []
    for number, image in enumerate(images[:15]):
        buffer = io.BytesIO()
        kind = ("JPEG", "PNG", "BMP")[number % 3]
        Image.fromarray(image).resize((50, 40)).save(buffer, kind)
        contents.append(buffer.getvalue())
    return contents


@pytest.fixture(scope="module")
def artifact(student, images, tmp_path_factory):
    return export.to_serving(student, tmp_path_factory.mktemp("bundle"), images=images, top_k=2)


@pytest.fixture
def sabotaged(artifact, student, class_names, tmp_path):
    """The bundle with one signature, or its labels, exchanged."""

    def make(name=None, change=None, labels=class_names):
        signatures = endpoints.endpoints(
            student, describe(student), class_names, entrance_of(student), 2
        )
        if name is not None:
            kept = signatures[name]
            function = kept.function
            signatures[name] = dataclasses.replace(
                kept, function=lambda image: change(function(image))
            )
        folder = tmp_path / "1"
        write({key: (one.function, one.spec()) for key, one in signatures.items()}, folder)
        labels_module.write_folder(folder / labels_module.SAVED_MODEL_FOLDER, labels)
        warmup.write(folder, "student", np.zeros((2, 28, 28, 3), np.uint8))
        return dataclasses.replace(artifact, path=folder)

    return make


@pytest.mark.slow
@pytest.mark.fresh_process
def test_every_signature_agrees_from_the_files_on(artifact, student, files):
    verification = export.verify(artifact, student, files, repeats=1)
    assert verification.missed == ()
    measured = verification.to_dict()["signatures"]
    assert list(measured) == ["uint8", "encoded", "classify"]
    assert measured["uint8"]["colour"]["max_abs_error"] <= 1e-4
    assert measured["encoded"]["colour"]["argmax_agreement"] == 1.0


@pytest.mark.slow
def test_png_files_are_decoded_alike_by_all(artifact, student, files):
    pngs = export.verify(artifact, student, files[1::3], repeats=1).measured["signatures"]
    assert pngs["encoded"]["quadrant"]["max_abs_error"] <= 1e-4


@pytest.mark.slow
def test_bundle_made_as_the_faulty_ones_are_passes_without_a_fault(sabotaged, student, files):
    assert export.verify(sabotaged(), student, files, repeats=1).missed == ()


def negated(outputs):
    return {name: -values for name, values in outputs.items()}


def reversed_names(outputs):
    return outputs | {"colour_classes": outputs["colour_classes"][:, ::-1]}


def foreign_names(outputs):
    return outputs | {"colour_classes": keras.ops.convert_to_tensor([["a", "b"]])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("uint8", lambda outputs: {head: 1.01 * values for head, values in outputs.items()}),
        ("encoded", negated),
        ("classify", reversed_names),
        ("classify", foreign_names),
    ],
)
def test_signature_with_a_fault_is_found_out(name, change, sabotaged, student, files):
    missed = export.verify(sabotaged(name, change), student, files, repeats=1).missed
    assert any(f"Signature '{name}', task 'colour', disagrees" in text for text in missed)


@pytest.mark.slow
def test_files_decoded_with_swapped_channels_are_found_out(
    artifact, sabotaged, student, files, class_names
):
    image = keras.Input(student.input_shape[1:])
    twin = keras.Model(image, student(keras.ops.flip(image, axis=-1), training=False))
    faulty = endpoints.endpoints(twin, describe(twin), class_names, entrance_of(twin), 2)["encoded"]
    exchanged = sabotaged("classify", lambda outputs: outputs)
    signatures = endpoints.endpoints(
        student, describe(student), class_names, entrance_of(student), 2
    )
    signatures["encoded"] = faulty
    shutil.rmtree(exchanged.path)
    write({key: (one.function, one.spec()) for key, one in signatures.items()}, exchanged.path)
    missed = export.verify(exchanged, student, files, repeats=1).missed
    assert any("Signature 'encoded'" in text for text in missed)


@pytest.mark.slow
def test_student_of_open_size_is_compared_at_the_size_that_it_was_given(tmp_path, files):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 5, strides=3)(keras.layers.Rescaling(1 / 255)(image))
    heads = {"a": keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(x))}
    student = keras.Model(image, heads, name="open")
    student.class_names = {"a": ("x", "y")}
    artifact = export.to_serving(student, tmp_path, image_shape=(20, 30))
    assert artifact.resized_to == (20, 30)
    assert export.verify(artifact, student, files, repeats=1).missed == ()
    moved = dataclasses.replace(artifact, resized_to=(10, 10))
    assert export.verify(moved, student, files, repeats=1).missed
    images = np.zeros((1, 24, 26, 3), "uint8") + 100
    assert export.to_serving(student, tmp_path, images=images).resized_to == (24, 26)


@pytest.mark.slow
def test_bundle_of_a_grey_student_takes_a_printers_jpeg(tmp_path, images):
    image = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    student = keras.Model(image, {"a": keras.layers.Dense(3)(x)}, name="grey")
    student.class_names = {"a": ("x", "y", "z")}
    artifact = export.to_serving(student, tmp_path)
    contents = []
    for mode in ("CMYK", "RGB", "L"):
        buffer = io.BytesIO()
        Image.fromarray(images[0]).convert(mode).save(buffer, "JPEG", quality=95)
        contents.append(buffer.getvalue())
    assert export.verify(artifact, student, contents, repeats=1).missed == ()
