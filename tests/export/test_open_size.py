"""A student of open image size that resizes nothing: the size must be told."""

import keras
import numpy as np
import pytest

from keras_amalgam import export

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 1), dtype=np.uint8)
EXPORTERS = [
    (export.to_keras, "a.keras", {"images": IMAGES}),
    (export.to_saved_model, "a", {"images": IMAGES}),
    (export.to_onnx, "a.onnx", {"images": IMAGES}),
    (export.to_tflite, "a.tflite", {"image_shape": (9, 7)}),
]


@pytest.fixture(scope="module")
def open_student():
    image = keras.Input((None, None, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, {"a": keras.layers.Dense(2)(x)}, name="open")
    model.class_names = {"a": ("x", "y")}
    return model


@pytest.mark.parametrize(("exporter", "name", "remedy"), EXPORTERS)
def test_unknown_size_is_mended_by_the_argument_that_the_exporter_advises(
    exporter, name, remedy, open_student, tmp_path
):
    (advised,) = remedy
    with pytest.raises(ValueError, match=f"their size here is unknown.*Pass `{advised}=") as error:
        exporter(open_student, tmp_path / name)
    named = {one.split("=")[0] for one in str(error.value).split("`")[1::2]}
    assert named == {advised}
    assert list(tmp_path.iterdir()) == []

    assert exporter(open_student, tmp_path / name, **remedy).path.exists()


def test_unknown_size_of_a_timed_model_is_mended_by_its_image(open_student):
    with pytest.raises(ValueError, match="their size here is unknown.*Pass `image=`"):
        export.measure_latency(open_student, repeats=1)

    assert export.measure_latency(open_student, IMAGES[:1], repeats=1, warmup=0).repeats == 1
