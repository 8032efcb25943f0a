"""Run a recipe: a Python module with a function `recipe()` that returns a Recipe.

    keras-amalgam run my_recipe.py --out runs/mine
    keras-amalgam run digits_fashion --out runs/again

See keras_amalgam/experiments/digits_fashion.py for one.
"""

import time

from absl import flags

from keras_amalgam.cli import output


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    output.define_flags(values, default=None)


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    if len(positional) != 1:
        raise ValueError(f"One RECIPE is expected. Received: {positional or 'none'}.")
    output.check(values)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    started = time.perf_counter()
    from keras_amalgam.experiments import job
    from keras_amalgam.experiments.recipe import load

    job.run(load(positional[0]), values.out, values.overwrite, started)
