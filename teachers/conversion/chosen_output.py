"""One of several outputs: which there are, which was asked for, and which a model was made of."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import keras

from keras_amalgam.models.taps import without_lists_of_one
from keras_amalgam.teachers.conversion.passes.rewriting import without_unused
from keras_amalgam.teachers.onnx_files.graph import Graph


def named_outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """A model's outputs by its dictionary's keys, else by `output_0` and so on.

    `model.outputs` is no place for names: Keras sorts a dictionary's outputs by their keys there.
    """
    if isinstance(model.output, dict):
        return dict(model.output)
    return {f"output_{index}": tensor for index, tensor in enumerate(model.outputs)}


def check_output(output: str | None, names: Collection[str], owner: str) -> None:
    """Refuse an output that is not there.

    Args:
        output: As the user says; `None` for all of them.
        names: Of the source's outputs.
        owner: Whom to name in the error, such as `"'cars.onnx'"`.

    Raises:
        TypeError: If it is no name.
        ValueError: If it is another name.
    """
    if output is not None and not isinstance(output, str):
        raise TypeError(f"`output` must be the name of an output. Received: {output!r}.")
    if output is not None and output not in names:
        raise ValueError(
            f"{owner} has no output {output!r}. Received: a network that returns {list(names)}. "
            "Pass one of them as `output=`."
        )


def graph_of_output(graph: Graph, output: str | None, owner: str) -> Graph:
    """The graph with one of its outputs and what that needs; all of it for `None`.

    Raises:
        TypeError: If `output` is no name.
        ValueError: If there is no such output.
    """
    check_output(output, [port.name for port in graph.outputs], owner)
    ports = tuple(port for port in graph.outputs if output in (None, port.name))
    return without_unused(replace(graph, outputs=ports))


def model_of_output(model: keras.Model, output: str | None) -> keras.Model:
    """A Keras model with one of its outputs, over the same layers; the model itself for `None`.

    A list of one input or output, as Keras 2 and some authors write them, is what is in it.

    Raises:
        TypeError: If `output` is no name.
        ValueError: If there is no such output.
    """
    if output is None:
        return without_lists_of_one(model)
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    named = named_outputs(model)
    check_output(output, named, f"The model {model.name!r}")
    return keras.Model(inputs, named[output], name=model.name)


def may_be_made_of(model: keras.Model, outputs: Sequence[str]) -> list[str | None]:
    """The outputs of a source that a model may hold: its provenance says so, or its number does.

    Args:
        model: Converted, with or without its provenance.
        outputs: Names of the source's.

    Returns:
        Names, and `None` for all of them at once.
    """
    said = getattr(getattr(model, "provenance", None), "output", None)
    if said in outputs:
        return [said]
    if len(model.outputs) == len(outputs):
        return [None]
    return list(outputs) if len(model.outputs) == 1 else []
