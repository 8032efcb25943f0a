"""A student as a bundle that TF Serving serves."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import labels, parity
from keras_amalgam.export.arguments import is_whole
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.parity import HeadParity, summary
from keras_amalgam.export.preparation import Job, Prepared, prepare
from keras_amalgam.export.serving import endpoints, readme, warmup
from keras_amalgam.export.serving.bundle import Bundle
from keras_amalgam.export.serving.images_in_graph import resizes_itself
from keras_amalgam.export.serving.protos import serving_protos
from keras_amalgam.export.staging import staged, staged_text
from keras_amalgam.export.to_saved_model import operator_counts, write
from keras_amalgam.files.writing import folders
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.tasks.names import TASK_NAME


@keras_defaults()
def to_serving(
    model: keras.Model,
    directory: str | PathLike[str],
    version: int | None = None,
    *,
    name: str | None = None,
    label: str = "stable",
    keep: int | None = None,
    top_k: int = 5,
    image_shape: Sequence[int] | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    images: Any = None,
    tolerance: float | None = None,
    check: Callable[[Artifact], None] | None = None,
) -> Artifact:
    """Writes a student as a new version of a TF Serving bundle and checks every signature.

    The bundle is `directory/<name>/<version>/` with `models.config`, `batching_params.pbtxt` and a
    README with the commands beside `<name>`. A version is written aside, checked, and moved into
    place in one step, so that a server that watches the folder never sees a part of it. Of several
    exports into one bundle at a time one writes, and the others wait.

    | signature | `image` | gives |
    | --- | --- | --- |
    | `serving_default` | float32 `(batch, height, width, channels)`, raw, 0..255 | logits by head |
    | `uint8` | uint8, the same | the same |
    | `encoded` | strings `(batch,)`: JPEG or PNG files of any size | the same |
    | `classify` | as `encoded` | `<head>_classes` and `<head>_scores`, `(batch, top_k)` |

    `encoded` decodes, applies the EXIF orientation, resizes antialiased to the size that the
    student begins with, and normalises, all in the graph. Needs
    `pip install 'keras-amalgam[serving]'`.

    Args:
        model: The student, a functional model from raw images to a dict of heads of logits.
        directory: The bundle; made if it does not exist. Several models can stand in one.
        version: A positive number that is free; by default one more than the newest.
        name: The model's name on the server; by default the model's own.
        label: The version label that points to this version from now on. Versions under other
            labels go on being served, so that `label="canary"` puts one beside the stable one.
        keep: If given, the newest so many versions stay, and the labelled ones; older ones are
            removed. Keep two for a running server: it asks for the former version until it has
            read the configuration again.
        top_k: How many classes `classify` names for each head; fewer where it has fewer.
        image_shape: `(height, width)` that encoded images are brought to, for a student that
            takes any size and does not resize; by default the size of `images`.
        class_names: Head to class names in the order of the head's units; by default the model's
            attribute `class_names`.
        images: Raw images in 0..255 for the comparison and the warm-up, rounded to whole grey
            levels; by default generated ones. Where they have the student's size, `encoded` and
            `classify` are compared on photographs of them, larger and with sensor noise.
        tolerance: Largest allowed absolute difference of a logit, or of a score, from the Keras
            model's; by default 1e-4, or 1e-5 of a head's largest logit where that is more.
        check: Called with the version's record while it is still aside; what it raises leaves
            the bundle as it was.

    Returns:
        The record of the version.

    Raises:
        TypeError: If the model is not functional, or the class names are no mapping.
        ValueError: If an argument cannot be used, the version exists, or a signature disagrees with
            the model. Then the bundle is left as it was.
        ImportError: If TF Serving's message definitions are missing.

    Example:
        ```python
        export.to_serving(student, "serving", name="animals")
        ```
    """
    serving_protos()
    bounds = parity.bounds_for("float32", tolerance, None)
    prepared = prepare(model, class_names, in_float32=True)
    _check_heads(prepared, top_k)
    resized_to = _resized_to(prepared, image_shape, images)
    job = prepared.compared_on(images, resized_to if image_shape is not None else None)
    job = job.with_images(np.rint(job.images).astype(np.uint8))
    bundle = Bundle(Path(directory), model.name if name is None else name)
    _check_names(bundle, label, keep)
    with _folders(bundle), bundle.locked():
        version = _checked_version(bundle, version)
        target = bundle.base / str(version)
        pointing = bundle.labels() | {label: version}
        with (
            _configuration(bundle, version, pointing, label, job),
            staged(target, suffix="", overwrite=False) as partial,
        ):
            _write(partial, job, bundle.name, resized_to, top_k)
            measured = endpoints.check(partial, job, bounds, f"Bundle '{target}'", resized_to)
            worst, operators = _worst(measured, len(job.images)), operator_counts(partial)
            if check is not None:
                check(_record(job, partial, worst, operators, resized_to))
        if keep is not None:
            bundle.prune(keep, pointing)
    return _record(job, target, worst, operators, resized_to)


def _write(
    partial: Path, job: Job, name: str, resized_to: tuple[int, int] | None, top_k: int
) -> None:
    """The version: its signatures, labels and warm-up requests."""
    entrance = job.prepared.entrance_to(resized_to)
    signatures = endpoints.endpoints(job.model, job.signature, job.labels, entrance, top_k)
    write({key: (one.function, one.spec()) for key, one in signatures.items()}, partial)
    labels.write_folder(partial / labels.SAVED_MODEL_FOLDER, job.labels)
    warmup.write(partial, name, job.images)


def _record(
    job: Job,
    path: Path,
    measured: Mapping[str, Any],
    operators: Mapping[str, int],
    resized_to: tuple[int, int] | None,
) -> Artifact:
    artifact = job.artifact(path, measured, ("serving", "float32"), operators)
    return dataclasses.replace(artifact, resized_to=resized_to)


def _worst(measured: Mapping[str, Mapping[str, HeadParity]], images: int) -> dict[str, Any]:
    """The agreement of the float signature, with that of every other beside."""
    signatures = {key: summary(one, images) for key, one in measured.items()}
    return signatures[endpoints.FLOAT] | {"signatures": signatures}


def _check_heads(prepared: Prepared, top_k: int) -> None:
    """Refuses heads whose classes `classify` cannot name."""
    heads = prepared.signature.heads
    if maps := sorted(head for head, shape in heads.items() if len(shape) != 1):
        raise ValueError(
            f"TF Serving's `classify` needs one vector of logits per head. Received: maps at "
            f"{maps}. Expected: heads of shape (batch, classes). Use `to_saved_model`."
        )
    if not is_whole(top_k, 1):
        raise ValueError(
            f"`classify` must name at least one class. Received: top_k={top_k!r}. Expected: 1 or "
            "more. Raise it."
        )


def _resized_to(
    prepared: Prepared, image_shape: Sequence[int] | None, images: Any
) -> tuple[int, int] | None:
    """The size that encoded images are brought to if the student does not do it."""
    if resizes_itself(prepared):
        prepared.size(image_shape)  # What contradicts the model is refused all the same.
        return None
    try:
        return prepared.size(image_shape)
    except ValueError:
        if image_shape is not None or np.ndim(images) != 4:
            raise
        height, width = np.shape(images)[1:3]
        return height, width


def _check_names(bundle: Bundle, label: str, keep: int | None) -> None:
    for what, text in (("name", bundle.name), ("label", label)):
        if not isinstance(text, str) or not TASK_NAME.fullmatch(text) or text.isdecimal():
            raise ValueError(
                f"`{what}` cannot stand in a server's address. Received: {text!r}. Expected: "
                "ASCII letters, digits, '_', '.' and '-', not digits alone. Choose another."
            )
    if keep is not None and not is_whole(keep, 1):
        raise ValueError(
            f"At least the new version stays. Received: keep={keep!r}. Expected: 1 or more, or "
            "None to keep all. Raise it."
        )


def _checked_version(bundle: Bundle, version: int | None) -> int:
    """Refuses what cannot be published; returns the version's number."""
    there = bundle.versions()
    if version is None:
        version = there[-1] + 1 if there else 1
    if not is_whole(version, 1) or version >= 2**63:
        raise ValueError(
            f"A version is a positive whole number. Received: {version!r}. Expected: 1 or more. "
            "Leave it out to take the next one."
        )
    if version in there:
        raise ValueError(
            f"The version exists already, and servers may be using it. Received: "
            f"version={version} in '{bundle.base}', which holds {there}. Expected: a number that "
            "is free. Leave `version` out to take the next one."
        )
    bundle.configuration()  # Unreadable, it is refused before anything is written.
    return version


@contextlib.contextmanager
def _folders(bundle: Bundle) -> Iterator[None]:
    with contextlib.ExitStack() as made:
        try:
            made.enter_context(folders(bundle.base))
        except OSError as error:
            raise ValueError(
                f"The bundle cannot be made. Received: '{bundle.directory}' ({error}). Expected: a "
                "directory that can be written to. Choose another, or change its permissions."
            ) from error
        yield


@contextlib.contextmanager
def _configuration(
    bundle: Bundle, version: int, pointing: dict[str, int], label: str, job: Job
) -> Iterator[None]:
    """Configuration and README, written aside; in place once the version is."""
    models = bundle.models() | {bundle.name: job.labels}
    texts = bundle.texts(version, pointing) | {readme.FILE_NAME: readme.text(models, label)}
    with contextlib.ExitStack() as files:
        for name, text in texts.items():
            files.enter_context(staged_text(bundle.directory / name, text))
        yield
