"""Networks with several outputs: every one by its own name, one alone if it is asked for."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.writer import output_keys


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


def test_dictionary_of_a_keras_model_is_compared_key_by_key(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    made = {name: keras.layers.Dense(3, name=name)(x) for name in ("z", "b", "a")}
    keras.Model(image, made).save(tmp_path / "network.keras")
    model = teachers.from_keras(tmp_path / "network.keras")
    report = teachers.check_parity(model, tmp_path / "network.keras")
    assert set(report["outputs"]) == {"z", "b", "a"}
    swapped = keras.Model(model.input, dict(zip("zab", map(model.output.get, "azb"), strict=True)))
    with pytest.raises(ValueError, match="differs from its source"):
        teachers.check_parity(swapped, tmp_path / "network.keras")
