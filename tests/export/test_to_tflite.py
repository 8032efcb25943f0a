import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import export
from keras_amalgam.export.tflite import runtime as tflite_runtime
from keras_amalgam.export.tflite.conversion import operator_counts


def resizing_student(**settings):
    """A student whose resizing TFLite may not know; built with the bare operation."""
    image = keras.Input((None, None, 1))
    x = keras.ops.image.resize(image, (8, 8), data_format="channels_last", **settings)
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, {"a": keras.layers.Dense(2)(x)}, name="resizing")
    model.class_names = {"a": ("x", "y")}
    return model


def test_float32_file_agrees_and_keeps_the_heads_names(exported):
    artifact = exported.artifacts["float32"]
    assert artifact.parity["max_abs_error"] <= 1e-4
    assert artifact.parity["images"] == 64
    assert artifact.heads == ("quadrant", "colour") == tuple(artifact.parity["heads"])
    assert artifact.bytes == artifact.path.stat().st_size
    assert (artifact.format, artifact.precision) == ("tflite", "float32")


def test_reduced_files_are_smaller_and_decide_alike(exported):
    sizes = {name: exported.artifacts[name].bytes for name in ("float32", "float16", "int8")}
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]
    for precision in ("float16", "dynamic", "int8"):
        measured = exported.artifacts[precision].parity
        assert measured["argmax_agreement"] >= 0.97
        assert 1e-4 < measured["max_abs_error"] < 0.5


def test_operators_are_counted_and_all_tflites_own(exported):
    assert exported.artifacts["float32"].operators["CONV_2D"] == 3
    assert exported.artifacts["int8"].operators["QUANTIZE"] == 1
    for precision in ("float32", "float16", "dynamic", "int8"):
        operators = exported.artifacts[precision].operators
        assert operators["DEPTHWISE_CONV_2D"] == 3
        assert not [name for name in operators if "custom" in name or "Flex" in name]
        # Batch 1 leaves no arithmetic on shapes, and batch norms are folded away.
        assert not {"SHAPE", "PACK", "GATHER", "RSQRT"} & set(operators)


def test_int8_file_takes_raw_uint8_images(exported):
    loaded = tflite_runtime.load(exported.folder / "student_int8.tflite")
    assert loaded.dtype == np.uint8
    assert loaded.quantization == (1.0, 0)
    assert loaded.input_name == "image"
    outputs = loaded(np.zeros((1, 28, 28, 3)))
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float32)}


def test_int8_takes_raw_images_though_calibration_is_dim(student, images, tmp_path):
    dim = (images * 0.7 + 5).astype(np.uint8)
    artifact = export.to_tflite(student, tmp_path / "dim.tflite", "int8", dim)
    assert artifact.parity["images"] == 64
    assert tflite_runtime.load(artifact.path).quantization == (1.0, 0)


@pytest.mark.slow
def test_equal_exports_are_identical(student, exported, tmp_path):
    again = export.to_tflite(student, tmp_path / "again.tflite")
    assert again.path.read_bytes() == (exported.folder / "student_float32.tflite").read_bytes()


def test_mixed_precision_student_is_converted_in_float32(make_student, images, tmp_path):
    mixed = make_student(policy="mixed_float16")
    artifact = export.to_tflite(mixed, tmp_path / "mixed.tflite", images=images)
    assert artifact.parity["max_abs_error"] <= 1e-4
    outputs = tflite_runtime.run(tflite_runtime.load(artifact.path), images)
    for head, values in mixed(images, training=False).items():
        np.testing.assert_allclose(outputs[head], values, atol=0.2)


@pytest.mark.slow
def test_dynamic_size_is_fixed_by_the_argument_or_the_resizing(nested_student, tmp_path):
    default = export.to_tflite(nested_student, tmp_path / "default.tflite")
    assert tflite_runtime.load(default.path).image_shape == (1, 28, 28, 1)
    asked = export.to_tflite(nested_student, tmp_path / "asked.tflite", image_shape=(40, 36))
    assert tflite_runtime.load(asked.path).image_shape == (1, 40, 36, 1)
    assert asked.heads == ("wide", "narrow")
    assert asked.parity["max_abs_error"] <= 1e-4


@pytest.mark.parametrize(
    ("settings", "operator"),
    [({"interpolation": "bicubic"}, "ResizeBicubic"), ({"antialias": True}, "ScaleAndTranslate")],
)
def test_operator_outside_tflite_is_refused_by_name(settings, operator, tmp_path, capfd):
    path = f"'resizing.*/resize.*/{operator}'"
    with pytest.raises(NotImplementedError, match=f"{operator} from {path}"):
        export.to_tflite(resizing_student(**settings), tmp_path / "a.tflite", image_shape=(12, 12))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_foreign_operator_in_a_file_is_counted_as_custom():
    model = resizing_student(interpolation="bicubic")
    function = tf.function(
        lambda image: model(image, training=False),
        input_signature=[tf.TensorSpec((1, 12, 12, 1), tf.float32)],
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    assert "custom FlexResizeBicubic" in operator_counts(converter.convert())


def test_operator_behind_a_resizing_layer_is_traced_to_it(tmp_path):
    image = keras.Input((12, 12, 1))
    x = keras.layers.Resizing(8, 8, interpolation="bicubic", name="shrink")(image)
    model = keras.Model(image, {"a": keras.layers.Dense(2)(keras.layers.Flatten()(x))})
    with pytest.raises(NotImplementedError, match=r"from layer 'shrink' \(Resizing\)"):
        export.to_tflite(model, tmp_path / "a.tflite", class_names={"a": ("x", "y")})


def test_conversion_is_silent(nested_student, tmp_path, capfd):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    export.to_tflite(
        nested_student, tmp_path / "a.tflite", "int8", images, tolerance=9.0, min_agreement=0.0
    )
    assert capfd.readouterr() == ("", "")


def test_bound_that_is_missed_leaves_nothing(student, images, tmp_path):
    target = tmp_path / "a.tflite"
    with pytest.raises(ValueError, match=r"\(float16\) disagrees with the Keras model at head 'q"):
        export.to_tflite(student, target, "float16", images=images, tolerance=1e-7)
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"old")
    with pytest.raises(ValueError, match="at most 1e-07"):
        export.to_tflite(student, target, "float16", images=images, tolerance=1e-7, overwrite=True)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, r"no such precision. Received: 'int4'.*\('float32'"),
        ({"precision": "int8"}, "calibration=None"),
        (
            {
                "precision": "int8",
                "calibration": tf.data.Dataset.from_tensors(np.zeros((1, 28, 28, 3))).take(0),
            },
            "`calibration` holds no image",
        ),
        ({"images": np.ones((2, 28, 28, 3))}, "`images` are not raw.*multiply them by 255"),
        ({"image_shape": (30, 30)}, "image size does not fit"),
        ({"class_names": {"colour": ("a",)}}, "`class_names` and the heads"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_written(arguments, message, student, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(student, tmp_path / "a.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_comparison_images_must_have_the_artifacts_size(nested_student, tmp_path):
    images = np.full((2, 30, 30, 1), 7, np.uint8)
    with pytest.raises(ValueError, match=r"Received: \(30, 30, 1\). Expected: \(28, 28, 1\)"):
        export.to_tflite(nested_student, tmp_path / "a.tflite", images=images)
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_what_is_no_tflite_file(tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"LiteRT cannot load the model. Received: '.*a\.tflite'"):
        tflite_runtime.load(path)
