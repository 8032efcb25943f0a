"""Run a recipe: a Python module with a function `recipe()` that returns a Recipe.

    keras-amalgam run my_recipe.py --out runs/mine
    keras-amalgam run digits_fashion --set seed=3 --out runs/again
    keras-amalgam run runs/mine/run.json --out runs/once_more

--set NAME=VALUE gives recipe() an argument. The run.json of a run, of whichever command, runs it
again with all its settings. The same command again goes on where it stopped; --restart begins anew.

See keras_amalgam/experiments/digits_fashion.py for a recipe.
"""

import ast
import hashlib
import importlib
import json
import time
from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import run_flags


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_multi_string(
        "set", [], "NAME=VALUE: an argument of recipe(), such as seed=3.", flag_values=values
    )
    run_flags.define_flags(values, default=None)


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    if len(positional) != 1:
        raise ValueError(f"One RECIPE is expected. Received: {positional or 'none'}.")
    _settings(values)
    run_flags.check(values)
    if Path(positional[0]).suffix == ".json":
        if values.set:
            raise ValueError("--set is of recipes; a run.json has its settings. Leave it out.")
        command, again, arguments = _described(Path(positional[0]), values)
        command.check(again, arguments)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    started = time.perf_counter()
    name = positional[0]
    if Path(name).suffix == ".json":
        command, again, arguments = _described(Path(name), values)
        command.run(again, arguments)
        return
    from keras_amalgam.experiments.recipe import load

    described = {}
    if Path(name).is_file():
        described["recipe_sha256"] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    recipe = load(name, _settings(values))
    run_flags.run(recipe, values, "run", _whole(positional), started, described=described)


def _settings(values: flags.FlagValues) -> dict[str, Any]:
    """Arguments of `recipe()`: Python's numbers, truths and lists, or else text."""
    found = {}
    for one in values.set:
        name, sign, value = one.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"--set wants NAME=VALUE. Received: {one}.")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def _described(path: Path, values: flags.FlagValues) -> tuple[Any, flags.FlagValues, list[str]]:
    """The command of a run.json with its flags, for the folder of this command line."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        name, arguments, given = told["command"], told["arguments"], told["flags"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the run.json of a run that a command began. Received: {error!r}. "
            "Give a recipe, or the run.json of a run's folder."
        ) from error
    if name not in ("amalgamate", "demo", "run"):
        raise ValueError(f"{path} names a command that runs nothing. Received: {name!r}.")
    command = importlib.import_module(f"keras_amalgam.cli.{name}")
    again = flags.FlagValues()
    command.define_flags(again)
    again([name])
    for flag, value in given.items():
        if flag not in again:
            raise ValueError(f"{path} has a flag that {name} does not. Received: --{flag}.")
        again[flag].value = value
    for flag in ("out", "restart", "only", "dry_run"):
        again[flag].value = values[flag].value
    return command, again, arguments


def _whole(positional: list[str]) -> list[str]:
    """Paths as they are found from anywhere."""
    return [str(Path(one).resolve()) if Path(one).exists() else one for one in positional]
