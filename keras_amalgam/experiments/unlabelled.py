"""Some of a recipe's unlabelled images, unaugmented where it has such a stream."""

import numpy as np

from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.models.batch import Batch
from keras_amalgam.training.epoch_numbers import from_the_first_epoch


def unlabelled_images(recipe: Recipe, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Unlabelled images of whole grey levels, and whose collection each is from.

    They are the same in every process, whatever was read from the streams before.

    Args:
        recipe: The recipe whose calibration images, or else training images, are read.
        number: How many at most.

    Returns:
        Images `(images, height, width, channels)` in 0..255, float32, and the number of each one's
        collection, -1 where it is unknown.
    """
    stream = recipe.streams.get("calibration", recipe.streams["train"])
    batches, sources, count = [], [], 0
    for batch in map(Batch.of, from_the_first_epoch(stream)):
        batches.append(np.rint(np.asarray(batch.images)).astype("float32"))
        known = batch.source is not None
        sources.append(np.asarray(batch.source) if known else np.full(len(batches[-1]), -1))
        count += len(batches[-1])
        if count >= number:
            break
    kept = slice(number)
    return np.concatenate(batches)[kept], np.concatenate(sources)[kept]
