"""Runnable experiments as plain Python: each module has `recipe() -> Recipe`."""

from keras_amalgam.recipes.recipe import Recipe as Recipe
