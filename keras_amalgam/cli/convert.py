"""Make a teacher of a network's file: converted into Keras and compared with its own runtime.

    keras-amalgam convert cars.onnx --out teachers/cars --name cars --classes cars.txt
        --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

FILE is an .onnx, .keras or .h5 file, or the directory of a TensorFlow SavedModel, which is a
program: convert only one that you would run. `keras-amalgam inspect FILE` shows what is in it.

The folder holds model.keras, card.json, labels.txt and parity.json, whole or not at all, and is
what `keras-amalgam amalgamate --teacher` and keras_amalgam.teachers.load read. The comparison
starts from encoded images (--images; a few are generated otherwise): preprocessing, network and tap
must agree with an independent computation and the file's own runtime. Images become
(pixel * scale - mean) / std, where pixels are 0..255; say what the network's authors did.

What cannot be converted can teach as it is with --runtime, outside of the training step.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import convert_flags, output
from keras_amalgam.cli.advice import in_flags
from keras_amalgam.cli.screen import columns, shortened
from keras_amalgam.files.provenance import CARD, TEACHER_FILES, holds_own_network


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    convert_flags.define(values)
    output.define_flags(values, default=None)


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    output.check_one_file(positional)
    inputs = convert_flags.check(values)
    convert_flags.check_fits(values, Path(positional[0]))
    output.check(values, CARD, TEACHER_FILES, holds_own_network)
    output.check_apart(values, [positional[0], *inputs])


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    path = Path(positional[0])
    print(f"Reading {path.name}", flush=True)
    from keras_amalgam.cli import conversion

    try:
        teacher = conversion.read(values, path)
        with warnings.catch_warnings():
            # It is in the report, and printed with it.
            warnings.filterwarnings("ignore", message="Teacher .* seems to be shown images")
            teacher, report = conversion.compared(values, path, teacher)
    except NotImplementedError as error:
        raise NotImplementedError(in_flags(str(error))) from error
    except ValueError as error:
        raise ValueError(in_flags(str(error))) from error
    print(compared(report))
    for warning in report["warnings"]:
        print(f"Warning: {in_flags(warning)}")
    try:
        teacher.save(values.out, parity=report, overwrite=values.overwrite)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            f"The teacher cannot be written to {values.out}, where nothing was left. Received: "
            f"{error.strerror or error}. Make room, or choose another --out."
        ) from error
    files = ", ".join(sorted(file.name for file in Path(values.out).iterdir()))
    print(f"Written to {values.out}: {files}")


def compared(report: Mapping[str, Any]) -> str:
    """The comparison as a table."""
    rows: list[tuple[str, ...]] = [
        ("", "largest error", "mean error", "range", "cosine", "same argmax")
    ]
    tables = {"outputs": "output", "taps": "tap"}
    named = [("what enters the network", report["input"])]
    named += [
        (shortened(f"{tables[t]} {name}"), e) for t in tables for name, e in report[t].items()
    ]
    for name, errors in named:
        numbers = [errors[key] for key in ("max_abs_error", "mean_abs_error", "range")]
        same = "" if name == named[0][0] else f"{errors['argmax_agreement']:.0%}"
        cells = ["not finite" if n is None else f"{n:.2g}" for n in numbers]
        rows.append((name, *cells, f"{errors['cosine']:.6f}", same))
    head = (
        f"Compared on {len(report['images'])} images, {report['source']['runtime']} against "
        f"{report['model']['runtime']}:"
    )
    lines = [head, columns(rows, right=range(1, 6))]
    if not report["passed"]:
        lines.append(f"IT DIFFERS, and is written as --allow_difference says. {report['failure']}")
    if report["normalization"]:
        lines.append(_normalized(report["normalization"]))
    return "\n".join(lines)


def _normalized(check: Mapping[str, Any]) -> str:
    """What the running statistics say of the declared normalisation."""
    if check["obstacle"]:
        return f"Whether it is normalised as in its training cannot be told: {check['obstacle']}."
    if check["warning"]:
        return check["warning"]
    return (
        "No usual normalisation fits the running statistics clearly better than the declared one, "
        f"with which {check['images']} images diverge by {check['declared']:.2g}."
    )
