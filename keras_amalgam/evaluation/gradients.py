"""How hard each term pulls at the student's taps."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_amalgam.models.batch import Batch
from keras_amalgam.training.amalgamator import Amalgamator


def gradient_norms(amalgamator: Amalgamator, batch: Any) -> dict[str, float]:
    """L2 norm of each loss's gradient by the student's features at its taps.

    The student runs in inference mode.

    Args:
        amalgamator: With a student tap at least.
        batch: Images, or a dict with them, as for training.

    Returns:
        By history key, the norm over all features of the batch at all taps of the weighted loss's
        gradient; a loss that does not reach them has zero.
    """
    parsed = Batch.of(batch)
    images = tf.cast(parsed.images, "float32")
    parsed = dataclasses.replace(parsed, images=images)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)  # so that the way from tap to heads is recorded whatever is frozen
        student, teachers = amalgamator.signals(parsed)
        losses = amalgamator.term_losses(student, teachers, parsed)
    norms = {}
    for key, loss in losses.items():
        gradients: Any = tape.gradient(loss, list(student.features.values()))
        flat = [np.ravel(one).astype("float64") for one in gradients if one is not None]
        norms[key] = float(np.linalg.norm(np.concatenate(flat or [np.zeros(1)])))
    return norms
