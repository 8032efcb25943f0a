"""Show what is in a network's file, and where its features can be tapped.

    keras-amalgam inspect cars.onnx
    keras-amalgam inspect cars.keras --json
    keras-amalgam inspect cars.keras --images photos/

FILE is an .onnx, .keras, .h5 or .tflite file, or the directory of a TensorFlow SavedModel, which is
a program: look only into one that you would run. Nothing is written.

Of a network with several outputs one must be chosen, here as in `convert`: --output NAME.

For every extent of the network's maps the last place is listed through which all of the image's
information goes; the one marked * is what `keras-amalgam convert` taps if nothing is said. What it
cannot convert is said precisely, and whether the file can teach in its own runtime instead.

With --images DIR, photographs of the kind that the network was trained on, the running statistics
of its batch normalizations say which of the usual normalisations it was trained with, or that this
cannot be told.
"""

import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from keras_amalgam.cli import output
from keras_amalgam.cli.advice import in_flags
from keras_amalgam.cli.convert_flags import check_signature
from keras_amalgam.cli.screen import WIDTH, columns, shape, shortened, wrapped
from keras_amalgam.text import file_size

if TYPE_CHECKING:
    from keras_amalgam.teachers.comparison.normalization_check import NormalizationCheck
    from keras_amalgam.teachers.inspection.report import Inspection, TapCandidate, Tensor


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_boolean("json", False, "Print JSON, for machines.", flag_values=values)
    flags.DEFINE_string(
        "signature", "serving_default", "The serving function of a SavedModel.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Of several outputs the one that is to teach.", flag_values=values
    )
    flags.DEFINE_string(
        "images",
        None,
        "Folder of photographs, to find the normalisation of the network's training.",
        flag_values=values,
    )


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    output.check_one_file(positional)
    check_signature(values, Path(positional[0]))
    if values.images:
        output.check_folder(values.images, "images")


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    from keras_amalgam.teachers import inspect

    try:
        found = inspect(positional[0], signature=values.signature, output=values.output)
        check = _normalization(values, found, Path(positional[0])) if values.images else None
    except ValueError as error:
        raise ValueError(in_flags(str(error))) from error
    if values.json:
        said = {"normalization": check.to_config()} if check else {}
        print(json.dumps(found.to_config() | said, indent=2))
    else:
        print(described(found, positional[0]))
        if check:
            print(f"\n{normalized(check)}")


def _normalization(
    values: flags.FlagValues, found: "Inspection", path: Path
) -> "NormalizationCheck":
    """What the network's running statistics say of the photographs in a folder."""
    from keras_amalgam import data, teachers
    from keras_amalgam.teachers.comparison.normalization_check import (
        NormalizationCheck,
        rank_normalizations,
    )

    if found.obstacle or found.must_choose:
        reason = "the file cannot be converted" if found.obstacle else "--output is to be chosen"
        return NormalizationCheck(0, obstacle=reason)
    chosen: dict[str, Any] = {"output": values.output, "verify": False}
    if path.is_dir():
        model = teachers.from_saved_model(path, signature=values.signature, **chosen)
    elif found.format == "ONNX":
        model = teachers.from_onnx(path, **chosen)
    else:
        model = teachers.from_keras(path, **chosen)
    return rank_normalizations(model, data.from_folder(values.images).as_numpy_iterator())


def normalized(check: "NormalizationCheck") -> str:
    """The usual normalisations by how well they fit."""
    if check.obstacle:
        return f"Which normalisation the network was trained with cannot be told: {check.obstacle}."
    rows = [(fit.name, f"{fit.divergence:.2g}") for fit in check.usual]
    table = columns([("normalisation", "divergence"), *rows], right=(1,))
    head = f"Running statistics and {check.images} images, a small divergence being a good fit:"
    return f"{head}\n{table}\n{_best(check)}"


def _best(check: "NormalizationCheck") -> str:
    if check.clear is None:
        return "None fits clearly better than all the others. Use photographs like the training's."
    from keras_amalgam.teachers.comparison.normalization_check import advice

    found = f"{check.clear.name} fits clearly: {advice(check.clear.preprocessing)}."
    return f"{found} The order of the colours cannot be told so."


def described(found: "Inspection", path: str) -> str:
    """An inspection as a page of text."""
    parts = [
        f"{found.file}\n{_facts(found)}",
        _tensors("input", found.inputs, "layout"),
        _tensors("output", found.outputs, "seems to be"),
        _operators(found),
        _taps(found),
    ]
    if any(re.search(r"(^|\s)…\S", part) for part in parts):
        parts.append("Names that begin with … are cut in front: --json shows them whole.")
    parts.append(_next(found, path))
    return "\n\n".join(part for part in parts if part)


def _facts(found: "Inspection") -> str:
    opsets = ", ".join(
        f"opset {version}" + (f" of {domain}" if domain != "ai.onnx" else "")
        for domain, version in found.opsets.items()
    )
    written = "" if found.producer == found.format else f", written by {found.producer}"
    unit = "layers" if found.format == "Keras" else "nodes"
    rows = [
        ("format", found.format + (f", {opsets}" if opsets else "") + written),
        (
            "size",
            f"{file_size(found.bytes)}, {found.parameters:,} parameters, {found.nodes:,} {unit}",
        ),
        ("sha256", found.sha256),
        *(_preprocessing(found) if found.inputs else ()),
        ("converts", "no, see below" if found.obstacle else "yes"),
    ]
    return wrapped(rows)


def _preprocessing(found: "Inspection") -> list[tuple[str, str]]:
    from keras_amalgam.images.built_in import SeveralWays

    built_in = found.built_in
    covers = found.covers
    held = [("input covers", "{:.4g} to {:.4g}".format(*covers))] if covers else []
    if built_in is None:
        return [("preprocessing", _why_none(found)), *held]
    order = " in the order blue, green, red" if built_in.takes_bgr else ""
    takes = [("takes", f"images in {built_in.expects}{order}")] if built_in.expects else []
    takes += held
    if isinstance(built_in, SeveralWays):
        said = f"built in, in several ways that no mean and std describes: {built_in}"
        return [("preprocessing", said), *takes]
    return [("preprocessing", f"built in: {built_in}"), *takes]


# The flags that bring images to what a quantized input covers.
_COVERING = {
    "0..255": " --scale 1",
    "0..1": " --mean 0",
    "-1..1": " --mean 0.5 --std 0.5",
    None: " --mean … --std …",
}


def _why_none(found: "Inspection") -> str:
    if not found.shows_built_in:
        return "not known"
    if found.may_hide_built_in:
        return "cannot tell: a converter may have multiplied it into the first layer"
    return "none was found inside"


def _normalisation_flags(found: "Inspection") -> str:
    """What `convert` must be told about the normalisation, in front of what it finds itself."""
    from keras_amalgam.images.built_in import SeveralWays
    from keras_amalgam.images.coverage import range_of

    built_in = found.built_in
    if isinstance(built_in, SeveralWays) and built_in.expects is None:
        return " --scale …"
    if built_in is None and found.covers:
        return _COVERING[range_of(found.covers)]
    if built_in is None or built_in.expects is None:
        return " --mean … --std …"
    if built_in.preprocessing() is not None:
        return ""
    if not built_in.takes_bgr:
        return " --mean … --std …"
    return (" --scale 1" if built_in.expects == "0..255" else " --mean 0") + " --channels bgr"


def _tensors(what: str, tensors: "tuple[Tensor, ...]", note: str) -> str:
    if not tensors:
        return ""
    rows = [(t.name, shape(t.shape), t.dtype, t.note or "-") for t in tensors]
    return columns([(what, "shape", "type", note), *rows])


def _operators(found: "Inspection") -> str:
    if not found.operators:
        return ""
    what = "layer" if found.format == "Keras" else "operator"
    rows = [
        (o.name, f"{o.count:,}", "yes" if o.converts else "NO", shortened(o.first_node))
        for o in found.operators
    ]
    if found.format == "TFLite":
        rows = [(*row[:2], "-", row[3]) for row in rows]
    return columns([(what, "count", "converts", "first node"), *rows], right=(1,))


def _taps(found: "Inspection") -> str:
    if not found.taps:
        return ""
    rows = [(tap_name(t), shape(t.shape), t.kind, t.operator) for t in found.taps]
    header, *lines = columns([("tap", "shape", "kind", "operator"), *rows]).splitlines()
    marked = [
        f"*{line[1:]}" if tap.is_default else line
        for tap, line in zip(found.taps, lines, strict=True)
    ]
    return "\n".join([header, *marked, "* is tapped if nothing is said"])


def tap_name(tap: "TapCandidate") -> str:
    """What to call a tap: by its module if it ends one, else by its node."""
    return tap.module or tap.name


def _choice(found: "Inspection", path: str, command: str) -> str:
    whole = f"As a whole it cannot be converted. {in_flags(found.obstacle)}"
    lines = textwrap.wrap(whole, WIDTH) if found.obstacle else []
    lines.append("A teacher has one output. Taps are shown, and a teacher is made, of the chosen:")
    lines.append(f"  keras-amalgam inspect {shlex.quote(path)} --output NAME")
    return "\n".join([*lines, f"{command} --output NAME"])


def _next(found: "Inspection", path: str) -> str:
    command = f"  keras-amalgam convert {shlex.quote(path)} --out FOLDER --name NAME --classes FILE"
    command += _normalisation_flags(found)
    if found.must_choose:
        return _choice(found, path, command)
    if found.output is not None:
        command += f" --output {shlex.quote(found.output)}"
    caution, flag = _caution(found)
    obstacle = f"It cannot be converted. {in_flags(found.obstacle)} " if found.obstacle else ""
    lines = textwrap.wrap(obstacle + (_cannot_teach(found) or caution), WIDTH)
    if _cannot_teach(found):
        return "\n".join(lines)
    command += flag
    if not found.obstacle:
        lines += ["A teacher is made of it by", command]
    elif found.runtime:
        lines.append(f"It can teach as it is, run by {found.runtime} outside of the training step:")
        lines.append(f"{command} --runtime")
    return "\n".join(lines)


def _answer(found: "Inspection") -> "Tensor | None":
    """The output that is to teach; `None` where one must be chosen, or none is known."""
    answers = [t for t in found.outputs if found.output in (None, t.name)]
    return answers[0] if len(answers) == 1 else None


def _cannot_teach(found: "Inspection") -> str:
    """Why no teacher can be made of the output, whatever is said of it; empty if one can."""
    answer = _answer(found)
    if answer is None or not answer.note.endswith(", not logits"):
        return ""
    return (
        f"No teacher can be made of it: its output {answer.name!r} is {answer.note}. A teacher "
        "returns one number per class for each image."
    )


def _caution(found: "Inspection") -> tuple[str, str]:
    """What a teacher's answer must be for the advised command to be right, and its flag."""
    from keras_amalgam.models.heads import advice_on

    answer = _answer(found)
    condition, kind = advice_on(answer.note) if answer else ("", None)
    return condition, f" --outputs {kind}" if kind else ""
