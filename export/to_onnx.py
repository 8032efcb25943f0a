"""A student as an ONNX file, for onnxruntime and other runtimes."""

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import labels, parity
from keras_amalgam.export.arguments import is_whole
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.entrance import fitted_to_itself
from keras_amalgam.export.handing_over import handing_over
from keras_amalgam.export.preparation import Job, prepare
from keras_amalgam.export.signatures import INPUT_NAME, Signature, serving_function
from keras_amalgam.export.staging import staged
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.quiet import quiet, quiet_loggers

OPSETS = range(13, 19)
PHOTOGRAPH_KEY = "photograph"
"""Metadata property: what an application does with one before it hands it over, as JSON."""
AXIS_NAMES = ("batch", "height", "width", "channels")
LAYOUTS = {"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2)}
"""How each layout orders the axes of `AXIS_NAMES`."""
_LARGEST_MAP = 2048


@keras_defaults()
def to_onnx(
    model: keras.Model,
    path: str | PathLike[str],
    opset: int = 18,
    *,
    layout: str = "NHWC",
    class_names: Mapping[str, Sequence[str]] | None = None,
    images: Any = None,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Writes a student as an ONNX file, runs it with onnxruntime and checks it.

    The graph takes `image`, raw float32 images of shape `(batch, height, width, channels)`, or
    `(batch, channels, height, width)`, in 0..255 with a dynamic batch, and gives one float32
    output per head under the head's name. A student of another precision is written as its
    float32 copy. The labels are the metadata property `labels`, and what an application does with
    a photograph first is the property `photograph`, both as JSON.

    Args:
        model: The student, a functional model from raw images to a dict of heads; a single
            unnamed output is called after its layer.
        path: The file to write, ending in `.onnx`. Its directory must exist.
        opset: ONNX operator set, 13 to 18.
        layout: Of the image: `"NHWC"`, channels last, or `"NCHW"`, channels first, as programs made
            for PyTorch's files give them.
        class_names: Head to class names in the order of the head's units; by default the model's
            attribute `class_names`.
        images: Raw images in 0..255 for the comparison, shape `(count, height, width,
            channels)`; by default generated photographs.
        tolerance: Largest allowed absolute difference of a logit from the Keras model's; by
            default 1e-4, or 1e-5 of a head's largest logit where that is more.
        overwrite: Whether an existing file at `path` is replaced.

    Returns:
        The artifact's record, with its operators.

    Raises:
        TypeError: If the model is not functional, or the class names are no mapping.
        ValueError: If an argument cannot be used, or the file disagrees with the model. Then
            `path` is left as it was.
        NotImplementedError: If an operator has no ONNX form, naming it.

    Example:
        ```python
        export.to_onnx(student, "student.onnx")
        session = onnxruntime.InferenceSession("student.onnx")
        logits = session.run(["birds"], {"image": images})
        ```
    """
    _check_form(opset, layout)
    bounds = parity.bounds_for("float32", tolerance, None)
    job = prepare(model, class_names, in_float32=True).compared_on(images)
    properties = _properties(job)
    target = Path(path)
    with staged(target, suffix=".onnx", overwrite=overwrite) as partial:
        given = np.transpose(job.images, LAYOUTS[layout])

        def write_and_check(careful: bool) -> tuple[Any, dict[str, Any]]:
            proto = convert(job.model, job.signature, opset, layout, careful)
            _save(proto, partial, properties)
            return proto, job.verify(run(partial, given), bounds, f"ONNX file '{target}'")

        try:
            proto, measured = write_and_check(careful=False)
        except ValueError:
            proto, measured = write_and_check(careful=True)
    operators = dict(sorted(Counter(node.op_type for node in proto.graph.node).items()))
    return job.artifact(target, measured, ("onnx", "float32"), operators)


def _check_form(opset: int, layout: str) -> None:
    if not is_whole(opset, 1) or opset not in OPSETS:
        raise ValueError(
            f"The operator set cannot be written. Received: opset={opset!r}. Expected: "
            f"{OPSETS.start} to {OPSETS.stop - 1}. Use 18, or convert the file afterwards with "
            "`onnx.version_converter`."
        )
    if layout not in LAYOUTS:
        raise ValueError(
            f"There is no such layout. Received: layout={layout!r}. Expected: one of "
            f"{tuple(LAYOUTS)}. Use 'NHWC' if unsure."
        )


def _properties(job: Job) -> dict[str, str]:
    """The file's metadata: labels, and what is done with a photograph first."""
    if INPUT_NAME in job.signature.heads:
        raise ValueError(
            f"ONNX has one name for one tensor. Received: a head called '{INPUT_NAME}', as the "
            "file's input is. Expected: another name. Rename the task."
        )
    height, width, channels = job.signature.image_shape
    size = None if height is None or width is None else (height, width)
    return {
        labels.ONNX_KEY: labels.to_json(job.labels),
        PHOTOGRAPH_KEY: json.dumps(handing_over(size, channels, covers=False)),
    }


def _save(proto: Any, path: Path, properties: Mapping[str, str]) -> None:
    import onnx

    onnx.helper.set_model_props(proto, dict(properties))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


def convert(
    model: keras.Model,
    signature: Signature,
    opset: int,
    layout: str = "NHWC",
    careful: bool = False,
) -> Any:
    """Converts a float32 model to an ONNX `ModelProto`.

    The graph is frozen here: given the function itself, tf2onnx 1.17 turns constants that it
    captured, such as the mean of a `Normalization` layer, into required inputs.

    Args:
        model: The model.
        signature: Its interface.
        opset: ONNX operator set.
        layout: Of the image.
        careful: Whether transpositions stay where they are. Moving them, tf2onnx 1.17 gets the
            rank of a repeated map wrong in one process and right in the next.
    """
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    order = LAYOUTS[layout]
    axes = (None, *signature.image_shape)
    image = tf.TensorSpec([axes[axis] for axis in order], tf.float32, name=INPUT_NAME)
    serve = serving_function(fitted_to_itself(model, signature), signature)
    function = tf.function(
        lambda image: serve(tf.transpose(image, np.argsort(order))),
        input_signature=[image],
        autograph=False,
    )
    # Keras compiles grouped convolutions in functions of their own, which freezing would leave as
    # calls; functions that run eagerly dissolve into the one being traced.
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        function = function.get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(eagerly)
    optimized = _transpositions_stay() if careful else contextlib.nullcontext()
    loggers = quiet_loggers("tf2onnx", "tensorflow", least=logging.CRITICAL)
    with quiet(), loggers, optimized:
        frozen = convert_variables_to_constants_v2(function)
        # Freezing keeps the tensors' names, so heads are followed by name, not by position.
        names = {function.structured_outputs[head].name: head for head in signature.heads}
        proto, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            name=model.name,
            input_names=[frozen.inputs[0].name],
            output_names=list(names),
            opset=opset,
            tensors_to_rename={frozen.inputs[0].name: INPUT_NAME} | names,
        )
    _replace_erfc(proto)
    _round_scales_up(proto)
    _check_operators(proto, model)
    _name_axes(proto, order)
    return proto


@contextlib.contextmanager
def _transpositions_stay() -> Iterator[None]:
    from tf2onnx import optimizer

    every = optimizer._get_optimizers
    optimizer._get_optimizers = lambda: {
        name: make for name, make in every().items() if name != "optimize_transpose"
    }
    try:
        yield
    finally:
        optimizer._get_optimizers = every


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Runs an ONNX file, the first image alone and the others together."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    heads = [output.name for output in session.get_outputs()]
    batches = [batch for batch in (images[:1], images[1:]) if len(batch)]
    outputs = [session.run(None, {INPUT_NAME: batch.astype(np.float32)}) for batch in batches]
    return {
        head: np.concatenate([np.asarray(output[index]) for output in outputs])
        for index, head in enumerate(heads)
    }


def _replace_erfc(proto: Any) -> None:
    """Writes `erfc(x)`, the form TensorFlow gives an exact GELU, as `1 - erf(x)`."""
    import onnx

    nodes = list(proto.graph.node)
    if not any(node.op_type == "Erfc" for node in nodes):
        return
    one = onnx.numpy_helper.from_array(np.array(1.0, np.float32), "one_of_erfc")
    proto.graph.initializer.append(one)
    del proto.graph.node[:]
    for node in nodes:
        if node.op_type == "Erfc":
            erf = f"{node.output[0]}/erf"
            proto.graph.node.extend(
                [
                    onnx.helper.make_node("Erf", list(node.input), [erf], name=f"{node.name}/Erf"),
                    onnx.helper.make_node("Sub", [one.name, erf], list(node.output), node.name),
                ]
            )
        else:
            proto.graph.node.append(node)


def _round_scales_up(proto: Any) -> None:
    """ONNX rounds a resized map's size down, so 7/6 rounded down to float32 makes 6 pixels of 6."""
    import onnx

    arrays = {array.name: array for array in proto.graph.initializer}
    names = {node.input[2] for node in proto.graph.node if node.op_type == "Resize"}
    for array in (arrays[name] for name in names & arrays.keys()):
        scales = onnx.numpy_helper.to_array(array).copy()
        for index, scale in enumerate(scales):
            meant = Fraction(float(scale)).limit_denominator(_LARGEST_MAP)
            if float(scale) < meant and np.float32(float(meant)) == scale:
                scales[index] = np.nextafter(scale, np.float32(np.inf))
        array.CopyFrom(onnx.numpy_helper.from_array(scales, array.name))


def _check_operators(proto: Any, model: keras.Model) -> None:
    """tf2onnx leaves an operator it does not know in the graph and only logs it."""
    import onnx

    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    foreign = sorted(
        f"{node.op_type} (node '{node.name}')"
        for node in proto.graph.node
        if not onnx.defs.has(node.op_type, opsets.get(node.domain, 1), node.domain)
    )
    if foreign:
        raise NotImplementedError(
            f"Model '{model.name}' needs operators that ONNX does not have. Received: "
            f"{'; '.join(foreign)}. Expected: operators of opset {opsets['']}. Replace the layer: "
            "a resizing must be bilinear or nearest without antialias, or that of `Preprocessing`, "
            "which antialiases in stock operations; or export with "
            "`to_saved_model`."
        )


def _name_axes(proto: Any, order: Sequence[int]) -> None:
    """Gives dynamic axes telling names instead of `unk__17`."""
    for value in proto.graph.input:
        for number, axis in zip(order, value.type.tensor_type.shape.dim, strict=True):
            if not axis.HasField("dim_value"):
                axis.dim_param = AXIS_NAMES[number]
    for value in proto.graph.output:
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].HasField("dim_value"):
            axes[0].dim_param = AXIS_NAMES[0]
