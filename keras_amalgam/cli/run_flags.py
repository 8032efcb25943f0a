"""The flags of the commands that run a recipe in a folder, and what they mean together."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import advice

STEPS = ("train", "evaluate", "package", "compare", "report")
# Of this process, not of the run: they are not written into run.json.
_NOT_KEPT = {"help", "out", "restart", "only", "dry_run"}


def define_flags(values: flags.FlagValues, default: str | None) -> None:
    """Define the flags of a run.

    Args:
        values: Where.
        default: The folder that `--out` means if it is left out.
    """
    flags.DEFINE_string(
        "out",
        default,
        "Folder of the run. The same command again goes on there where it stopped.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "restart", False, "Remove an earlier run in --out and begin anew.", flag_values=values
    )
    flags.DEFINE_boolean(
        "dry_run",
        False,
        "Say what would be done and what it would take, from a few steps. Nothing is written.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "only", None, STEPS, "Do this one step again, with what is there.", flag_values=values
    )
    flags.DEFINE_float(
        "hours",
        None,
        "Hours for the whole run. A few steps are timed, once, and the training gets as many as "
        "fit, in place of --epochs.",
        1e-3,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "Steps of the training, in place of --epochs; the last epoch may be cut short.",
        1,
        flag_values=values,
    )
    flags.DEFINE_integer("keep", 3, "How many states of a training stay.", 1, flag_values=values)
    flags.DEFINE_float("minutes", 5.0, "Longest time between two states.", 0.0, flag_values=values)


def check(values: flags.FlagValues) -> None:
    """Refuse a missing folder, one that holds something else, and flags that contradict."""
    from keras_amalgam.experiments.run_folder import check_begun, check_folder

    if not values.out:
        raise ValueError("--out=FOLDER is needed: where the run is.")
    if values.hours is not None and values.steps is not None:
        raise ValueError("--hours becomes a number of steps. Give --hours or --steps, not both.")
    length = "--hours" if values.hours is not None else "--steps"
    if getattr(values, "epochs", None) is not None and (values.hours or values.steps):
        raise ValueError(f"{length} stands in place of --epochs. Give one of them, not both.")
    if values.dry_run and values.only:
        raise ValueError("--dry_run plans all steps, --only does one. Give one of them.")
    if values.restart and values.only:
        raise ValueError("--restart removes what --only would build upon. Give one of them.")
    try:
        check_folder(Path(values.out), values.restart)
        check_begun(Path(values.out), values.only)
    except (FileExistsError, ValueError) as error:
        raise ValueError(advice.in_flags(str(error), advice.RUN)) from error


def run(
    recipe: Any,
    values: flags.FlagValues,
    command: str,
    positional: list[str],
    started: float,
    **more: Any,
) -> None:
    """Run a recipe as the flags say, or say what would be done.

    Args:
        recipe: The recipe.
        values: The command's flags.
        command: Its name, for `run.json`.
        positional: Its arguments, for `run.json`.
        started: `time.perf_counter()` at the start of the command.
        **more: Further fields of `job.Settings`; what is `described` is added to.
    """
    from keras_amalgam.experiments import job
    from keras_amalgam.experiments.plan import plan
    from keras_amalgam.experiments.shortening import cut_short

    out = Path(values.out)
    described = {
        "command": command,
        "arguments": positional,
        "flags": resolved(values),
        "folder": os.getcwd(),
    }
    if values.hours is not None or values.steps is not None:
        steps = values.steps or _steps_of_hours(recipe, values, out)
        recipe = cut_short(recipe, steps)
        described["steps"] = steps
    settings = job.Settings(
        only=values.only,
        restart=values.restart,
        keep=values.keep,
        minutes=values.minutes,
        described={**described, **more.pop("described", {})},
        **more,
    )
    try:
        if values.dry_run:
            plan(recipe, out, values.keep, print, restart=values.restart)
        else:
            # On a terminal, `print` is known to be one: a line changes there.
            job.run(recipe, out, settings, started, print if sys.stdout.isatty() else _say)
    except ValueError as error:
        raise ValueError(advice.in_flags(str(error), advice.RUN)) from error


def _say(line: str) -> None:
    """Print a line at once; a reader that went away, as `head` does, does not end the run."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _steps_of_hours(recipe: Any, values: flags.FlagValues, out: Path) -> int:
    """The steps that fit into the hours: those of the run that is gone on with, if there is one."""
    from keras_amalgam.experiments import shortening
    from keras_amalgam.experiments.estimate import estimate
    from keras_amalgam.experiments.run_folder import RUN

    if not values.restart:
        try:
            told = json.loads((out / RUN).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # It is written anew.
            told = {}
        if told.get("flags", {}).get("hours") == values.hours and "steps" in told:
            return told["steps"]
    shortening.check_one_stage(recipe)
    estimated = estimate(recipe, values.keep)
    steps = shortening.steps_in(3600 * values.hours, estimated, recipe)
    print(f"{estimated.sentence} {values.hours:g} h are {steps} steps.")
    return steps


def resolved(values: flags.FlagValues) -> Mapping[str, Any]:
    """Every flag's value, those left out included, as JSON has it."""
    return {
        name: values[name].value
        for name in sorted(values)
        if name == values[name].name and name not in _NOT_KEPT
    }
