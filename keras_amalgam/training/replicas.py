"""What is different when several devices share a batch under `tf.distribute`."""

from typing import Any

import tensorflow as tf


def with_share(images: Any) -> tuple[Any, Any]:
    """A replica's images, and what part of the global batch they are.

    Gradients are summed over replicas, so each must bring its share of the mean: a loss is to be
    multiplied by it. Batches that do not divide are shared out unevenly, the last one often.

    Args:
        images: The replica's images, shape `(batch, height, width, channels)`.

    Returns:
        The images, and a number in (0, 1]: one without a strategy.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if the replica got no image.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return images, 1.0
    count = tf.shape(images)[0]
    enough = tf.debugging.assert_positive(
        count,
        message="A replica got no image. Received: a batch too small to be shared out among "
        f"{context.num_replicas_in_sync} replicas. Leave out the last, smaller batch: "
        "dataset.batch(size, drop_remainder=True)",
    )
    with tf.control_dependencies([enough] if enough is not None else []):
        images = tf.identity(images)
    count = tf.cast(count, "float32")
    return images, count / context.all_reduce(tf.distribute.ReduceOp.SUM, count)
