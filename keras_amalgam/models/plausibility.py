"""Whether a teacher's answers to somebody's images can be logits at all."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

# Fewer images than these show one sign, or one class, by chance too often.
SIGN_IMAGES = 16
CLASS_IMAGES = 32
# Rows of log-probabilities sum to one by their exponentials, up to rounding in half precision.
_ROUNDING = 1e-2


class TeacherWarning(UserWarning):
    """A teacher's answers are not what they are taken for, as far as its images show."""


class Answering(Protocol):
    """What is asked of a `keras_amalgam.Teacher` here."""

    name: str

    @property
    def outputs(self) -> str: ...  # noqa: D102

    @property
    def returns(self) -> str: ...  # noqa: D102

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102


def doubt(teacher: Answering, logits: np.ndarray) -> str | None:
    """A warning if a linear head's answers contradict that they are logits.

    Nothing in a network tells logits from the numbers of a regression, but images do. Only heads
    that nobody vouched for are judged: an activation that was seen, and `outputs="logits"`, say
    what they are.

    Args:
        teacher: The teacher that gave the answers.
        logits: `(images, classes)`, to different images.

    Returns:
        Sentences, or `None`.
    """
    if (teacher.outputs, teacher.returns) != ("auto", "logits"):
        return None
    found = contradictions(logits, teacher.class_names)
    return found and f"Teacher {teacher.name!r} may not return logits: {found}"


def contradictions(logits: np.ndarray, class_names: Sequence[str]) -> str | None:
    """What in answers to different images contradicts that they are logits.

    The logits of a softmax sum to about zero, as its gradient leaves their sum alone, so that all
    of one sign are rare; positions, sizes, ages and scores are often of one sign. A class that
    is the largest on every image is the image collection's doing, or again a number's.

    Args:
        logits: `(images, classes)`. Fewer than 16 images say nothing about signs, fewer than 32
            nothing about classes.
        class_names: One for each column.

    Returns:
        What contradicts, and what to do; `None` if nothing does. Log-probabilities, which are all
        negative, are logits.
    """
    values = np.asarray(logits, dtype="float64")
    if not np.all(np.isfinite(values)):
        return None  # The training says so, and where they come from.
    if len(values) < SIGN_IMAGES or np.ptp(values, axis=0).max() <= 1e-6 * np.abs(values).max():
        return None  # Too few images, or images all alike to the network.
    if np.abs(np.logaddexp.reduce(values, axis=1)).max() < _ROUNDING:
        return None
    if values.min() > 0 or values.max() < 0:
        return (
            f"all of its answers to {len(values)} images are "
            f"{'positive' if values.min() > 0 else 'negative'}, from {values.min():.3g} to "
            f"{values.max():.3g}. Expected: answers of both signs. Numbers of a regression, such "
            "as positions, sizes or ages, cannot teach. If the softmax of the answers is the "
            "classes' probabilities, make it with outputs='logits'."
        )
    largest = values.argmax(axis=1)
    if len(values) < CLASS_IMAGES or np.ptp(largest):
        return None
    return (
        f"{class_names[int(largest[0])]!r} has the largest of its answers to each of {len(values)} "
        "images. If they all show that class, add images of the others, which a student cannot "
        "learn otherwise. If they do not, the answers may be numbers of a regression, which cannot "
        "teach. If neither, make it with outputs='logits'."
    )
