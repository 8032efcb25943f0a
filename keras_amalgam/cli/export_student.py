"""Package a trained student: write it for a device or a server, verify it, and measure it.

    keras-amalgam export tflite student.keras --images photos/ --out phone
        --precision float32,int8 --fallback int16,float16
        --test birds=birds_test/ --max_accuracy_loss 0.5
    keras-amalgam export serving student.keras --images photos/ --out serving --name animals

FORMAT is tflite, serving, onnx, saved_model or keras; STUDENT is a .keras file. Its classes are
read from the labels beside it, or from --classes TASK=FILE.

Every artifact runs in a process of its own, on the images' files, and is compared with the student:
its largest error, how often it decides alike, its size, memory and latency; where labelled images
are given, its accuracy with that of the student on the canvas of its evaluation. Give photographs
as they come, at their own size: what is lost on their way to the artifact's is seen so.

If a threshold is missed, the command fails and leaves nothing, unless --fallback names other
precisions: then the first that keeps all thresholds takes its place.

The folder holds the artifact, export.json and export.html. A serving bundle gets a new version
beside those that it holds; its report lies in the version's assets.extra.
"""

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import export_flags, output
from keras_amalgam.cli.advice import EXPORT, in_flags
from keras_amalgam.cli.canvas_flag import canvas_of
from keras_amalgam.cli.class_file import class_lines

MARK = "export.json"
COMPARED_IMAGES = 64
SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "saved_model": "", "keras": ".keras"}


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    export_flags.define(values)
    output.define_flags(values, default=None)


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    if len(positional) != 2 or positional[0] not in export_flags.FORMATS:
        raise ValueError(
            f"FORMAT and STUDENT are expected, FORMAT one of {', '.join(export_flags.FORMATS)}. "
            f"Received: {' '.join(positional) or 'none'}."
        )
    format, student = positional
    output.check_one_file([student])
    if Path(student).suffix != ".keras" or not _is_keras_file(student):
        raise ValueError(f"STUDENT is a .keras file, as Keras writes it. Received: {student}.")
    folders = export_flags.check(values, format)
    if format == "serving":
        if not values.out:
            raise ValueError("--out=FOLDER is needed: the bundle.")
        if values.overwrite:
            raise ValueError("A version of a bundle is never overwritten: leave --overwrite out.")
    else:
        output.check(values, MARK, is_own=_is_own)
    output.check_apart(values, [student, *folders])


def _is_keras_file(path: str) -> bool:
    """Whether a file is such an archive as Keras writes."""
    from keras_amalgam.files.keras_bounds import read_member

    try:
        return read_member(Path(path), "config.json") is not None
    except ValueError:
        return False


def _is_own(folder: Path) -> bool:
    from keras_amalgam.export.verification import report

    return report.is_own(folder)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    try:
        _package(values, positional)
    except NotImplementedError as error:
        raise NotImplementedError(in_flags(str(error), EXPORT)) from error
    except ValueError as error:
        raise ValueError(in_flags(str(error), EXPORT)) from error


def _package(values: flags.FlagValues, positional: list[str]) -> None:
    format, path = positional
    from keras_amalgam import export
    from keras_amalgam.export.verification import report
    from keras_amalgam.export.verification.reference import canvas_beside
    from keras_amalgam.images.folders import walk

    thresholds = export.Thresholds(**export_flags.limits_of(values))
    thresholds.check_measurable(values.test)
    print(f"Reading {Path(path).name}", flush=True)
    for note in filter(None, (walk(path).note() for path in export_flags.folders_of(values))):
        print(note)
    student = _load(path)
    if values.name:
        student.name = values.name
    student.class_names = _class_names(values, path)
    arguments: dict[str, Any] = {
        "images": export_flags.images_of(values),
        "labelled": export_flags.pairs(values, "test"),
        "thresholds": thresholds,
        "canvas": canvas_of(values) or canvas_beside(Path(path)),
    }
    if format == "serving":
        verified = _serve(values, student, arguments)
    else:
        exporters = _exporters(values, student, format)
        print(f"Writing and verifying {', '.join(exporters)}", flush=True)
        if values.fallback:
            others = _tflite_exporters(values, student, values.fallback)
            arguments["fallbacks"] = {list(exporters)[-1]: others}
        overwrite = values.overwrite
        verified = export.package(student, values.out, exporters, **arguments, overwrite=overwrite)
    print(report.table(verified))
    print(f"Written to {values.out}")


def _load(path: str) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (TypeError, ValueError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise ValueError(
            f"Keras cannot load {path}. Received: '{said}'. Expected: stock Keras layers and "
            "functions, which the command knows. Export a student with others from Python: "
            "`keras_amalgam.export`."
        ) from error


def _class_names(values: flags.FlagValues, path: str) -> dict[str, tuple[str, ...]]:
    from keras_amalgam.export import labels

    given = export_flags.pairs(values, "classes")
    if not given:
        if not labels.beside(Path(path)).is_file():
            raise flags.IllegalFlagValueError(
                f"The classes of {path} are unknown: there is no labels file beside it. Name a "
                "file for each task with --classes TASK=FILE."
            )
        return labels.read_labels(path)
    return {task: tuple(class_lines(file)) for task, file in given.items()}


def _exporters(
    values: flags.FlagValues, student: Any, format: str
) -> dict[str, Callable[..., Any]]:
    """Name of each artifact to what writes it."""
    from keras_amalgam import export

    if format == "tflite":
        # What a fallback may stand for comes last.
        wanted = sorted(dict.fromkeys(values.precision), key=lambda given: given != "float32")
        return _tflite_exporters(values, student, wanted)
    function: Callable[..., Any] = getattr(export, f"to_{format}")
    if format == "onnx":
        function = functools.partial(function, opset=values.opset, layout=values.layout)
    tolerance = _own_bounds(values).get("tolerance")
    try:
        images = _compared(values, student, _size(values, student))
    except ValueError:
        if values.size is not None:
            raise
        images = _compared(values, student, None)  # The artifact takes any size as well.
    function = functools.partial(function, images=images, tolerance=tolerance)
    return {f"{student.name}{SUFFIXES[format]}": function}


def _own_bounds(values: flags.FlagValues) -> dict[str, float]:
    """The exporters' own bounds, out of the way where a threshold of the same is given."""
    bounds = {} if values.max_error is None else {"tolerance": math.inf}
    return bounds if values.min_agreement is None else bounds | {"min_agreement": 0.0}


def _size(values: flags.FlagValues, student: Any) -> tuple[int, int]:
    from keras_amalgam.export.signatures import spatial_size

    return spatial_size(student, export_flags.size_of(values), "--size HEIGHT,WIDTH")


def _compared(values: flags.FlagValues, student: Any, size: tuple[int, int] | None) -> Any:
    """Real images that the exporter compares on before verification does; one if of any size."""
    most = 1 if size is None else COMPARED_IMAGES
    return _decoded(student, export_flags.images_of(values), values, size, most, "images")


def _decoded(
    student: Any,
    images: Any,
    values: flags.FlagValues,
    size: tuple[int, int] | None,
    most: int,
    flag: str,
) -> Any:
    from keras_amalgam.export.entrance import entrance_of
    from keras_amalgam.export.verification.encoded import collect

    labelled = None if images else export_flags.pairs(values, "test")
    encoded = collect(images, labelled, student.class_names, flag)
    entrance = entrance_of(student)
    covers = entrance is not None and entrance.resize.covers
    return encoded.decoded(size, student.input_shape[-1], most, covers)


def _tflite_exporters(
    values: flags.FlagValues, student: Any, precisions: Iterable[str]
) -> dict[str, Callable[..., Any]]:
    from keras_amalgam import export

    stem = student.name
    size = _size(values, student)
    images = _compared(values, student, size)
    exporters = {}
    for precision in precisions:
        name = f"{stem}.tflite" if precision == "float32" else f"{stem}_{precision}.tflite"
        integer = precision == "int8"
        exporters[name] = functools.partial(
            export.to_tflite,
            precision=precision,
            calibration=_calibration(values, student, size, precision),
            image_shape=size,
            batch=values.batch or None,
            image_dtype=values.image_dtype if integer else None,
            head_dtype=values.head_dtype if integer else "float32",
            joint=values.joint,
            top_k=values.top_k or 0,
            quantizer="converter" if precision.startswith("float") else values.quantizer,
            images=images,
            **_own_bounds(values),
        )
    return exporters


def _calibration(
    values: flags.FlagValues, student: Any, size: tuple[int, int], precision: str
) -> Any:
    """Raw images of the artifact's size, for precisions that need them."""
    from keras_amalgam.export.samples import MAX_CALIBRATION_IMAGES
    from keras_amalgam.export.tflite.plan import CALIBRATED

    if precision not in CALIBRATED:
        return None
    flag = "calibration" if values.calibration else "images"
    images = values.calibration or export_flags.images_of(values)
    if not images:
        raise flags.IllegalFlagValueError(f"{precision} needs --calibration=FOLDER or --images.")
    return _decoded(student, images, values, size, MAX_CALIBRATION_IMAGES, flag)


def _serve(values: flags.FlagValues, student: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    from keras_amalgam import export
    from keras_amalgam.export.verification import report

    verified: dict[str, Any] = {}
    size = _size(values, student)

    def verify(artifact: Any) -> None:
        one = export.verify(artifact, student, **arguments)
        if one.missed:
            raise ValueError(
                "The student is not packaged: thresholds are missed, and nothing was left in "
                "place. " + " ".join(one.missed)
            )
        verified[f"{student.name}/{artifact.path.name}"] = one
        folder = artifact.path / "assets.extra"
        report.write(folder, student.name, verified, arguments["thresholds"])

    export.to_serving(
        student,
        values.out,
        values.version,
        label=values.label,
        keep=values.keep,
        top_k=values.top_k or 5,
        image_shape=size,
        images=_compared(values, student, size),
        tolerance=_own_bounds(values).get("tolerance"),
        check=verify,
    )
    return verified
