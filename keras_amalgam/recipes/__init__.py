"""Runnable experiments as plain Python: each module has `recipe() -> Recipe`."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.recipes.recipe import Recipe as Recipe
