"""Operators that a user registers: what their functions return is checked, by name."""

import keras
import onnx
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.conversion.operators import registry


@pytest.fixture
def convert(build, tmp_path, monkeypatch):
    """Convert one node of `com.kitchen` by a function."""
    handlers = {key: dict(versions) for key, versions in registry._HANDLERS.items()}
    monkeypatch.setattr(registry, "_HANDLERS", handlers)

    def convert(handler):
        teachers.register_operator("Stir", since=1, domain="com.kitchen")(handler)
        source = build(
            [make_node("Relu", ["x"], ["r"]), make_node("Relu", ["r"], ["y"])], (3, 4, 4)
        )
        node = source.graph.node[1]
        node.op_type, node.domain, node.name = "Stir", "com.kitchen", "pot"
        source.opset_import.append(onnx.helper.make_opsetid("com.kitchen", 1))
        onnx.save(source, tmp_path / "network.onnx")
        return teachers.from_onnx(tmp_path / "network.onnx", verify=False)

    return convert


@pytest.mark.parametrize(
    ("result", "received"),
    [
        (lambda call: None, "NoneType"),
        (lambda call: keras.ops.abs(call.value(0).tensor), "KerasTensor"),
        (lambda call: (call.value(0), None), "NoneType"),
        (lambda call: [call.value(0)], "list"),
    ],
)
def test_function_that_returns_no_value_is_named_with_its_node(convert, result, received):
    def stirred(call):
        """Nothing."""
        return result(call)

    said = rf"'stirred'.*'Stir' .*com.kitchen.*'pot'.*Value.*Received: {received}.*with_tensor"
    with pytest.raises(TypeError, match=said):
        convert(stirred)


def test_function_that_returns_a_value_converts_the_node(convert):
    def stirred(call):
        """Abs."""
        value = call.value(0)
        return value.with_tensor(call.write.operation(keras.ops.abs, value.tensor))

    assert "pot" in [layer.name for layer in convert(stirred).layers]
