"""Several artifacts of one student in a folder, each verified, with one report over all."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.signatures import describe
from keras_amalgam.export.verification import report
from keras_amalgam.export.verification.encoded import collect
from keras_amalgam.export.verification.thresholds import Thresholds
from keras_amalgam.export.verification.verify import Verification, verify_encoded
from keras_amalgam.writing import whole_directory

Exporter = Callable[..., Artifact]
"""One of this package's `to_…`, or such a one with some arguments given (`functools.partial`)."""


def package(
    model: keras.Model,
    directory: str | PathLike[str],
    exporters: Mapping[str, Exporter],
    images: Any = None,
    *,
    labelled: Mapping[str, Any] | None = None,
    thresholds: Thresholds | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
) -> dict[str, Verification]:
    """Writes artifacts of a student, verifies each in a process of its own, and reports.

    The folder holds the artifacts, `export.json` and `export.html`. It appears when everything in
    it has been verified; if a threshold is missed, nothing is left.

    Args:
        model: The student.
        directory: The folder to write.
        exporters: Name of a file or folder inside to what writes it.
        images: Images for the comparison, as in `verify`: a folder, files, or an array.
        labelled: Task to labelled images, as in `verify`, for the accuracies.
        thresholds: What every artifact must keep to.
        class_names: Head to class names; by default the model's attribute.
        overwrite: Whether an earlier such folder is replaced. Any other never is.

    Returns:
        Name to what was measured.

    Raises:
        ValueError: If an argument cannot be used, an artifact cannot be made, or it misses a
            threshold; then all that was missed is said.
        FileExistsError: If the folder exists and is not to be replaced.

    Example:
        ```python
        int8 = functools.partial(export.to_tflite, precision="int8", calibration=images)
        export.package(
            student,
            "dist",
            {"student.tflite": export.to_tflite, "student_int8.tflite": int8},
            images="photos/",
            labelled={"birds": "birds_test/"},
            thresholds=export.Thresholds(max_accuracy_loss=0.5),
        )
        ```
    """
    labels = labels_module.resolve(model, describe(model), class_names)
    encoded = collect(images, labelled, labels)
    if not exporters or not all(name == Path(name).name for name in exporters):
        raise ValueError(
            f"`exporters` names what to write. Received: {list(exporters)}. Expected: one or more "
            "plain names of files or folders, such as 'student.tflite'. Name them."
        )
    verified: dict[str, Verification] = {}
    with whole_directory(Path(directory), overwrite, mark=report.JSON_NAME) as folder:
        for name, exporter in exporters.items():
            artifact = exporter(model, folder / name, class_names=labels)
            limits = thresholds or Thresholds()
            verified[name] = verify_encoded(artifact, model, encoded, labels, limits)
        if missed := [f"{name}: {m}" for name, one in verified.items() for m in one.missed]:
            raise ValueError(
                f"The student is not packaged: {len(missed)} thresholds are missed, and nothing "
                "was left in place. " + " ".join(missed)
            )
        report.write(folder, model.name, verified)
    return verified
