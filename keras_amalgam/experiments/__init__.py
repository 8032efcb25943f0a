"""Runnable experiments as plain Python: each module has `recipe() -> Recipe`."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.experiments.recipe import Recipe as Recipe
