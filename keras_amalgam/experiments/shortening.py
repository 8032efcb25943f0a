"""Trainings of a number of steps, or of as many as fit into a time."""

from collections.abc import Sequence
from dataclasses import replace

from keras_amalgam.experiments import choosing
from keras_amalgam.experiments.estimate import Estimate
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.training.method import Method
from keras_amalgam.training.progress import in_words


def steps_in(seconds: float, estimated: Estimate, recipe: Recipe) -> int:
    """How many steps each training of a recipe can have in a time, with what follows them.

    Args:
        seconds: The time.
        estimated: What was measured of the recipe.
        recipe: Each of its methods has one stage.

    Raises:
        ValueError: If not even one does.
    """
    beside = estimated.once + estimated.after
    paces = {name: one for name, (one,) in estimated.paces.items()}
    tried = [paces[method.name] for method in recipe.candidates]
    # One step of each; of the candidates, each on its share and the slowest as the chosen one.
    of_each = sum(paces[method.name] for method in recipe.methods)
    of_each += choosing.SHARE * sum(tried) + max(tried, default=0.0)
    steps = int((seconds - beside) / of_each)
    if steps < 1:
        raise ValueError(
            f"No step of training fits into {in_words(seconds)}. Expected: more than "
            f"{in_words(beside + of_each)}, as reading, evaluation and packaging take "
            f"{in_words(beside)}. Give more hours, or a number of steps."
        )
    return steps


def check_one_stage(recipe: Recipe) -> None:
    """Refuse methods of several stages, between which nothing divides a number of steps.

    Args:
        recipe: The recipe.

    Raises:
        ValueError: Naming them.
    """
    every = [*recipe.methods, *recipe.candidates]
    several = [method.name for method in every if len(method.stages) > 1]
    if several:
        raise ValueError(
            "Steps can be set for methods of one stage. Received: several stages in "
            f"{several}. Set the epochs of their stages in the recipe."
        )


def cut_short(recipe: Recipe, steps: int) -> Recipe:
    """A recipe whose trainings have so many steps each.

    Epochs are added or left out as they are needed; the schedules fit the steps.

    Args:
        recipe: Each of its methods must have one stage.
        steps: Number of steps of each training; the trials of `choose` have a share of them.

    Raises:
        ValueError: If a method has several stages.
    """
    check_one_stage(recipe)
    epoch = int(recipe.streams["train"].cardinality())
    epochs = -(-steps // epoch)

    def cut(methods: Sequence[Method]) -> list[Method]:
        return [
            replace(method, stages=(replace(method.stages[0], epochs=epochs, steps=steps),))
            for method in methods
        ]

    told = {"steps" if name == "epochs" else name: one for name, one in recipe.settings.items()}
    return replace(
        recipe,
        methods=cut(recipe.methods),
        candidates=cut(recipe.candidates),
        settings={**told, "steps": steps} if "epochs" in recipe.settings else recipe.settings,
    )
