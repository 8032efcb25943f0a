"""The registry resolves versions and refuses what it does not know."""

import numpy as np
import onnx
import pytest
from keras import ops
from onnx.helper import make_node, make_opsetid

from keras_amalgam import teachers
from keras_amalgam.teachers.conversion.operators import (
    activations,
    register_operator,
    registry,
    resolve,
    table,
)
from keras_amalgam.teachers.onnx_files.graph import Node


def _node(name, opset, domain=""):
    return Node(name, domain, opset, "here", ("x",), ("y",))


@pytest.mark.parametrize(
    ("opset", "handler"), [(6, activations.clip), (10, activations.clip), (11, None), (21, None)]
)
def test_newest_form_up_to_the_files_opset_is_chosen(opset, handler):
    assert resolve(_node("Clip", opset)) is (handler or activations.clip_by_inputs)


def test_second_registration_is_refused():
    with pytest.raises(ValueError, match=r"'Relu'.*since opset 1 is registered already, by 'relu'"):
        register_operator("Relu", since=1)(lambda call: call.value())


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (_node("Bernoulli", 15), r"nothing is registered"),
        (_node("Relu", 17, "com.microsoft"), r"nothing is registered"),
        (_node("Gelu", 18), r"known since opset 20"),
    ],
)
def test_unknown_operator_is_refused(node, words):
    with pytest.raises(NotImplementedError, match=words):
        resolve(node)


@pytest.mark.parametrize(
    ("operator", "domain", "message"),
    [
        ("Det", "", r"'Det' \(domain ai.onnx, opset 17, node 'odd'\)"),
        ("Swirl", "org.example", r"'Swirl' \(domain org.example, opset 3, node 'odd'\)"),
    ],
)
def test_unknown_operator_in_a_file_is_named_with_domain_opset_and_node(
    agrees, build, operator, domain, message
):
    nodes = [make_node("Relu", ["x"], ["r"]), make_node("Relu", ["r"], ["y"], name="odd")]
    source = build(nodes, (3, 4, 4))
    source.graph.node[1].op_type, source.graph.node[1].domain = operator, domain
    source.opset_import.append(make_opsetid("org.example", 3))
    with pytest.raises(NotImplementedError, match=message):
        agrees(source)


def test_registered_operator_of_a_users_own_is_used(agrees, build, monkeypatch):
    handlers = {key: dict(versions) for key, versions in registry._HANDLERS.items()}
    monkeypatch.setattr(registry, "_HANDLERS", handlers)

    @register_operator("Det", since=1)
    def det(call):
        """Nothing, wrongly."""
        return call.value()

    nodes = [make_node("Relu", ["x"], ["r"]), make_node("Det", ["r"], ["y"])]
    with pytest.raises(ValueError, match=r"different shapes at node 'y' \(Det\)"):
        agrees(build(nodes, (4, 4, 4)), verify=True)  # It is used, and found wrong.


def test_operator_of_a_users_own_converts_like_any_other(tmp_path, build, monkeypatch):
    """As the guide shows it, on a domain that no runtime here knows; compared with NumPy."""
    handlers = {key: dict(versions) for key, versions in registry._HANDLERS.items()}
    monkeypatch.setattr(registry, "_HANDLERS", handlers)

    @teachers.register_operator("Squareplus", since=1, domain="my.operators")
    def squareplus(call):
        """ops.sqrt of a square."""
        value = call.value()
        square = call.write.operation(ops.square, value.tensor, part="square")
        shifted = call.write.operation(ops.add, square, call.attribute("b", 4.0), part="shift")
        root = call.write.operation(ops.sqrt, shifted, part="root")
        total = call.write.operation(ops.add, root, value.tensor, part="sum")
        return value.with_tensor(call.write.operation(ops.multiply, total, 0.5))

    node = make_node("Squareplus", ["x"], ["y"], name="bend", domain="my.operators", b=1.0)
    source = build([make_node("Relu", ["x"], ["y"])], (3, 5, 4))
    source.graph.node[0].CopyFrom(node)
    source.opset_import.append(make_opsetid("my.operators", 1))
    onnx.save(source, tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx", verify=False)
    x = np.linspace(-3, 3, 60, dtype=np.float32).reshape(1, 5, 4, 3)
    np.testing.assert_allclose(model(x), (x + np.sqrt(x**2 + 1)) / 2, atol=1e-6)
    assert model.provenance.names["bend"] == "bend"
    assert "| Squareplus | my.operators | 1 | ops.sqrt of a square |" in table()
