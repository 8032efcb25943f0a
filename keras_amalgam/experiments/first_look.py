"""What some of the images tell of the teachers, before anything is trained."""

import numpy as np

from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.unlabelled import unlabelled_images
from keras_amalgam.models.plausibility import SIGN_IMAGES, doubt
from keras_amalgam.teachers.comparison.normalization_check import check_normalization

IMAGES = 64  # Of each teacher.


def doubts(recipe: Recipe) -> list[str]:
    """Warnings about teachers whose answers can hardly be logits, or whose images look wrong.

    The latter are normalised otherwise than the teacher's running statistics remember.

    A teacher is asked about the images of its own collection, if they are known to be.

    Args:
        recipe: With its teachers and streams.
    """
    images, sources = unlabelled_images(recipe, IMAGES * len(recipe.teachers))
    found = []
    for number, teacher in enumerate(recipe.teachers):
        own = images[sources == number]
        asked = (own if len(own) >= SIGN_IMAGES else images)[:IMAGES]
        # As it is: a graph for one batch would cost more than it saves.
        logits = teacher.signals(images.shape[-1])(asked, training=False)["logits"]
        found.append(doubt(teacher, np.asarray(logits)))
        found.append(check_normalization(teacher, asked).warning)
    return [one for one in found if one]
