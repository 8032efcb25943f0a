"""What an artifact's signatures decide on photographs, against the student on its canvas."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from keras_amalgam.export.serving.endpoints import FLOAT

Answers = Mapping[str, Mapping[str, np.ndarray]]
"""Signature to head to values, `(count, …, classes)`; artifacts with one call it `FLOAT`."""


def add_to(
    measured: dict[str, Any],
    answers: Answers,
    evaluated: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    own: Mapping[str, np.ndarray],
    without_classes: Collection[str],
) -> None:
    """Adds to a verification's numbers how its decisions compare with the student's on its canvas.

    Args:
        measured: With `heads`, and of a bundle `signatures`; each head gets `on_canvas`, how often
            the decision is the student's, 0..1, or `None` without classes. Gets `accuracy`.
        answers: The artifact's.
        evaluated: Head to the student's values on its canvas.
        labels: Task to the classes of all images, -1 where an image is not of the task.
        own: Head to the images that its decisions count on; by default all.
        without_classes: Outputs that decide nothing.
    """
    for signature, heads in answers.items():
        records = measured["heads"] if signature == FLOAT else measured["signatures"][signature]
        for head, values in heads.items():
            decided = evaluated[head].argmax(axis=-1)
            share = _share(values, decided, own.get(head, slice(None)))
            records[head]["on_canvas"] = None if head in without_classes else share
    measured["accuracy"] = accuracies(labels, answers, evaluated)


def accuracies(
    labels: Mapping[str, np.ndarray], answers: Answers, evaluated: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float | dict[str, float]]]:
    """The share of right classes of each labelled task, 0..1.

    Args:
        labels: Task to the classes of all images, -1 where an image is not of the task.
        answers: The artifact's.
        evaluated: Task to the student's values on its canvas.

    Returns:
        Task to `artifact`, the least of its signatures, and `student`; where there are several
        also `signatures`, those of each.
    """
    found = {}
    for task, classes in labels.items():
        known = classes >= 0
        student = _share(evaluated[task], classes, known)
        shares = {
            signature: _share(heads[task], classes, known) for signature, heads in answers.items()
        }
        found[task] = {"artifact": min(shares.values()), "student": student}
        if len(shares) > 1:
            found[task]["signatures"] = shares
    return found


def missed(measured: Mapping[str, Any], least: float) -> list[str]:
    """What decides otherwise than the student on its canvas too often, a sentence each.

    Args:
        measured: A verification's numbers, as `add_to` leaves them.
        least: The smallest allowed share of images with the same class, 0..1.
    """
    sentences = []
    for signature, heads in {FLOAT: measured["heads"], **measured.get("signatures", {})}.items():
        whose = "Task" if signature == FLOAT else f"Signature '{signature}', task"
        for head, one in heads.items():
            share = one["on_canvas"]
            # Written so that a NaN misses.
            if share is not None and not share >= least:
                sentences.append(
                    f"{whose} '{head}' decides otherwise than the student on its canvas. Received: "
                    f"the same class on {share:.1%}. Expected: at least {least:.1%}."
                )
    return sentences


def _share(values: np.ndarray, classes: np.ndarray, where: np.ndarray | slice) -> float:
    return float((values.argmax(axis=-1) == classes)[where].mean())
