"""Test images with what teacher and student say about them, drawn by chance."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from keras_amalgam.evaluation.predictions import Labelled, labelled_batches


@dataclass(frozen=True)
class Opinion:
    """A model's answer: the class of its largest logit and that class's softmax."""

    label: str
    confidence: float


@dataclass(frozen=True)
class Sample:
    """One test image.

    Attributes:
        task: The image's task.
        image: `(height, width, channels)`, 0..255.
        label: Its true class.
        teacher: What its task's teacher says, among the task's classes.
        student: What the student says, among the task's classes.
        mistake: Whether it was drawn from the student's mistakes, not from all images.
    """

    task: str
    image: np.ndarray
    label: str
    teacher: Opinion
    student: Opinion
    mistake: bool = False


def draw_samples(
    task: str,
    labelled: Labelled,
    teacher_logits: np.ndarray,
    student_logits: np.ndarray,
    class_names: Sequence[str],
    num_random: int = 8,
    num_mistakes: int = 8,
    seed: int = 0,
) -> list[Sample]:
    """Draw images by chance: some from all, some from those the student gets wrong.

    Args:
        task: Name of the task.
        labelled: The task's test images, as `collect` took them.
        teacher_logits: `(images, classes)`, from `collect`.
        student_logits: `(images, classes)`, from `collect`.
        class_names: The task's classes.
        num_random: How many to draw from all images.
        num_mistakes: How many to draw from the student's mistakes, if there are as many.
        seed: Of the draw.

    Returns:
        The samples drawn from all images, then those drawn from the mistakes.

    Raises:
        ValueError: If logits and images differ in number.
    """
    labels = np.concatenate([batch_labels for _, batch_labels in labelled_batches(labelled)])
    if not len(labels) == len(teacher_logits) == len(student_logits):
        raise ValueError(
            f"Samples need the logits of the same images. Received: {len(labels)} images, "
            f"{len(teacher_logits)} teacher and {len(student_logits)} student rows."
        )
    wrong = np.flatnonzero(student_logits.argmax(axis=1) != labels)
    generator = np.random.default_rng(seed)
    drawn = []
    for pool, size, mistake in (
        (np.arange(len(labels)), num_random, False),
        (wrong, num_mistakes, True),
    ):
        chosen = generator.choice(pool, min(size, len(pool)), replace=False)
        drawn += [(int(index), mistake) for index in chosen]
    images = _images_at(labelled, {index for index, _ in drawn})
    return [
        Sample(
            task,
            images[index],
            class_names[int(labels[index])],
            _opinion(teacher_logits[index], class_names),
            _opinion(student_logits[index], class_names),
            mistake,
        )
        for index, mistake in drawn
    ]


def _images_at(labelled: Labelled, places: Set[int]) -> dict[int, np.ndarray]:
    """Some images by their place: all of them can be more than memory holds."""
    images, start = {}, 0
    for batch, _ in labelled_batches(labelled):
        inside = (place for place in places if start <= place < start + len(batch))
        images |= {place: batch[place - start].copy() for place in inside}
        start += len(batch)
    return images


def _opinion(logits: np.ndarray, class_names: Sequence[str]) -> Opinion:
    odds = np.exp(logits - logits.max())
    return Opinion(class_names[int(logits.argmax())], float(odds.max() / odds.sum()))
