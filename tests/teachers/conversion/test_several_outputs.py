"""Networks with several outputs: every one by its own name, one alone if it is asked for."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.teachers.conversion.writer import output_keys


def heads(build, random, names, size=5):
    """A network whose outputs are dense layers of different weights, all of one shape."""
    nodes = [
        make_node("Conv", ["x", "w"], ["c"], name="/stem/Conv"),
        make_node("Relu", ["c"], ["r"], name="/stem/Relu"),
        make_node("GlobalAveragePool", ["r"], ["p"], name="/pool"),
        make_node("Flatten", ["p"], ["f"], name="/flat"),
    ]
    constants = {"w": random(4, 3, 3, 3)}
    for number, name in enumerate(names):
        constants[f"w{number}"] = random(4, size, seed=number + 1)
        nodes.append(make_node("Gemm", ["f", f"w{number}"], [name], name=f"/head{number}/Gemm"))
    return build(nodes, (3, 8, 8), constants, outputs=list(names))


@pytest.fixture
def written(build, random, tmp_path):
    """Write `heads` and give the path."""

    def write(*names):
        onnx.save(heads(build, random, names), tmp_path / "network.onnx")
        return tmp_path / "network.onnx"

    return write


def answers(path, images):
    """What onnxruntime gives, by name, for images with channels last."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": images.transpose(0, 3, 1, 2)}), strict=True))


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("z", "a"), {"z": "z", "a": "a"}),
        (
            tuple(f"output_{n}" for n in range(12)),
            {f"output_{n}": f"output_{n}" for n in range(12)},
        ),
        (("a/b", "a_b", "a:b"), {"a/b": "a_b_2", "a_b": "a_b", "a:b": "a_b_3"}),
        (("a/b", "a_b_2", "a b"), {"a/b": "a_b", "a_b_2": "a_b_2", "a b": "a_b_3"}),
        (("A", "a"), {"A": "A", "a": "a"}),
    ],
)
def test_every_output_is_compared_with_its_own_whatever_the_names(written, random, names, keys):
    path = written(*names)
    model = teachers.from_onnx(path)
    assert output_keys(names) == keys and set(model.output) == set(keys.values())
    images = random(2, 8, 8, 3)
    received = model(images, training=False)
    for name, expected in answers(path, images).items():
        np.testing.assert_allclose(received[keys[name]], expected, atol=1e-5)
    assert list(teachers.check_parity(model, path)["outputs"]) == list(names)


def keras_network():
    """A Keras model whose dictionary is in no alphabetical order."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    return keras.Model(
        image, {name: keras.layers.Dense(3, name=name)(x) for name in ("z", "b", "a")}
    )


def test_dictionary_of_a_keras_model_is_compared_key_by_key(tmp_path):
    keras_network().save(tmp_path / "network.keras")
    model = teachers.from_keras(tmp_path / "network.keras")
    report = teachers.check_parity(model, tmp_path / "network.keras")
    assert set(report["outputs"]) == {"z", "b", "a"}
    swapped = keras.Model(model.input, dict(zip("zab", map(model.output.get, "azb"), strict=True)))
    with pytest.raises(ValueError, match="differs from its source"):
        teachers.check_parity(swapped, tmp_path / "network.keras")


def test_one_output_is_converted_with_what_it_needs_and_no_more(build, random, tmp_path):
    source = heads(build, random, ("z", "a", "m"))
    source.graph.node[-1].op_type, source.graph.node[-1].domain = "Gelatine", "com.kitchen"
    source.opset_import.append(onnx.helper.make_opsetid("com.kitchen", 2))
    onnx.save(source, tmp_path / "network.onnx")
    with pytest.raises(NotImplementedError, match="Gelatine"):
        teachers.from_onnx(tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx", output="a")
    assert model.output_shape == (None, 5) and model.provenance.output == "a"
    assert list(model.provenance.parity["outputs"]) == ["a"]
    assert not [layer for layer in model.layers if layer.name.startswith("head0")]


def test_source_of_several_outputs_is_compared_with_the_one_that_was_taken(written, tmp_path):
    path = written("z", "a", "m")
    model = teachers.from_onnx(path, output="a")
    assert list(teachers.check_parity(model, path)["outputs"]) == ["a"]
    model.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")  # Without its provenance.
    assert list(teachers.check_parity(again, path)["outputs"]) == ["a"]
    whole = teachers.from_onnx(path)
    part = keras.Model(whole.input, whole.output["m"])
    assert list(teachers.check_parity(part, path)["outputs"]) == ["m"]


def test_corrupted_head_is_not_taken_for_another(written):
    path = written("z", "a")
    model = teachers.from_onnx(path, output="a")
    head = model.get_layer("head1_Gemm")
    head.set_weights([teachers.from_onnx(path, output="z").get_layer("head0_Gemm").kernel.numpy()])
    with pytest.raises(ValueError, match="differs from its source.*'/head1/Gemm'|tensor 'a'"):
        teachers.check_parity(model, path)


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        ("logits", ValueError, r"'network.onnx' has no output 'logits'.*\['z', 'a'\]"),
        (0, TypeError, "must be the name of an output. Received: 0"),
    ],
)
def test_output_that_is_not_there_is_refused(written, output, error, said):
    with pytest.raises(error, match=said):
        teachers.from_onnx(written("z", "a"), output=output)


@pytest.mark.matrix
@pytest.mark.parametrize("output", ["z", "a"])
def test_one_output_of_a_keras_file_or_saved_model_is_taken(random, tmp_path, output):
    network = keras_network()
    images = random(2, 8, 8, 3)
    expected = network(images)[output]
    network.save(tmp_path / "network.keras")
    network.export(tmp_path / "saved", verbose=False)
    for read, path in (
        (teachers.from_keras, tmp_path / "network.keras"),
        (teachers.from_saved_model, tmp_path / "saved"),
    ):
        model = read(path, output=output)
        np.testing.assert_allclose(model(images), expected, atol=1e-5)
        assert model.provenance.output == output
        assert list(teachers.check_parity(model, path)["outputs"]) == [output]
        with pytest.raises(ValueError, match="has no output 'q'"):
            read(path, output="q")


def test_every_output_of_a_saved_model_bears_its_name_in_the_signature(random, tmp_path):
    network = keras_network()
    network.export(tmp_path / "saved", verbose=False)
    model = teachers.from_saved_model(tmp_path / "saved")
    images = random(2, 8, 8, 3)
    for name, expected in network(images).items():
        np.testing.assert_allclose(model(images)[name], expected, atol=1e-5)


@pytest.mark.slow
def test_teacher_of_one_output_is_saved_with_its_name_and_compared(written, tmp_path):
    path = written("z", "a")
    teacher = ka.Teacher(
        teachers.from_onnx(path, output="a"),
        "shapes",
        list("abcde"),
        preprocessing=ka.Preprocessing(scale=1 / 255),
    )
    teacher.save(tmp_path / "teacher")
    card = json.loads((tmp_path / "teacher" / "card.json").read_text())
    assert card["provenance"]["output"] == "a"
    again = teachers.load(tmp_path / "teacher")
    assert list(teachers.check_teacher(again, path)["outputs"]) == ["a"]
    del card["provenance"]["output"]  # As earlier cards.
    (tmp_path / "teacher" / "card.json").write_text(json.dumps(card))
    again = teachers.load(tmp_path / "teacher")
    assert again.provenance.output is None
    assert list(teachers.check_teacher(again, path)["outputs"]) == ["a"]
