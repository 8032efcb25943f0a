"""The registry resolves versions and refuses what it does not know."""

import runpy

import pytest
from onnx.helper import make_node, make_opsetid

from keras_amalgam.teachers.onnx_graph import Node
from keras_amalgam.teachers.operators import activations, operator, registry, resolve, table


def _node(name, opset, domain=""):
    return Node(name, domain, opset, "here", ("x",), ("y",))


@pytest.mark.parametrize(
    ("opset", "handler"), [(6, activations.clip), (10, activations.clip), (11, None), (21, None)]
)
def test_newest_form_up_to_the_files_opset_is_chosen(opset, handler):
    assert resolve(_node("Clip", opset)) is (handler or activations.clip_by_inputs)


def test_second_registration_is_refused():
    with pytest.raises(ValueError, match=r"'Relu'.*since opset 1 is registered already, by 'relu'"):
        operator("Relu", since=1)(lambda call: call.value())


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

    @operator("Det", since=1)
    def det(call):
        """Nothing, wrongly."""
        return call.value()

    nodes = [make_node("Relu", ["x"], ["r"]), make_node("Det", ["r"], ["y"])]
    with pytest.raises(ValueError, match=r"different shapes at node 'y' \(Det\)"):
        agrees(build(nodes, (4, 4, 4)))  # It is used, and found wrong.


def test_module_prints_the_table(capsys):
    runpy.run_module("keras_amalgam.teachers.operators", run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.strip() == table()
    assert "| Conv | ai.onnx | 1 | Conv2D or DepthwiseConv2D" in printed
