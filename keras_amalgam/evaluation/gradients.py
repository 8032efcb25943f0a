"""How hard each term pulls at the student's tap."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_amalgam.training.amalgamator import Amalgamator
from keras_amalgam.training.guards import split


def gradient_norms(amalgamator: Amalgamator, batch: Any) -> dict[str, float]:
    """L2 norm of each loss's gradient by the student's features at its tap.

    The student runs in inference mode.

    Args:
        amalgamator: With a student tap.
        batch: Images, or images with sources, as for training.

    Returns:
        By history key, the norm over all features of the batch of the weighted loss's gradient; a
        loss that does not reach the tap has zero.
    """
    images, source = split(batch)
    images = tf.cast(images, "float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)  # so that the way from tap to heads is recorded whatever is frozen
        student, teachers = amalgamator.signals(images)
        losses = amalgamator.term_losses(student, teachers, source)
    norms = {}
    for key, loss in losses.items():
        gradient = tape.gradient(loss, student["features"])
        flat = np.zeros(1) if gradient is None else np.ravel(gradient).astype("float64")
        norms[key] = float(np.linalg.norm(flat))
    return norms
