"""What a TFLite file can be asked for beyond its precision, against NumPy and LiteRT alone."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest
import scipy.special
from ai_edge_litert.interpreter import Interpreter

from keras_amalgam import export
from keras_amalgam.export import decisions
from keras_amalgam.export.tflite.plan import Plan


def signature(path):
    return Interpreter(str(path)).get_signature_runner("serving_default")


def run(path, images):
    """The file's own tensors, image by image, through LiteRT alone."""
    runner = signature(path)
    rows = [runner(image=image[np.newaxis]) for image in images]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def logits(student, images):
    return {head: values.numpy() for head, values in student(images, training=False).items()}


@pytest.fixture(scope="module")
def float_images(images):
    return images.astype("float32")


@pytest.fixture
def overlapping(student, images):
    """A student whose heads share the class "blue", and its names."""
    names = {"quadrant": ("red", "blue", "x", "y"), "colour": ("blue", "u", "red", "w")}
    return student, names


def test_open_batch_takes_any_number_of_images(student, float_images, logits, tmp_path):
    artifact = export.to_tflite(student, tmp_path / "a.tflite", batch=None, images=float_images)
    runner = signature(artifact.path)
    for size in (1, 5, 64):
        outputs = runner(image=float_images[:size])
        for head, values in logits.items():
            np.testing.assert_allclose(outputs[head], values[:size], atol=1e-4)
    described = json.loads((tmp_path / "a.metadata.json").read_text())
    assert described["inputs"]["image"]["shape"] == [None, 28, 28, 3]
    assert described["outputs"]["colour"]["shape"] == [None, 4]


def test_batch_of_eight_is_a_batch_of_eight(student, float_images, logits, tmp_path):
    # 61 images fill no whole number of batches.
    artifact = export.to_tflite(student, tmp_path / "a.tflite", batch=8, images=float_images[:61])
    assert artifact.parity["images"] == 61
    outputs = signature(artifact.path)(image=float_images[8:16])
    np.testing.assert_allclose(outputs["colour"], logits["colour"][8:16], atol=1e-4)


def test_int8_images_are_the_pixels_minus_128(student, images, exported, tmp_path):
    artifact = export.to_tflite(
        student, tmp_path / "a.tflite", "int8", images, image_dtype="int8", images=images
    )
    again = export.to_tflite(student, tmp_path / "b.tflite", "int8", images, images=images)
    signed = run(artifact.path, (images.astype(np.int16) - 128).astype(np.int8))
    unsigned = run(again.path, images)
    for head, values in unsigned.items():
        np.testing.assert_array_equal(signed[head], values)


def test_int8_heads_are_read_by_the_description(student, images, tmp_path):
    for dtype in ("float32", "int8"):
        export.to_tflite(student, tmp_path / f"{dtype}.tflite", "int8", images, head_dtype=dtype)
    stored = run(tmp_path / "int8.tflite", images)
    described = json.loads((tmp_path / "int8.metadata.json").read_text())["outputs"]
    for head, values in run(tmp_path / "float32.tflite", images).items():
        assert stored[head].dtype == np.int8
        one = described[head]
        real = (stored[head].astype(np.float32) - one["zero_point"]) * one["scale"]
        np.testing.assert_allclose(real, values, atol=1e-6)


@pytest.mark.slow
def test_int16_activations_are_closer_than_int8(student, images, exported, float_images, logits):
    path = exported.folder / "int16.tflite"
    artifact = export.to_tflite(student, path, "int16", images)
    assert artifact.parity["mean_abs_error"] < exported.artifacts["int8"].parity["mean_abs_error"]
    outputs = run(path, float_images)
    for head, values in logits.items():
        assert (outputs[head].argmax(-1) == values.argmax(-1)).mean() >= 0.97


@pytest.mark.matrix
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_joint_prediction_is_the_heads_side_by_side(precision, student, images, logits, tmp_path):
    artifact = export.to_tflite(
        student, tmp_path / "a.tflite", precision, images, joint=True, images=images
    )
    outputs = run(artifact.path, images.astype("uint8" if precision == "int8" else "float32"))
    expected = np.concatenate([logits["quadrant"], logits["colour"]], axis=-1)
    if precision == "float32":
        np.testing.assert_allclose(outputs["joint"], expected, atol=1e-4)
    else:
        assert (outputs["joint"].argmax(-1) == expected.argmax(-1)).mean() >= 0.95
    names = export.read_labels(artifact.path)["joint"]
    assert names == (*student.class_names["quadrant"], *student.class_names["colour"])


def test_joint_prediction_of_a_shared_class_is_the_mean_of_its_odds(
    overlapping, float_images, logits, tmp_path
):
    model, names = overlapping
    path = tmp_path / "a.tflite"
    export.to_tflite(model, path, joint=True, class_names=names, images=float_images)
    outputs = run(path, float_images)
    assert export.read_labels(path)["joint"] == ("red", "blue", "x", "y", "u", "w")
    quadrant, colour = logits["quadrant"], logits["colour"]
    for name, column in (("red", 0), ("blue", 1)):
        both = [quadrant[:, names["quadrant"].index(name)], colour[:, names["colour"].index(name)]]
        expected = scipy.special.logsumexp(both, axis=0, b=0.5)
        np.testing.assert_allclose(outputs["joint"][:, column], expected, atol=1e-4)
    np.testing.assert_allclose(outputs["joint"][:, 4], colour[:, 1], atol=1e-4)


def test_joint_prediction_of_a_shared_class_has_no_int8(overlapping, images, tmp_path):
    model, names = overlapping
    with pytest.raises(NotImplementedError, match="share a class has no int8 form"):
        export.to_tflite(
            model, tmp_path / "a.tflite", "int8", images, joint=True, class_names=names
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.matrix
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float16", marks=pytest.mark.slow), "int8"]
)
def test_label_ids_are_those_of_the_largest_logits(
    precision, student, images, float_images, tmp_path
):
    artifact = export.to_tflite(
        student, tmp_path / "a.tflite", precision, images, top_k=3, joint=True, images=images
    )
    outputs = run(artifact.path, images if precision == "int8" else float_images)
    assert sorted(outputs) == sorted(
        name + kind for name in ("quadrant", "colour", "joint") for kind in ("", "_ids")
    )
    for name in ("quadrant", "colour", "joint"):
        ids = outputs[f"{name}_ids"]
        assert ids.shape == (64, 3) and ids.dtype == np.int32
        chosen = np.take_along_axis(outputs[name], ids, -1)
        np.testing.assert_array_equal(chosen, -np.sort(-outputs[name], axis=-1)[:, :3])


def test_head_with_fewer_classes_has_fewer_ids(nested_student, tmp_path):
    artifact = export.to_tflite(nested_student, tmp_path / "a.tflite", top_k=4)
    described = json.loads((tmp_path / "a.metadata.json").read_text())["outputs"]
    assert (described["wide_ids"]["shape"], described["narrow"]["shape"]) == ([1, 4], [1, 3])
    outputs = run(artifact.path, np.zeros((1, 28, 28, 1), np.float32))
    assert (outputs["wide_ids"].shape, outputs["narrow_ids"].shape) == ((1, 4), (1, 3))


def test_ids_that_are_not_the_largest_do_not_pass():
    logits = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])
    right = {"a": logits, "a_ids": np.array([[1, 2], [1, 0]])}
    labels = {"a": ("x", "y", "z")}
    assert list(decisions.check_ids(right, labels, "It")) == ["a"]
    assert set(decisions.check_ids(right, labels | {"a_ids": ("x", "y")}, "It")) == set(right)
    for wrong in ([[1, 0], [0, 1]], [[2, 1], [0, 1]]):
        with pytest.raises(ValueError, match="It gives label ids .*other ids at 'a_ids'"):
            decisions.check_ids(right | {"a_ids": np.array(wrong)}, labels, "It")


def test_int16_names_the_operator_that_it_lacks(student, images, tmp_path):
    with pytest.raises(NotImplementedError, match="operator TOPK_V2.*Leave `top_k` out, or use an"):
        export.to_tflite(student, tmp_path / "a.tflite", "int16", images, top_k=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "precision", ["int8", *(pytest.param(p, marks=pytest.mark.slow) for p in ("dynamic", "int16"))]
)
def test_the_successors_files_decide_alike(precision, student, images, logits, tmp_path):
    artifact = export.to_tflite(
        student, tmp_path / "a.tflite", precision, images, quantizer="litert", images=images
    )
    given = images.astype("float32")
    if precision == "int8":
        given = (images.astype(np.int16) - 128).astype(np.int8)
    outputs = run(artifact.path, given)
    for head, values in logits.items():
        assert outputs[head].dtype == np.float32
        assert (outputs[head].argmax(-1) == values.argmax(-1)).mean() >= 0.95


def test_missing_quantizer_is_named(student, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_quantizer", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-amalgam\[quantizer\]'"):
        export.to_tflite(student, tmp_path / "a.tflite", "int8", images, quantizer="litert")
    assert list(tmp_path.iterdir()) == []


def test_description_inside_and_beside_is_that_of_the_tensors(student, images, tmp_path):
    path = tmp_path / "phone.tflite"
    export.to_tflite(student, path, "int8", images, head_dtype="int8", joint=True, top_k=2)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        inside = archive.read("metadata.json").decode()
    assert inside == (tmp_path / "phone.metadata.json").read_text()
    described, runner = json.loads(inside), signature(path)
    assert (described["name"], described["precision"]) == ("student", "int8")
    for kind, given in (
        ("inputs", runner.get_input_details()),
        ("outputs", runner.get_output_details()),
    ):
        assert set(described[kind]) == set(given)
        for name, one in described[kind].items():
            assert one["dtype"] == given[name]["dtype"].__name__
            scale, zero_point = given[name]["quantization"]
            assert (one.get("scale", 0), one.get("zero_point", 0)) == (scale, zero_point)
    assert described["inputs"]["image"]["shape"] == [1, 28, 28, 3]
    assert described["inputs"]["image"]["channels"] == "rgb"
    assert described["outputs"]["colour"]["labels"] == list(student.class_names["colour"])
    assert described["outputs"]["joint_ids"] == {
        "shape": [1, 2],
        "kind": "label ids",
        "of": "joint",
        "dtype": "int32",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "no such precision. Received: 'int4'"),
        ({"image_dtype": "uint8"}, "image_dtype of float32. Received: 'uint8'"),
        ({"precision": "int8", "image_dtype": "int4"}, "image_dtype of int8. Received: 'int4'"),
        ({"precision": "int16", "head_dtype": "int8"}, "head_dtype of int16. Received: 'int8'"),
        ({"batch": 0}, "`batch` is no number of images. Received: 0"),
        ({"batch": "any"}, "`batch` is no number of images. Received: 'any'"),
        ({"quantizer": "mine"}, "no such quantizer. Received: 'mine'"),
        ({"quantizer": "litert"}, "precision of quantizer='litert'. Received: 'float32'"),
        (
            {"precision": "int8", "quantizer": "litert", "image_dtype": "uint8"},
            "image_dtype of quantizer='litert'. Received: 'uint8'",
        ),
    ],
)
def test_plan_refuses_what_does_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        Plan(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": -1}, "`top_k` is no number of classes. Received: -1"),
        ({"joint": True, "names": ("joint", "b")}, r"heads called \['joint'\]"),
        ({"top_k": 2, "names": ("a", "a_ids")}, r"heads called \['a_ids'\]"),
    ],
)
def test_names_of_further_outputs_are_kept_free(arguments, message, tmp_path):
    first, second = arguments.pop("names", ("a", "b"))
    image = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(image)
    model = keras.Model(image, {n: keras.layers.Dense(2)(x) for n in (first, second)})
    names = {first: ("x", "y"), second: ("u", "v")}
    with pytest.raises(ValueError, match=message):
        export.to_tflite(model, tmp_path / "a.tflite", class_names=names, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("top_k", [-1, 1.5, True, "2"])
def test_number_of_label_ids_is_a_whole_number(top_k, student, tmp_path):
    with pytest.raises(ValueError, match="`top_k` is no number of classes. Received: "):
        export.to_tflite(student, tmp_path / "a.tflite", top_k=top_k)


@pytest.mark.parametrize("batch", [0, 1.0, True])
def test_number_of_images_is_a_whole_number(batch, student, tmp_path):
    with pytest.raises(ValueError, match="`batch` is no number of images"):
        export.to_tflite(student, tmp_path / "a.tflite", batch=batch)
