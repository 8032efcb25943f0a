"""The signatures of a TF Serving bundle against the student, from the files' own bytes on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_amalgam.export import parity
from keras_amalgam.export.labels import Labels, classified, without_classes
from keras_amalgam.export.serving import endpoints
from keras_amalgam.export.verification.thresholds import Thresholds

UINT8, ENCODED, CLASSIFY = endpoints.UINT8, endpoints.ENCODED, endpoints.CLASSIFY

DECODED_BOUNDS = parity.DEFAULT_BOUNDS["dynamic"]
"""Of `encoded`: TensorFlow's decoder is up to two grey levels away from Pillow's. A decoding that
is wrong, such as channels in another order, is far beyond."""


def split(outputs: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Outputs named `signature/output` as signature to outputs; others are `FLOAT`'s."""
    given: dict[str, dict[str, np.ndarray]] = {}
    for name, values in outputs.items():
        signature, _, output = name.rpartition("/")
        given.setdefault(signature or endpoints.FLOAT, {})[output] = values
    return given


def compare(
    given: Mapping[str, Mapping[str, np.ndarray]],
    expected: Mapping[str, np.ndarray],
    from_files: Mapping[str, np.ndarray],
    labels: Labels,
    own: Mapping[str, np.ndarray],
    thresholds: Thresholds,
) -> tuple[dict[str, Any], dict[str, np.ndarray], list[str]]:
    """Holds every signature but the float one against the student.

    `classify` is held against the logits of `encoded`, which decodes as it does: its names and
    scores have to follow from them.

    Args:
        given: Signature to its outputs.
        expected: Head to the student's logits of images in the float signature's size.
        from_files: Head to the student's logits of the files, brought to it antialiased.
        labels: Head to class names.
        own: Head to the images that its decisions count on.
        thresholds: Of the artifact.

    Returns:
        Signature to head to measurements; what `classify` says as probabilities by head; and what
        is missed, a sentence each.
    """
    probabilities = {
        head: endpoints.softmax(given[ENCODED][head])
        for head in classified(labels)
        if head in given[ENCODED]
    }
    said = endpoints.as_probabilities(given[CLASSIFY], probabilities, labels)
    strict = parity.DEFAULT_BOUNDS["float32"]
    agreement = thresholds.min_agreement
    measured, missed = {}, []
    for name, mine, theirs, bounds in (
        (UINT8, expected, given[UINT8], thresholds.bounds("float32")),
        (ENCODED, from_files, given[ENCODED], DECODED_BOUNDS.with_agreement(agreement)),
        (CLASSIFY, probabilities, said, strict),
    ):
        heads = parity.compare(
            mine, theirs, f"Signature '{name}'", without_classes(labels), decided_on=own
        )
        measured[name] = parity.summary(heads, len(next(iter(own.values()))))["heads"]
        missed += [
            f"Signature '{name}', task '{one.head}', disagrees with "
            f"{'encoded' if name == CLASSIFY else 'the student'}. Received: {one.received}. "
            f"Expected: {one.expected}."
            for one in parity.exceeded(heads, bounds)
        ]
    return measured, said, missed
