"""What `inspect` says about files of every format, without converting what cannot be."""

import hashlib
import json
import pathlib
import zipfile

import h5py
import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_node

import keras_amalgam as ka
from keras_amalgam import teachers

DEMO = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers"


def small_model(first=()):
    layers = [
        keras.Input((16, 16, 3), name="photo"),
        *first,
        keras.layers.Conv2D(4, 3, strides=2, padding="same", name="stem", bias_initializer="ones"),
        keras.layers.ReLU(name="map"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(5, activation="softmax", name="classes", bias_initializer="ones"),
    ]
    return keras.Sequential(layers, name="small")


def test_onnx_file_is_described_from_end_to_end():
    found = teachers.inspect(DEMO / "digits.onnx")
    content = (DEMO / "digits.onnx").read_bytes()
    assert (found.format, found.obstacle, found.opsets) == ("ONNX", "", {"ai.onnx": 20})
    assert found.producer == "pytorch 2.13.0+cpu"
    assert (found.bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.parameters == 232698 and found.nodes == 27
    (image,), (logits,) = found.inputs, found.outputs
    assert (image.name, image.shape, image.note) == ("images", (None, 1, 28, 28), "channels first")
    assert (logits.name, logits.shape) == ("logits", (None, 10))
    assert logits.note == "logits or numbers, cannot tell"
    assert found.operators[0].name == "Conv" and found.operators[0].count == 11
    assert all(operator.converts for operator in found.operators)
    tap = found.default_tap
    assert (tap.name, tap.module, tap.shape) == ("node_relu_8", "layer2", (None, 7, 7, 80))
    assert [t.shape[1:] for t in found.taps] == [(28, 28, 16), (14, 14, 32), (7, 7, 80), (80,)]
    assert json.loads(json.dumps(found.to_config()))["taps"][2]["is_default"]


def test_every_candidate_is_a_tap_of_the_converted_teacher():
    found = teachers.inspect(DEMO / "digits.onnx")
    model = teachers.from_onnx(DEMO / "digits.onnx", verify=False)
    preprocessing = ka.Preprocessing(mean=0.13, std=0.3)
    for tap in found.taps:
        teacher = ka.Teacher(
            model, "digits", list("0123456789"), tap=tap.name, preprocessing=preprocessing
        )
        assert tuple(teacher.signals(1).output["features"]["features"].shape[-1:]) == tap.shape[-1:]


def test_unknown_operators_are_listed_first_with_their_first_node_and_taps_still_found(
    network, tmp_path
):
    for name in ("/stem/strange", "/body/strange"):
        node = next(n for n in network.graph.node if n.name.startswith(name[:5]))
        index = list(network.graph.node).index(node)
        network.graph.node.insert(
            index + 1,
            make_node("Strange", [node.output[0]], [f"{name}_out"], name=name, domain="com.corp"),
        )
        for reader in list(network.graph.node)[index + 2 :]:
            for position, tensor in enumerate(reader.input):
                if tensor == node.output[0]:
                    reader.input[position] = f"{name}_out"
    network.opset_import.append(onnx.helper.make_opsetid("com.corp", 1))
    onnx.save(network, tmp_path / "n.onnx")
    found = teachers.inspect(tmp_path / "n.onnx")
    assert "'Strange' (domain com.corp, opset 1, node '/stem/strange')" in found.obstacle
    assert found.runtime == "onnxruntime"
    first = found.operators[0]
    assert (first.name, first.count, first.converts) == ("com.corp.Strange", 2, False)
    assert first.first_node == "/stem/strange"
    assert [operator.converts for operator in found.operators[1:]].count(False) == 0
    assert found.default_tap.name == "/pool"
    assert found.inputs[0].note == "channels first"


@pytest.mark.parametrize(
    ("last", "note"),
    [
        ("Softmax", "probabilities"),
        ("LogSoftmax", "logits"),
        ("Sigmoid", "5 independent sigmoids"),
        ("HardSigmoid", "hard sigmoids"),
        ("Tanh", "numbers in -1..1"),
        ("Identity", "logits or numbers, cannot tell"),
    ],
)
def test_answers_of_onnx_files_are_told_apart(network, tmp_path, last, note):
    network.graph.node[-1].output[0] = "logits"
    network.graph.node.append(make_node(last, ["logits"], ["y"], name="/last"))
    onnx.save(network, tmp_path / "n.onnx")
    assert teachers.inspect(tmp_path / "n.onnx").outputs[0].note == note


def test_normalisation_in_an_onnx_file_is_seen(network, tmp_path):
    network.graph.node[0].input[0] = "scaled"
    network.graph.node.insert(0, make_node("Mul", ["x", "factor"], ["scaled"], name="/Mul"))
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1 / 255]), "factor"))
    onnx.save(network, tmp_path / "n.onnx")
    assert str(teachers.inspect(tmp_path / "n.onnx").built_in) == "pixels / 255"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_keras_file_is_described(tmp_path, suffix):
    path = tmp_path / f"n{suffix}"
    small_model([keras.layers.Rescaling(1 / 255, name="rescaling")]).save(path)
    found = teachers.inspect(path)
    assert (found.format, found.obstacle, found.runtime) == ("Keras", "", "")
    assert found.producer == f"keras {keras.__version__}"
    assert (found.inputs[0].shape, found.inputs[0].note) == ((None, 16, 16, 3), "channels last")
    assert found.outputs[0].note == "probabilities"
    assert found.parameters == 4 * (27 + 1) + 5 * (4 + 1)
    assert str(found.built_in) == "pixels / 255"
    assert [tap.name for tap in found.taps] == ["map", "pool"]
    assert found.default_tap.shape == (None, 8, 8, 4)


def test_layers_of_nested_models_are_found_under_their_path(tmp_path):
    inputs = keras.Input((16, 16, 3))
    x = keras.Sequential([keras.Input((16, 16, 3)), *small_model().layers[:2]], name="trunk")(
        inputs
    )
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    keras.Model(inputs, outputs).save(tmp_path / "n.keras")
    tap = teachers.inspect(tmp_path / "n.keras").default_tap
    assert (tap.name, tap.shape) == ("trunk/map", (None, 8, 8, 4))
    model = teachers.from_keras(tmp_path / "n.keras")
    ka.Teacher(model, "n", list("abc"), tap=tap.name, preprocessing=ka.Preprocessing())


def test_keras_file_with_code_is_described_and_not_loaded(tmp_path):
    small_model([keras.layers.Lambda(lambda x: x / 255, name="code")]).save(tmp_path / "n.keras")
    found = teachers.inspect(tmp_path / "n.keras")
    assert "Lambda" in found.obstacle or "code" in found.obstacle
    assert (found.operators[0].name, found.operators[0].converts) == ("Lambda", False)
    assert {o.name for o in found.operators} >= {"Conv2D", "Dense", "ReLU"}


def test_file_of_weights_asks_for_the_architecture(tmp_path):
    small_model().save_weights(tmp_path / "n.weights.h5")
    found = teachers.inspect(tmp_path / "n.weights.h5")
    assert "weights without their architecture" in found.obstacle
    assert found.parameters == 137


def test_tflite_file_is_described_as_far_as_its_interpreter_shows(tmp_path):
    model = small_model()
    model.export(tmp_path / "n.tflite", format="litert", verbose=False)
    found = teachers.inspect(tmp_path / "n.tflite")
    assert (found.format, found.runtime) == ("TFLite", "LiteRT")
    assert "not converted into Keras" in found.obstacle
    assert (found.inputs[0].shape, found.inputs[0].note) == ((None, 16, 16, 3), "channels last")
    assert found.outputs[0].note == "probabilities"
    assert {o.name for o in found.operators} >= {"CONV_2D", "FULLY_CONNECTED", "SOFTMAX"}
    assert found.default_tap.shape == (None, 8, 8, 4)
    assert found.parameters == 137


def test_saved_model_is_described_by_its_converted_form(tmp_path):
    small_model().export(tmp_path / "sm", verbose=False)
    found = teachers.inspect(tmp_path / "sm")
    assert (found.format, found.obstacle, found.runtime) == ("SavedModel", "", "TensorFlow")
    assert found.producer.startswith("tensorflow 2")
    assert (found.inputs[0].shape, found.inputs[0].note) == ((None, 16, 16, 3), "channels last")
    assert found.default_tap.shape == (None, 8, 8, 4)
    assert found.outputs[0].note == "probabilities"


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("a.onnx", b"no model", ValueError, "no ONNX"),
        ("a.keras", b"no model", ValueError, "cut off or damaged"),
        ("a.h5", b"no model", ValueError, "cut off or damaged"),
        ("a.tflite", b"no model", ValueError, "no TFLite file"),
        ("a.pt", b"no model", ValueError, r"Received: 'a.pt'. Expected: .onnx"),
        ("missing.onnx", None, FileNotFoundError, "There is no file"),
    ],
)
def test_damaged_foreign_and_missing_files_are_refused(tmp_path, name, content, error, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said):
        teachers.inspect(tmp_path / name)


@pytest.mark.parametrize(
    "config", [b"[]", b"[" * 100_000, b" " * (64 * 2**20 + 1), b"{", b"7"],
    ids=["list", "deep", "large", "cut", "number"],
)  # fmt: skip
def test_keras_file_with_a_malicious_configuration_is_refused(tmp_path, config):
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match=r"n\.keras"):
        teachers.inspect(tmp_path / "n.keras")


def test_h5_file_with_a_number_for_a_configuration_is_refused(tmp_path):
    small_model().save(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = 7
    with pytest.raises(ValueError, match="is no JSON"):
        teachers.from_keras(tmp_path / "n.h5")
    assert not teachers.inspect(tmp_path / "n.h5").inputs


@pytest.mark.slow
@pytest.mark.parametrize("read", [teachers.from_onnx, teachers.inspect])
def test_chain_deeper_than_python_calls_functions_is_said(tmp_path, build, read):
    nodes = [make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(2000)]
    nodes[0].input[0] = "x"
    onnx.save(build(nodes, (3, 5, 4)), tmp_path / "deep.onnx")
    if read is teachers.inspect:
        assert "deeper than Python calls functions" in read(tmp_path / "deep.onnx").obstacle
    else:
        with pytest.raises(ValueError, match="deeper than Python calls functions"):
            read(tmp_path / "deep.onnx")


@pytest.mark.parametrize("layers", [5, None, {"a": 1}], ids=str)
def test_keras_file_whose_layers_are_no_list_is_described(tmp_path, layers):
    path = tmp_path / "n.keras"
    small_model().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"] = layers
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    found = teachers.inspect(path)
    assert "Keras cannot load 'n.keras'" in found.obstacle and not found.operators


def _softmax(axis):
    """What follows the five logits `l`: reshapings around a softmax of an axis."""
    return [
        make_node("Reshape", ["l", "inside"], ["i"], name="/in"),
        make_node("Softmax", ["i"], ["soft"], name="/softmax", axis=axis),
        make_node("Reshape", ["soft", "outside"], ["y"], name="/out"),
    ]


@pytest.mark.parametrize(
    ("inside", "axis", "note"),
    [
        ((0, 5), -1, "probabilities"),
        ((0, 5), 1, "probabilities"),
        ((0, 5, 1, 1), 1, "probabilities"),
        ((0, 5, 1, 1), -3, "probabilities"),
        ((0, 5), 0, "logits or numbers, cannot tell"),
        ((0, 5, 1), -1, "logits or numbers, cannot tell"),
        ((0, 5, 1, 1), -1, "logits or numbers, cannot tell"),
        ((-1, 1), -1, "logits or numbers, cannot tell"),
    ],
)
def test_softmax_in_an_onnx_file_counts_only_over_the_classes(
    network, tmp_path, inside, axis, note
):
    network.graph.node[-1].output[0] = "l"
    network.graph.node.extend(_softmax(axis=axis))
    for name, value in {"inside": inside, "outside": (-1, 5)}.items():
        network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    onnx.save(network, tmp_path / "n.onnx")
    assert teachers.inspect(tmp_path / "n.onnx").outputs[0].note == note


def test_softmax_over_groups_of_a_tflite_file_is_none_over_the_classes(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(6)(keras.layers.GlobalAveragePooling2D()(image))
    for name, inside in (("classes", (6,)), ("groups", (2, 3))):
        grouped = keras.layers.Softmax()(keras.layers.Reshape(inside)(x))
        model = keras.Model(image, keras.layers.Reshape((6,))(grouped))
        model.export(tmp_path / f"{name}.tflite", format="litert", verbose=False)
    notes = [
        teachers.inspect(tmp_path / f"{name}.tflite").outputs[0].note
        for name in ("classes", "groups")
    ]
    assert notes == ["probabilities", "logits or numbers, cannot tell"]


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize(
    "end",
    [
        lambda x: keras.ops.softmax(keras.layers.Dense(5)(x), axis=0),
        lambda x: keras.layers.Softmax(axis=1)(keras.layers.Reshape((1, 1, 5))(x)),
        lambda x: keras.layers.LSTM(5, activation="softmax")(keras.layers.Reshape((5, 1))(x)),
    ],
    ids=["over the batch", "over a map's rows", "inside of a recurrent layer"],
)
def test_softmax_in_a_keras_file_counts_only_over_the_classes(end, tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(image))
    keras.Model(image, end(x)).save(tmp_path / "n.keras")
    note = teachers.inspect(tmp_path / "n.keras").outputs[0].note
    assert note == "logits or numbers, cannot tell"
