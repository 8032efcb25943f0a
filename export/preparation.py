"""The steps that every exporter begins and ends with."""

import dataclasses
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import decisions, parity
from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.entrance import Entrance, entrance_of
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.samples import checked_images, photographs_of, random_images
from keras_amalgam.export.signatures import (
    IMAGE_SHAPE,
    Signature,
    describe,
    float32_copy,
    outputs_of,
    spatial_size,
)
from keras_amalgam.files.contents import bytes_on_disk
from keras_amalgam.images.resizing import Resize
from keras_amalgam.models.outputs import final_activation, innermost


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A model that can be exported, and what its export asks of it, each worked out once.

    Attributes:
        model: The model to write, in the precision it is compared in.
        signature: Its interface.
        labels: Head to class names.
        started: `time.perf_counter()` at the start.
    """

    model: keras.Model
    signature: Signature
    labels: Labels
    started: float

    @cached_property
    def entrance(self) -> Entrance | None:
        """How photographs enter the model; `None` where it does not begin with a resize."""
        return entrance_of(self.model, signature=self.signature)

    def entrance_to(self, size: tuple[int, int] | None) -> Entrance | None:
        """The same, with photographs brought to `size` where the model has no entrance."""
        if self.entrance is not None or size is None:
            return self.entrance
        return Entrance(Resize(size), self.model)

    def size(
        self, image_shape: Sequence[int] | None = None, remedy: str = IMAGE_SHAPE
    ) -> tuple[int, int]:
        """See `spatial_size`."""
        return spatial_size(self.model, image_shape, remedy, self.signature)

    def compared_on(self, images: Any, size: tuple[int, int] | None = None) -> "Job":
        """The export that is compared on some images.

        Args:
            images: Raw images; `None` means generated ones: noise of the model's own size,
                enlarged to photographs with sensor noise where the model shrinks them.
            size: `(height, width)` of what is generated; by default that of photographs.

        Raises:
            ValueError: If the images do not fit the model or are not raw.
        """
        if images is not None:
            return Job(self, checked_images(images, self.signature, "images"))
        return Job(self, self._generated(size))

    def _generated(self, asked: tuple[int, int] | None) -> np.ndarray:
        if self.entrance is None or self.signature.image_shape[:2] != (None, None):
            # Photographs could be too large for what the model does first.
            size = asked or _off_size(self.signature, self.size(remedy="`images=`"))
            return random_images(self.signature, size)
        own = self.entrance.resize.full_size
        images = random_images(self.signature, own)
        if asked is None:
            return photographs_of(images)
        return images if asked == own else photographs_of(images, asked)


@dataclasses.dataclass(frozen=True)
class Job:
    """One export: what is written and what it is compared with.

    Attributes:
        prepared: What is written.
        images: Raw images for the comparison, `(count, height, width, channels)`.
    """

    prepared: Prepared
    images: np.ndarray

    @property
    def model(self) -> keras.Model:
        """The model to write."""
        return self.prepared.model

    @property
    def signature(self) -> Signature:
        """Its interface."""
        return self.prepared.signature

    @property
    def labels(self) -> Labels:
        """Head to class names."""
        return self.prepared.labels

    @cached_property
    def expected(self) -> dict[str, np.ndarray]:
        """What the model gives for `images`, by head."""
        return parity.reference(self.model, self.signature, self.images)

    def with_images(self, images: np.ndarray) -> "Job":
        """The same job, compared on other images."""
        return Job(self.prepared, images)

    def verify(
        self,
        actual: Mapping[str, np.ndarray],
        bounds: parity.Bounds,
        subject: str,
        joint: bool = False,
    ) -> dict[str, Any]:
        """Compares an artifact's outputs on `images` with the model's.

        Args:
            actual: Head to the artifact's outputs.
            bounds: What they must keep to.
            subject: What is compared, for messages.
            joint: Whether the artifact also gives the joint prediction.

        Returns:
            The measurements, JSON-ready.

        Raises:
            ValueError: If the artifact has other heads or shapes, or exceeds the bounds.
        """
        expected = self.expected
        if joint:
            expected = expected | {decisions.JOINT: decisions.joined(self.labels, expected)}
        without = labels_module.without_classes(self.labels)
        measured = parity.compare(expected, actual, subject, without)
        parity.check(measured, bounds, subject)
        return parity.summary(measured, len(self.images))

    def artifact(
        self,
        path: Path,
        measured: Mapping[str, Any],
        kind: tuple[str, str],
        operators: Mapping[str, int] | None = None,
    ) -> Artifact:
        """The record of an artifact that is in place.

        Args:
            path: Where it is.
            measured: What `verify` returned.
            kind: Format and precision.
            operators: Operator to its number of occurrences.
        """
        return Artifact(
            path=path,
            format=kind[0],
            precision=kind[1],
            bytes=bytes_on_disk(path),
            heads=tuple(self.signature.heads),
            parity=measured,
            operators=operators or {},
            seconds=time.perf_counter() - self.prepared.started,
        )


def prepare(
    model: keras.Model,
    class_names: Mapping[str, Sequence[str]] | None,
    *,
    in_float32: bool = False,
) -> Prepared:
    """Checks a model and its class names before anything is written.

    Args:
        model: The student.
        class_names: Head to class names; `None` means the model's attribute `class_names`.
        in_float32: Whether a model of another precision is replaced by its float32 copy.

    Returns:
        What is to be exported.

    Raises:
        TypeError: If the model or the class names are of the wrong type.
        ValueError: If one of them cannot be exported.
    """
    started = time.perf_counter()
    signature = describe(model)
    _check_name(model)
    labels = labels_module.resolve(model, signature, class_names)
    check_logits(model, signature, labels_module.classified(labels))
    model = float32_copy(model) if in_float32 else model
    return Prepared(model, signature, labels, started)


def _check_name(model: keras.Model) -> None:
    """Refuses a name that TensorFlow has no scope for: no graph can be made of such a model."""
    if not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", model.name):
        raise ValueError(
            f"The model's name cannot stand in a graph. Received: {model.name!r}. Expected: ASCII "
            "letters, digits, '_', '-' and '.'. Set `model.name`, on the command line --name."
        )


def check_logits(model: keras.Model, signature: Signature, heads: Iterable[str]) -> None:
    """Refuses probabilities: scores and the joint prediction would take a softmax of them again.

    Args:
        model: The model.
        signature: Its interface.
        heads: Those that have classes.

    Raises:
        ValueError: If one of them ends in an activation.
    """
    outputs: Any = outputs_of(model)
    if not isinstance(outputs, dict):
        outputs = dict.fromkeys(signature.heads, outputs)
    for head in heads:
        if kind := final_activation(innermost(outputs[head])):
            raise ValueError(
                f"Head '{head}' of model '{model.name}' does not give logits. Received: {kind}, by "
                "the activation at its end. Expected: logits. Build the head without its "
                "activation: the largest logit is the likeliest class."
            )


def _off_size(signature: Signature, size: tuple[int, int]) -> tuple[int, int]:
    """A size that a model of any size has to resize, so that its resizing is compared too."""
    height, width, _ = signature.image_shape
    return (
        size[0] + size[0] // 4 if height is None else height,
        size[1] + size[1] // 3 if width is None else width,
    )
