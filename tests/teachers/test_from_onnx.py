"""Converted networks as users get them: the shipped teacher, saved, trained, tapped."""

import json
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_node

import keras_amalgam as ka
from keras_amalgam import teachers

DEMO = Path(ka.__file__).parent / "data" / "demo" / "teachers"


@pytest.fixture(scope="module")
def digits():
    """The demo's teacher as PyTorch exported it, converted."""
    return teachers.from_onnx(DEMO / "digits.onnx")


def test_demo_teacher_agrees_with_onnxruntime_for_batches_of_one_and_three(agrees):
    model = agrees(onnx.load(DEMO / "digits.onnx"))
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)


def test_demo_teacher_agrees_at_every_tensor(digits):
    report = teachers.check_parity(digits, DEMO / "digits.onnx", batch_sizes=(3,))
    assert len(report["taps"]) > 25
    for errors in (*report["outputs"].values(), *report["taps"].values()):
        assert errors["max_abs_error"] <= 1e-4
        assert errors["cosine"] > 0.999999


def test_demo_teacher_is_channels_last_with_real_weights(digits, transposes):
    layers = [type(layer) for layer in digits.layers]
    assert transposes(digits) == 0
    assert layers.count(keras.layers.Conv2D) == 11
    assert keras.layers.Permute not in layers
    card = json.loads((DEMO / "digits.json").read_text())
    assert digits.count_params() == pytest.approx(card["parameters"], rel=0.01)
    assert all(weight.trainable for weight in digits.weights)


def test_demo_teacher_is_tapped_by_its_pytorch_module(digits):
    names = digits.provenance.names
    assert names["layer2"] == names["relu_8"] == names["node_relu_8"]
    assert digits.get_layer(names["layer2"]).output.shape == (None, 7, 7, 80)
    assert digits.get_layer(names["layer1"]).output.shape == (None, 14, 14, 32)


def test_provenance_says_where_the_network_came_from(digits):
    provenance = digits.provenance
    card = json.loads((DEMO / "digits.json").read_text())
    assert provenance.source == "digits.onnx"
    assert provenance.sha256 == card["provenance"]["sha256"]
    assert provenance.framework.startswith("pytorch")
    assert provenance.opset == 20
    assert provenance.parity["outputs"]["logits"]["max_abs_error"] <= 1e-4
    assert json.loads(json.dumps(dict(provenance.parity)))["tolerance"] == 1e-4


def test_converted_network_is_a_teacher_with_a_tap_by_source_name(digits):
    teacher = ka.Teacher(
        digits,
        name="digits",
        class_names=list("0123456789"),
        tap="layer2",
        preprocessing=ka.Preprocessing(mean=0.1307, std=0.3081),
    )
    images = np.random.default_rng(0).integers(0, 255, (2, 28, 28, 1)).astype(np.float32)
    signals = teacher.signals(channels=1)(images)
    assert signals["features"]["features"].shape == (2, 7, 7, 80)
    np.testing.assert_allclose(
        signals["answers"][teacher.name], digits((images / 255 - 0.1307) / 0.3081), atol=1e-4
    )


@pytest.mark.slow
def test_converted_network_reloads_where_the_package_does_not_exist(
    network, agrees, run_without_package, tmp_path, random
):
    """With every kind of layer and operation that the importer writes by itself."""
    nodes = network.graph.node
    nodes[6].CopyFrom(
        make_node("AveragePool", ["d"], ["p1"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    )
    nodes.insert(6, make_node("Div", ["e", "s4"], ["d"]))
    nodes.insert(6, make_node("MaxPool", ["n"], ["e"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    nodes.insert(6, make_node("Neg", ["r2"], ["n"]))
    scale = random(4, 1, 1, low=1, high=2)
    network.graph.initializer.append(onnx.numpy_helper.from_array(scale, "s4"))
    next(t for t in network.graph.initializer if t.name == "w3").CopyFrom(
        onnx.numpy_helper.from_array(random(5, 4 * 5 * 4), "w3")
    )
    del network.graph.value_info[:]  # Sizes inferred before.
    model = agrees(network)
    images = random(3, 9, 8, 3)
    np.save(tmp_path / "images.npy", images)
    model.save(tmp_path / "model.keras")
    done = run_without_package(
        "import keras, numpy as np\n"
        "model = keras.saving.load_model('model.keras')\n"
        "np.save('outputs.npy', model.predict(np.load('images.npy'), verbose=0))\n"
        "print([layer.name for layer in model.layers])\n"
        "import keras_amalgam"
    )
    assert "ModuleNotFoundError: import of keras_amalgam halted" in done.stderr
    assert eval(done.stdout) == [layer.name for layer in model.layers]
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), expected, atol=1e-4)


def test_training_moves_every_weight(network, agrees, random):
    model = agrees(network)
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    model.fit(random(8, 9, 8, 3), random(8, 5), batch_size=8, epochs=1, verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        assert (keras.ops.convert_to_numpy(weight) != old).any(), weight.path


def test_global_precision_policy_does_not_reach_the_converted_network(network, agrees):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = agrees(network)
    finally:
        keras.config.set_dtype_policy(policy)
    assert {layer.compute_dtype for layer in model.layers[1:]} == {"float32"}


def test_several_outputs_become_a_dictionary(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "w"], ["map/one"]),
        make_node("GlobalMaxPool", ["map/one"], ["p"]),
        make_node("Flatten", ["p"], ["vector"]),
    ]
    source = build(nodes, (3, 5, 4), {"w": random(4, 3, 3, 3)}, outputs=["vector", "map/one"])
    model = agrees(source)
    assert {k: v.shape for k, v in model.output.items()} == {
        "vector": (None, 4),
        "map_one": (None, 3, 2, 4),
    }


def test_half_precision_weights_become_float32(build, random, tmp_path):
    half = random(4, 3, 3, 3).astype(np.float16)
    nodes = [make_node("Cast", ["w"], ["w32"], to=1), make_node("Conv", ["x", "w32"], ["y"])]
    onnx.save(build(nodes, (3, 5, 4), {"w": half}), tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx")
    np.testing.assert_array_equal(model.get_weights()[0], half.transpose(2, 3, 1, 0))


def test_network_of_bytes_takes_bytes(build, random, tmp_path):
    nodes = [
        make_node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
        make_node("Div", ["f", "most"], ["d"]),
        make_node("Transpose", ["d"], ["t"], perm=[0, 3, 1, 2]),
        make_node("Conv", ["t", "w"], ["y"]),
    ]
    constants = {"w": random(4, 3, 3, 3), "most": np.float32(255)}
    source = build(nodes, (7, 6, 3), constants)
    source.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(source, tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx")
    assert model.inputs[0].dtype == "uint8"
    assert model.provenance.parity["outputs"]["y"]["range"] > 0.5


@pytest.mark.parametrize(
    ("image", "given", "shape"),
    [
        ((3, "h", "w"), None, (None, None, None, 3)),
        ((3, "h", "w"), (7, 9, 3), (None, 7, 9, 3)),
        ((3, "h", "w"), (None, 9, 3), (None, None, 9, 3)),
        (("c", "h", "w"), (7, 9, 3), (None, 7, 9, 3)),
    ],
)
def test_open_sizes_stay_open_unless_they_are_given(build, random, tmp_path, image, given, shape):
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("GlobalMaxPool", ["c"], ["y"])]
    onnx.save(build(nodes, image, {"w": random(4, 3, 3, 3)}), tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx", input_shape=given)
    assert model.input_shape == shape


@pytest.mark.parametrize(
    ("image", "given", "message"),
    [
        (("c", 5, 4), None, "number of channels of input 'x' open"),
        ((3, 5, 4), (5, 5, 3), r"does not fit the file. Received: \(5, 5, 3\)"),
        ((3, 5, 4), (5, 4), "does not fit the file"),
    ],
)
def test_wrong_input_shape_is_refused(build, random, tmp_path, image, given, message):
    nodes = [make_node("Conv", ["x", "w"], ["y"])]
    onnx.save(build(nodes, image, {"w": random(4, 3, 3, 3)}), tmp_path / "network.onnx")
    with pytest.raises(ValueError, match=message):
        teachers.from_onnx(tmp_path / "network.onnx", input_shape=given)


def test_package_refuses_its_bare_name(tmp_path):
    import subprocess
    import sys

    folder = Path(teachers.__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", "import teachers"], cwd=folder, capture_output=True, text=True
    )
    assert "ImportError: This package is imported as keras_amalgam.teachers" in done.stderr


def test_open_size_among_the_numbers_asks_for_the_size(agrees, build):
    """A stand-in for the open height must never be computed with as if it were the height."""
    nodes = [
        make_node("Shape", ["x"], ["s"], start=2, end=3),
        make_node("Cast", ["s"], ["h"], to=onnx.TensorProto.FLOAT),
        make_node("Div", ["x", "h"], ["d"]),
        make_node("Relu", ["d"], ["y"]),
    ]
    source = build(nodes, (3, "height", "width"))
    with pytest.raises(NotImplementedError, match="leaves open. Pass `input_shape="):
        agrees(source, image=(3, 10, 8))
    agrees(source, image=(3, 10, 8), input_shape=(10, 8, 3))
