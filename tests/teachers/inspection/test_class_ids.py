"""Outputs that are the ids of classes are told from logits by `inspect`, in every format."""

import keras
import numpy as np
import onnx
import pytest
from keras import ops
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.cli.main import main

IDS = "whole numbers, such as class ids"
TOLD_APART = {
    "ids": IDS,
    "float_ids": IDS,
    "best": IDS,
    "scores": "logits or numbers, cannot tell",
}


def top_k_model(names=tuple(TOLD_APART)):
    image = keras.Input((8, 8, 3), name="photo")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(image))
    scores, ids = ops.top_k(keras.layers.Dense(9)(x), 3)
    outputs = {
        "ids": ids,
        "float_ids": ops.cast(ids, "float32"),
        "best": ops.argmax(x, axis=-1, keepdims=True),
        "scores": scores,
    }
    return keras.Model(image, {name: outputs[name] for name in names})


@pytest.mark.matrix
@pytest.mark.parametrize("file", ["n.keras", "n.tflite", "n"])
def test_ids_are_told_from_scores(file, tmp_path):
    # Alone, as what reads on from an output takes its note away.
    for name in TOLD_APART:
        model, path = top_k_model([name]), tmp_path / name / file
        path.parent.mkdir()
        if file == "n.keras":
            model.save(path)
        else:
            format = {".tflite": "litert", "": "tf_saved_model"}[path.suffix]
            model.export(path, format=format, verbose=False)
        (output,) = teachers.inspect(path).outputs
        assert output.note == TOLD_APART[name], name


@pytest.mark.parametrize(
    ("nodes", "dtype"),
    [
        ([make_node("TopK", ["l", "k"], ["v", "y"])], "INT64"),
        (
            [make_node("TopK", ["l", "k"], ["v", "i"]), make_node("Cast", ["i"], ["y"], to=1)],
            "FLOAT",
        ),
        ([make_node("ArgMax", ["l"], ["y"], axis=1)], "INT64"),
    ],
)
def test_onnx_files_of_others_are_advised_alike(network, nodes, dtype, tmp_path, capsys):
    network.graph.node[-1].output[0] = "l"
    network.graph.node.extend(nodes)
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "k"))
    shape = [None, 1 if nodes[0].op_type == "ArgMax" else 2]
    output = onnx.helper.make_tensor_value_info("y", getattr(onnx.TensorProto, dtype), shape)
    network.graph.output[0].CopyFrom(output)
    onnx.save(network, tmp_path / "n.onnx")
    assert main(["inspect", str(tmp_path / "n.onnx")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"The output seems to be {IDS}: it can teach only if their softmax is the" in said


def test_one_id_for_each_image_is_no_answer(tmp_path, capsys):
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, ops.argmax(x, axis=-1)).save(tmp_path / "n.keras")
    assert main(["inspect", str(tmp_path / "n.keras")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No teacher can be made of it: its output" in said
    assert "is numbers on a single axis, not logits" in said
    assert "keras-amalgam convert" not in said
