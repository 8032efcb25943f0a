"""What is no classifier's answer is refused in a runtime as it is after a conversion."""

import re

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx.helper import make_node

import keras_amalgam as ka
from keras_amalgam import teachers

NORMAL = ka.Preprocessing(mean=0.4, std=0.3)
MULTI_LABEL = "4 independent sigmoids .a multi-label head, several labels can hold at once"


def head(build, random, path, *ends):
    """An ONNX file of a convolution to four maps, and what comes behind it."""
    constants = {"w": random(4, 3, 3, 3), "rows": np.int64([0, -1, 4])}
    nodes = [make_node("Conv", ["x", "w"], ["c"], name="conv"), *ends]
    onnx.save(build(nodes, (3, 9, 8), constants), path)
    return path


POOLED = [
    make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
    make_node("Flatten", ["p"], ["f"], name="flat"),
]
ENDS = {
    "sigmoids": ([*POOLED, make_node("Sigmoid", ["f"], ["y"])], MULTI_LABEL),
    "mask": ([make_node("Sigmoid", ["c"], ["y"])], r"a map, such as a mask.*\(None, 7, 6, 4\)"),
    "boxes": ([make_node("Reshape", ["c", "rows"], ["y"])], r"rows.*boxes.*\(None, 42, 4\)"),
    "embedding": (
        [*POOLED, make_node("LpNormalization", ["f"], ["y"], axis=1)],
        "an embedding, as they are vectors of length one",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_runtime_teacher_that_is_no_classifier_is_refused_as_what_it_is(
    end, build, random, tmp_path
):
    nodes, says = ENDS[end]
    path = head(build, random, tmp_path / "n.onnx", *nodes)
    with pytest.raises(ValueError, match=f"Teacher 'four' .*{says}"):
        teachers.runtime_teacher(path, "four", list("abcd"), preprocessing=NORMAL)


def test_sigmoids_of_a_runtime_are_classes_where_that_is_said(build, random, tmp_path):
    nodes, _ = ENDS["sigmoids"]
    path = head(build, random, tmp_path / "n.onnx", *nodes)
    teacher = teachers.runtime_teacher(
        path, "four", list("abcd"), preprocessing=NORMAL, outputs="sigmoid"
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3)).astype("uint8")
    logits = np.asarray(teacher.answers(3)(images)[teacher.name], "float64")
    fed = ((images / 255 - 0.4) / 0.3).astype("float32")
    expected = teacher.runtime.run(fed)["y"]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-6)


def test_quantized_sigmoids_that_are_zero_on_noise_are_not_taken_for_logits(tmp_path):
    """A detector that finds nothing in noise: rounded to eight bits, its answers are zeros."""
    image = keras.Input((8, 8, 3), batch_size=1)
    x = keras.layers.GlobalAveragePooling2D()(image)
    low = keras.initializers.Constant(-9)
    y = keras.layers.Dense(4, activation="sigmoid", bias_initializer=low)(0.01 * x)
    keras.Model(image, y).export(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    images = np.random.default_rng(0).uniform(-1, 1, (4, 1, 8, 8, 3)).astype("float32")
    converter.representative_dataset = lambda: ([one] for one in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (tmp_path / "n.tflite").write_bytes(converter.convert())
    runtime = teachers.open_runtime(tmp_path / "n.tflite")
    assert not runtime.run(images[0])[runtime.output].any()
    with pytest.raises(ValueError, match=MULTI_LABEL):
        ka.RuntimeTeacher(runtime, "four", list("abcd"), preprocessing=NORMAL)


@pytest.mark.parametrize("end", ["mask", "boxes"])
def test_inspect_names_what_is_no_classifiers_and_advises_no_teacher(
    end, build, random, tmp_path, capsys
):
    from keras_amalgam.cli.main import main

    nodes, _ = ENDS[end]
    path = head(build, random, tmp_path / "n.onnx", *nodes)
    note = {"mask": "a map, not logits", "boxes": "rows of numbers, not logits"}[end]
    assert [output.note for output in teachers.inspect(path).outputs] == [note]
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"No teacher can be made of it: its output 'y' is {note}." in said
    assert "keras-amalgam convert" not in said


def test_inspect_advises_what_must_be_said_of_sigmoids_and_what_of_numbers(
    build, random, tmp_path, capsys
):
    from keras_amalgam.cli.main import main

    for nodes, advice, flag in (
        (ENDS["sigmoids"][0], "4 independent sigmoids: it can teach only if exactly one", True),
        ([*POOLED[:1], make_node("Flatten", ["p"], ["y"])], "may be logits or numbers", False),
    ):
        path = head(build, random, tmp_path / "n.onnx", *nodes)
        assert main(["inspect", str(path)]) == 0
        said = capsys.readouterr().out
        assert f"The output {'seems to be ' * flag}{advice}" in re.sub(r"\s+", " ", said)
        assert ("--outputs sigmoid" in said) is flag
