"""What is different when several devices share a batch under `tf.distribute`."""

import dataclasses
from typing import Any

import tensorflow as tf

from keras_amalgam.models.batch import Batch


def with_share(batch: Batch) -> tuple[Batch, Any]:
    """A replica's batch, and what part of the global batch it is.

    Gradients are summed over replicas, so each must bring its share of the mean: a loss is to be
    multiplied by it. Batches that do not divide are shared out unevenly, the last one often.

    Args:
        batch: The replica's.

    Returns:
        The batch, and a number in (0, 1]: one without a strategy.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if the replica got no image.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return batch, 1.0
    count = tf.shape(batch.images)[0]
    enough = tf.debugging.assert_positive(
        count,
        message="A replica got no image. Received: a batch too small to be shared out among "
        f"{context.num_replicas_in_sync} replicas. Leave out the last, smaller batch: "
        "dataset.batch(size, drop_remainder=True)",
    )
    with tf.control_dependencies([enough] if enough is not None else []):
        batch = dataclasses.replace(batch, images=tf.identity(batch.images))
    count = tf.cast(count, "float32")
    return batch, count / context.all_reduce(tf.distribute.ReduceOp.SUM, count)
