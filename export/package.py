"""Several artifacts of one student in a folder, each verified, with one report over all."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.signatures import describe
from keras_amalgam.export.tflite import metadata
from keras_amalgam.export.verification import report
from keras_amalgam.export.verification.encoded import EncodedImages, collect
from keras_amalgam.export.verification.reference import Reference, canvas_for
from keras_amalgam.export.verification.thresholds import Thresholds
from keras_amalgam.export.verification.verify import Verification, verify_against
from keras_amalgam.files.writing import whole_directory
from keras_amalgam.keras_settings import keras_defaults

Exporter = Callable[..., Artifact]
"""One of this package's `to_…`, or such a one with some arguments given (`functools.partial`)."""


@keras_defaults()
def package(
    model: keras.Model,
    directory: str | PathLike[str],
    exporters: Mapping[str, Exporter],
    images: Any = None,
    *,
    labelled: Mapping[str, Any] | None = None,
    thresholds: Thresholds | None = None,
    fallbacks: Mapping[str, Mapping[str, Exporter]] | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
    canvas: Sequence[Any] | None = None,
) -> dict[str, Verification]:
    """Writes artifacts of a student, verifies each in a process of its own, and reports.

    The folder holds the artifacts, `export.json` and `export.html`. It appears when everything in
    it has been verified; if a threshold is missed, nothing is left.

    Args:
        model: The student.
        directory: The folder to write.
        exporters: Name of a file or folder inside to what writes it.
        images: Images for the comparison, as in `verify`: a folder, files, or an array, or task
            to such.
        labelled: Task to labelled images, as in `verify`, for the accuracies.
        thresholds: What every artifact must keep to.
        fallbacks: Name of an artifact to what is written in its place if it misses a threshold or
            its exporter's own bounds, or has no form in that precision: in order, the first that
            keeps them. The report says so.
        class_names: Head to class names; by default the model's attribute.
        overwrite: Whether an earlier such folder is replaced. Any other never is, nor one that
            holds files which its `export.json` does not list.
        canvas: `(height, width, channels, fit)` of the images that the student was evaluated on.

    Returns:
        Name to what was measured.

    Raises:
        TypeError: If `exporters` or `fallbacks` do not map names to functions.
        ValueError: If an argument cannot be used, an artifact cannot be made, or it misses a
            threshold; then all that was missed is said.
        FileExistsError: If the folder exists and is not to be replaced.

    Example:
        ```python
        int8 = functools.partial(export.to_tflite, precision="int8", calibration=images)
        float16 = functools.partial(export.to_tflite, precision="float16")
        export.package(
            student,
            "dist",
            {"student.tflite": export.to_tflite, "student_int8.tflite": int8},
            images="photos/",
            labelled={"birds": "birds_test/"},
            thresholds=export.Thresholds(max_accuracy_loss=0.5),
            fallbacks={"student_int8.tflite": {"student_float16.tflite": float16}},
        )
        ```
    """
    fallbacks = fallbacks or {}
    _check_exporters(exporters, fallbacks)
    labels = labels_module.resolve(model, describe(model), class_names)
    limits = thresholds or Thresholds()
    limits.check_measurable(labelled)
    canvas_for(model, canvas)  # What does not fit is refused before anything is written.
    encoded = collect(images, labelled, labels)
    _check_names(exporters, fallbacks)
    with whole_directory(
        Path(directory), overwrite, mark=report.JSON_NAME, is_own=report.is_own
    ) as folder:
        verified = write_verified(
            model, folder, exporters, encoded, labels, limits, fallbacks, canvas
        )
        _check_kept(verified)
        report.write(folder, model.name, verified, limits)
    return {name: _moved(one, folder, Path(directory)) for name, one in verified.items()}


@keras_defaults()
def write_verified(
    model: keras.Model,
    folder: Path,
    exporters: Mapping[str, Exporter],
    encoded: EncodedImages,
    labels: Labels,
    thresholds: Thresholds,
    fallbacks: Mapping[str, Mapping[str, Exporter]],
    canvas: Sequence[Any] | None = None,
) -> dict[str, Verification]:
    """Writes artifacts into a folder that is there, and verifies each.

    Args:
        model: The student.
        folder: Where.
        exporters: As in `package`.
        encoded: Images, with labels or without.
        labels: Head to class names.
        thresholds: As in `package`.
        fallbacks: As in `package`.
        canvas: `(height, width, channels, fit)` of the evaluation images; see `package`.

    Returns:
        Name to what was measured; a fallback stands under its own name. What misses a threshold is
        among them if nothing is left to fall back to.
    """
    reference = Reference(model, encoded, canvas)
    verified = {}
    for name, exporter in exporters.items():
        passed_over: dict[str, tuple[str, ...]] = {}
        left = {name: exporter, **fallbacks.get(name, {})}
        while left:
            file = next(iter(left))
            write = left.pop(file)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".") as trial:
                try:
                    artifact = write(model, Path(trial) / file, class_names=labels)
                except (ValueError, NotImplementedError) as error:
                    said = str(error).replace(f"{trial}/", "")
                    if left:
                        passed_over[file] = (said,)
                        continue
                    if passed_over:
                        said = _each(passed_over | {file: (said,)})
                        raise ValueError(f"Nothing can stand for '{name}'. {said}") from error
                    error.args = (said,)  # The folder it names is gone when this is read.
                    raise
                one = verify_against(reference, artifact, labels, thresholds)
                if one.missed and left:
                    passed_over[file] = one.missed
                    continue
                for entry in Path(trial).iterdir():
                    entry.rename(folder / entry.name)
            one = dataclasses.replace(one, instead_of=passed_over)
            verified[file] = _moved(one, Path(trial), folder)
            break
    return verified


def _moved(one: Verification, source: Path, target: Path) -> Verification:
    """The same, of the artifact that went from one folder to another."""
    path = target / one.artifact.path.relative_to(source)
    return dataclasses.replace(one, artifact=dataclasses.replace(one.artifact, path=path))


def _check_kept(verified: Mapping[str, Verification]) -> None:
    """Refuses artifacts that miss a threshold, saying all that they and those before them miss."""
    missed = {name: one for name, one in verified.items() if one.missed}
    if missed:
        said = [_each({name: one.missed, **one.instead_of}) for name, one in missed.items()]
        raise ValueError(
            f"The student is not packaged: thresholds are missed, and nothing was left in place. "
            f"{' '.join(said)}"
        )


def _each(missed: Mapping[str, Sequence[str]]) -> str:
    return " ".join(f"{name}: {one}" for name, those in missed.items() for one in those)


def _check_exporters(exporters: Any, fallbacks: Any) -> None:
    """Refuses anything but names of artifacts with what writes them."""
    _check_writers("`exporters`", exporters)
    if not isinstance(fallbacks, Mapping):
        raise TypeError(
            "`fallbacks` must map the name of an artifact to what stands in for it. Received: "
            f"{fallbacks!r} of type {type(fallbacks).__name__}. Expected: such as "
            "{'student_int8.tflite': {'student.tflite': export.to_tflite}}."
        )
    for name, others in fallbacks.items():
        _check_writers(f"`fallbacks[{name!r}]`", others)


def _check_writers(argument: str, given: Any) -> None:
    if not isinstance(given, Mapping) or not all(map(callable, given.values())):
        raise TypeError(
            f"{argument} must map names of files to the functions that write them. Received: "
            f"{given!r} of type {type(given).__name__}. Expected: such as "
            "{'student.onnx': export.to_onnx, 'student.tflite': export.to_tflite}."
        )


def _check_names(
    exporters: Mapping[str, Exporter], fallbacks: Mapping[str, Mapping[str, Exporter]]
) -> None:
    names = [*exporters, *(name for others in fallbacks.values() for name in others)]
    if not exporters or not all(name == Path(name).name for name in names):
        raise ValueError(
            f"`exporters` names what to write. Received: {names}. Expected: one or more plain "
            "names of files or folders, such as 'student.tflite'. Name them."
        )
    unknown = sorted(set(fallbacks) - set(exporters))
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if unknown or twice:
        raise ValueError(
            f"`fallbacks` names what may stand in place of an artifact. Received: {unknown} that "
            f"nobody writes, {twice} more than once. Expected: keys of `exporters`, and new names. "
            "Rename them."
        )
    beside = [_companion(Path(name)) for name in names]
    if taken := sorted({*names} & {report.JSON_NAME, report.PAGE_NAME, *beside}):
        raise ValueError(
            f"`exporters` names what is written anyway. Received: {taken}. Expected: other names "
            "than the report's and than those of the files beside artifacts. Rename them."
        )


def _companion(path: Path) -> str | None:
    """The file that an exporter writes beside its artifact."""
    beside = {".tflite": metadata.beside, ".keras": labels_module.beside}.get(path.suffix)
    return None if beside is None else beside(path).name
