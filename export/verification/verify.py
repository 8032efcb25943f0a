"""An artifact against the student it was made from, in a fresh process."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import decisions, parity
from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.arguments import is_whole
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.serving.endpoints import CLASSIFY, FLOAT
from keras_amalgam.export.signatures import Signature, describe
from keras_amalgam.export.verification import (
    companions,
    decided,
    processes,
    signatures_of_bundle,
)
from keras_amalgam.export.verification.encoded import EncodedImages, collect
from keras_amalgam.export.verification.reference import Reference, canvas_for
from keras_amalgam.export.verification.thresholds import Thresholds
from keras_amalgam.files.contents import bytes_on_disk
from keras_amalgam.keras_settings import keras_defaults


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was measured of an artifact, and what it misses.

    Attributes:
        artifact: The artifact's record.
        measured: `images`, `bytes`, `memory_bytes`, `latency_ms` (`one_thread` and `all_threads`,
            each `median` and `p95`), `canvas` (height, width and method of what the student was
            evaluated on; `None` for its own size), `heads` (the agreement of each with the
            student: on what the artifact was given, and `on_canvas`), `bounds` (what that was held
            to) and `accuracy` (of each labelled task the artifact's and, on the canvas, the
            student's, 0..1); of a bundle also `signatures`, the agreement of each other one by
            head, and in `accuracy` of each, the artifact's being the least of them.
        missed: What the thresholds miss, a sentence each.
        instead_of: Artifacts that this one replaces, with what each missed.
    """

    artifact: Artifact
    measured: Mapping[str, Any]
    missed: tuple[str, ...]
    instead_of: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        record = {key: self.artifact.to_dict()[key] for key in ("format", "precision", "operators")}
        name = {"name": self.artifact.path.name}
        found = {
            "missed": list(self.missed),
            "instead_of": {name: list(missed) for name, missed in self.instead_of.items()},
        }
        return name | record | dict(self.measured) | found


@keras_defaults()
def verify(
    artifact: Artifact,
    model: keras.Model,
    images: Any = None,
    *,
    labelled: Mapping[str, Any] | None = None,
    thresholds: Thresholds | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    repeats: int = 50,
    canvas: Sequence[Any] | None = None,
) -> Verification:
    """Runs an artifact in a process of its own and compares it with its student.

    Everything begins with photographs at their own size. The artifact gets what the documentation
    tells an application to hand over: a bundle the files; an artifact of fixed size what Pillow's
    bilinear filter makes of them; others the pixels. Its logits are compared with the student's on
    the same pixels, and its decisions and accuracies with those of the student as it was
    evaluated: on photographs that the data sets' canvas has brought to size, antialiased. What is
    lost on another way to the student's size is seen so. The process imports the artifact's runtime
    and nothing of this package.

    Args:
        artifact: What an exporter returned.
        model: The student.
        images: Images for the comparison: a folder, files, bytes of files, or an array of raw
            images `(count, height, width, channels)`; or task to such, so that how often a head
            decides alike is measured on images of its task. Photographs as in use, at their own
            size: those on a canvas already show nothing of what resizing does.
        labelled: Task to a folder with one sub-folder for each class, or to images as above with
            their class numbers: for the accuracies.
        thresholds: What the artifact must keep to; by default the bounds of its precision.
        class_names: Head to class names; by default the model's attribute.
        repeats: Calls that are timed.
        canvas: `(height, width)` or `(height, width, method)` of the images that the student was
            evaluated on, as of `data.canvas`; by default the size that it begins with.

    Returns:
        The measurements, with what they miss.

    Raises:
        TypeError: If `artifact` is no exporter's record.
        ValueError: If there is no artifact, no image, or one that cannot be decoded; if a limit
            needs labelled images and there are none; if model, labels and artifact do not fit.
        RuntimeError: If the process fails, with what it said.

    Example:
        ```python
        verification = export.verify(artifact, student, "photos/")
        print(verification.missed or "good")
        ```
    """
    if not isinstance(artifact, Artifact):
        raise TypeError(
            f"Only what an exporter wrote can be verified. Received: {artifact!r} of type "
            f"{type(artifact).__name__}. Expected: the `Artifact` that an exporter returned. "
            "Export the student, or let `export.package` do both."
        )
    if not artifact.path.exists():
        raise ValueError(
            f"The artifact is not there any more. Received: '{artifact.path}'. Expected: the file "
            "or folder that the exporter wrote. Export the student again."
        )
    if not is_whole(repeats, 1):
        raise ValueError(
            f"`repeats` is no number of timed calls. Received: {repeats!r}. Expected: 1 or more. "
            "Leave it out if unsure."
        )
    signature = describe(model)
    labels = labels_module.resolve(model, signature, class_names)
    thresholds = thresholds or Thresholds()
    thresholds.check_measurable(labelled)
    canvas_for(model, canvas)  # What does not fit is refused before files are read.
    reference = Reference(model, collect(images, labelled, labels), canvas)
    return verify_against(reference, artifact, labels, thresholds, repeats)


@keras_defaults()
def verify_against(
    reference: Reference,
    artifact: Artifact,
    labels: Labels,
    thresholds: Thresholds,
    repeats: int = 50,
) -> Verification:
    """As `verify`, against a student whose photographs were read already."""
    encoded, signature = reference.encoded, reference.signature
    size = _size(artifact, signature)
    resized_to = artifact.resized_to or size

    def ask_student() -> None:
        reference.as_shown(size, artifact.covers)
        reference.as_evaluated(resized_to)

    answers, cost = _measured(artifact, encoded, signature, size, repeats, ask_student)
    subject = f"Artifact '{artifact.path.name}'"
    outputs = decisions.check_ids(answers[FLOAT], labels, subject)
    expected = reference.as_shown(size, artifact.covers)
    evaluated = reference.as_evaluated(resized_to)
    joint = decisions.JOINT in outputs and decisions.JOINT not in labels
    if joint:
        for values in (expected, evaluated):
            values[decisions.JOINT] = decisions.joined(labels, values)
    without = labels_module.without_classes(labels)
    own = {task: encoded.of(task) for task in labels}
    canvas = reference.canvas
    heads = parity.compare(expected, outputs, subject, without, own)
    measured = cost | {
        "images": len(encoded.contents),
        "canvas": None if canvas is None else [*canvas.size, canvas.method],
        "heads": parity.summary(heads, len(encoded.contents))["heads"],
        "bounds": dataclasses.asdict(thresholds.bounds(artifact.precision)),
    }
    answers[FLOAT], wrong = outputs, []
    if len(answers) > 1:
        of_files = evaluated if canvas is None else reference.entered(resized_to)
        measured["signatures"], classified, wrong = signatures_of_bundle.compare(
            answers, expected, of_files, labels, own, thresholds
        )
        answers[CLASSIFY] = classified
    decided.add_to(measured, answers, evaluated, encoded.labels, own, without)
    missed = thresholds.missed(measured, heads, artifact.precision)
    missed += decided.missed(measured, thresholds.bounds(artifact.precision).min_agreement)
    missed += companions.wrong(artifact, decisions.outputs_of(labels, joint, 0))
    return Verification(artifact, measured, tuple(missed + wrong))


def _measured(
    artifact: Artifact,
    encoded: EncodedImages,
    signature: Signature,
    size: tuple[int, int] | None,
    repeats: int,
    meanwhile: Callable[[], object],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """What the artifact answers, signature to head to values, and what it costs."""
    channels = signature.image_shape[2]
    threads = (1, os.cpu_count() or 1)
    outputs, runs = processes.run(artifact, encoded, size, channels, threads, repeats, meanwhile)
    answers = signatures_of_bundle.split(outputs)
    if "" in answers[FLOAT]:  # A model of one unnamed output.
        answers[FLOAT] = dict.fromkeys(signature.heads, answers[FLOAT][""])
    return answers, {
        "bytes": bytes_on_disk(artifact.path),
        "memory_bytes": runs[0]["memory_bytes"],
        "latency_ms": {
            name: {"median": run["median_ms"], "p95": run["p95_ms"]}
            for name, run in zip(("one_thread", "all_threads"), runs, strict=True)
        },
    }


def _size(artifact: Artifact, signature: Signature) -> tuple[int, int] | None:
    """Height and width that the artifact's images must have, if it has a fixed size."""
    if artifact.format == "tflite":
        from keras_amalgam.export.tflite import runtime

        height, width = runtime.load(artifact.path).image_shape[1:3]
    else:
        height, width, _ = signature.image_shape
    return None if height is None or width is None else (height, width)
