"""Run a recipe: a Python module with a function `recipe()` that returns a Recipe.

    keras-amalgam run my_recipe.py --out runs/mine
    keras-amalgam run digits_fashion --set seed=3 --out runs/again
    keras-amalgam run runs/mine/run.json --out runs/once_more

--set NAME=VALUE gives recipe() an argument. The run.json of a run, of whichever command, runs it
again with all its settings, from the folder that it was begun in, in as many steps. The same
command again goes on where it stopped; --restart begins anew.

See keras_amalgam/experiments/digits_fashion.py for a recipe.
"""

import ast
import contextlib
import importlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import flag_values, run_flags
from keras_amalgam.files.contents import sha256_of


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
        told = _Told.read(Path(positional[0]))
        again = told.flags(values)
        with told.place():
            told.command.check(again, told.arguments)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    started = time.perf_counter()
    name = positional[0]
    if Path(name).suffix == ".json":
        told = _Told.read(Path(name))
        again = told.flags(values)
        with told.place():
            told.command.run(again, told.arguments)
        return
    from keras_amalgam.experiments.recipe import load

    described = {"recipe_sha256": sha256_of(name)} if Path(name).is_file() else {}
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


@dataclass(frozen=True)
class _Told:
    """What a run.json tells: a command that began a run, and all that it was given."""

    path: Path
    name: str
    arguments: list[str]
    given: dict[str, Any]
    folder: str
    steps: int | None
    recipe_sha256: str | None

    @classmethod
    def read(cls, path: Path) -> "_Told":
        """Read the file.

        Raises:
            ValueError: If it is not a run's, the folder it was begun in is gone, or its Python
                recipe has changed.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            told = cls(
                path,
                content["command"],
                content["arguments"],
                dict(content["flags"]),
                content.get("folder", ""),
                content.get("steps"),
                content.get("recipe_sha256"),
            )
            texts = [told.name, *told.arguments, told.folder, told.recipe_sha256 or ""]
            if not isinstance(told.arguments, list) or not all(isinstance(t, str) for t in texts):
                raise TypeError("'command', 'arguments', 'folder' and 'recipe_sha256' are texts")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not the run.json of a run that a command began. Received: {error!r}. "
                "Give a recipe, or the run.json of a run's folder."
            ) from error
        if told.name not in ("amalgamate", "demo", "run"):
            raise ValueError(f"{path} names a command that runs nothing. Received: {told.name!r}.")
        if told.folder and not Path(told.folder).is_dir():
            raise ValueError(
                f"{path} was begun in a folder that is gone. Received: {told.folder}. Give the "
                "command itself, with the paths as they are now."
            )
        recipe = next(iter(told.arguments), None)
        if recipe and told.recipe_sha256 and sha256_of(recipe) != told.recipe_sha256:
            raise ValueError(
                f"The recipe {recipe} has changed since {path} was written. Give the "
                "recipe itself to run it as it is now."
            )
        return told

    @property
    def command(self) -> Any:
        """The command's module."""
        return importlib.import_module(f"keras_amalgam.cli.{self.name}")

    def _give(self, flag: flags.Flag[Any], value: Any) -> None:
        """Set a flag as if the command line had given it."""
        try:
            flag.value = flag_values.from_json(flag, value)
        except ValueError as error:
            raise ValueError(
                f"{self.path} has a wrong value for --{flag.name}. Received: {json.dumps(value)}. "
                f"{error} Mend the file, or give the command itself."
            ) from error
        flag.present = int(flag.value != flag.default)

    def flags(self, values: flags.FlagValues) -> flags.FlagValues:
        """The command's flags as they were, for the folder of this command line.

        Hours are the steps that they became: the same student comes out on any machine.
        """
        again = flags.FlagValues()
        self.command.define_flags(again)
        again([self.name])
        for flag, value in self.given.items():
            if flag not in again:
                raise ValueError(
                    f"{self.path} has a flag that {self.name} does not. Received: --{flag}."
                )
            self._give(again[flag], value)
        flag_values.check(again, self.arguments)
        if self.given.get("hours") is not None and self.steps is not None:
            again["hours"].value = None
            self._give(again["steps"], self.steps)
        for flag in ("restart", "only", "dry_run"):
            again[flag].value = values[flag].value
        again["out"].value = values.out and str(Path(values.out).resolve())
        return again

    def place(self) -> contextlib.AbstractContextManager[Any]:
        """The folder that its paths are given from."""
        return contextlib.chdir(self.folder) if self.folder else contextlib.nullcontext()


def _whole(positional: list[str]) -> list[str]:
    """Paths as they are found from anywhere."""
    return [str(Path(one).resolve()) if Path(one).exists() else one for one in positional]
