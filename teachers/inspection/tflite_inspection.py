"""Looking into TFLite files, as far as their interpreter shows them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_amalgam.files.contents import sha256_of
from keras_amalgam.models.heads import is_over_classes, seems_to_be
from keras_amalgam.teachers.conversion.chosen_output import check_output
from keras_amalgam.teachers.inspection.report import (
    Inspection,
    Tensor,
    as_candidates,
    operators_of,
)
from keras_amalgam.teachers.inspection.tap_search import Sizes, Step, Taps, find_taps
from keras_amalgam.teachers.runtimes.litert_runtime import LiteRtRuntime, refusal
from keras_amalgam.teachers.runtimes.measuring import built_in_tflite

_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"}
_PASSED_ON = {"CAST", "DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE"}


def inspect_tflite(path: Path, output: str | None = None) -> Inspection:
    """Describe a `.tflite` file."""
    interpreter = _open(path)
    tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    made = {index for each in operations for index in each["outputs"]}
    inputs, outputs = interpreter.get_input_details(), _named_outputs(interpreter)
    check_output(output, outputs, repr(path.name))
    images = {each["index"] for each in inputs}
    steps = _steps(operations, tensors, images)
    constants = [t for index, t in tensors.items() if index not in made | images and t["name"]]
    chosen = next(iter(outputs)) if len(outputs) == 1 else output
    taps = Taps((), None)
    if chosen is not None:
        taps = find_taps(steps, tensors[outputs[chosen]["index"]]["name"])
    return Inspection(
        file=path.name,
        format="TFLite",
        producer="TFLite",
        opsets={},
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        inputs=tuple(_tensor(each, "channels last" if _rank(each) == 4 else "") for each in inputs),
        outputs=tuple(
            replace(_tensor(each, _answer(each, operations, tensors)), name=name)
            for name, each in outputs.items()
        ),
        parameters=sum(
            math.prod(t["shape"].tolist()) for t in constants if t["dtype"].__name__ != "int32"
        ),
        operators=operators_of(
            (each["op_name"], tensors[each["outputs"][0]]["name"], False)
            for each in operations
            if len(each["outputs"])
        ),
        **_normalisation(path),
        taps=as_candidates(taps, _aliases([each["name"] for each in tensors.values()])),
        obstacle="A .tflite file is not converted into Keras: its weights are laid out, and often "
        "rounded, for a phone. Convert the model that it was made from.",
        runtime="LiteRT",
        output=output,
    )


def _normalisation(path: Path) -> dict[str, Any]:
    """What an `Inspection` says of the normalisation inside and of the range that is taken."""
    try:
        runtime = LiteRtRuntime(path, inside=True)
    except ValueError:  # Of several signatures or inputs, or of operators that LiteRT lacks.
        return {"built_in": None, "shows_built_in": False}
    facts = {"covers": runtime.covers, "may_hide_built_in": runtime.may_hide_normalisation}
    try:
        return facts | {"built_in": built_in_tflite(runtime)}
    except ValueError:
        return facts | {"built_in": None, "shows_built_in": False}


def _named_outputs(interpreter: Any) -> dict[str, dict[str, Any]]:
    """The outputs as a runtime teacher names them: by the one signature, if there is one."""
    details = interpreter.get_output_details()
    signatures = list(interpreter.get_signature_list())
    if len(signatures) != 1:
        return {each["name"]: each for each in details}
    return dict(interpreter.get_signature_runner(signatures[0]).get_output_details())


def _aliases(names: Sequence[str]) -> dict[str, str]:
    """Tensors of fused operations, which bear all their names with `;` between, to the shortest.

    That must be one tensor's alone, so that it means it as a tap.
    """
    parts = {name: name.split(";") for name in names}
    counts = Counter(part for those in parts.values() for part in set(those))
    own = {name: [part for part in those if counts[part] == 1] for name, those in parts.items()}
    return {name: min(those, key=len) for name, those in own.items() if those != [name] and those}


def _open(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        # Without delegates, which replace the operations by one of their own.
        return Interpreter(
            model_content=path.read_bytes(),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    except (ValueError, RuntimeError) as error:
        raise refusal(path, error) from error


def _steps(
    operations: list[dict[str, Any]], tensors: dict[int, dict[str, Any]], images: set[int]
) -> list[Step]:
    """The operations that depend on the image; steps go by the tensors that they make."""
    made_by = dict.fromkeys(images, "image")
    steps = []
    for each in operations:
        inputs = tuple(dict.fromkeys(made_by[i] for i in each["inputs"] if i in made_by))
        if not inputs or each["op_name"] == "SHAPE" or not len(each["outputs"]):
            continue
        first = tensors[each["outputs"][0]]
        name = first["name"]
        made_by |= {int(index): name for index in each["outputs"]}
        weighted = each["op_name"] in _WEIGHTED and len(inputs) == 1
        steps.append(Step(name, each["op_name"], inputs, name, _sizes(first), weighted))
    return steps


def _sizes(details: dict[str, Any]) -> Sizes:
    signature = details.get("shape_signature", details["shape"])
    shape = signature if len(signature) else details["shape"]
    return tuple(int(size) if size > 0 else None for size in shape)


def _rank(details: dict[str, Any]) -> int:
    return len(details["shape"])


def _tensor(details: dict[str, Any], note: Any) -> Tensor:
    return Tensor(details["name"], _sizes(details), details["dtype"].__name__, note)


def _answer(
    details: dict[str, Any], operations: list[dict[str, Any]], tensors: dict[int, dict[str, Any]]
) -> str:
    makers = {
        int(index): (each, place)
        for each in operations
        for place, index in enumerate(each["outputs"])
    }
    found = makers.get(details["index"])
    while found is not None and found[0]["op_name"] in _PASSED_ON:
        found = makers.get(int(found[0]["inputs"][0]))
    if found is None:
        return ""
    maker, place = found
    operator, shape = maker["op_name"], _sizes(details)
    made = _sizes(tensors[int(maker["outputs"][place])])
    if operator == "SOFTMAX" and not is_over_classes(-1, made, shape):
        operator = ""
    return seems_to_be(operator, shape, details["dtype"].__name__, place)
