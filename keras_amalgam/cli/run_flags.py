"""The flags of the commands that run a recipe in a folder, and what they mean together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

STEPS = ("train", "evaluate", "package", "compare", "report")
# Of this process, not of the run: they are not written into run.json.
_NOT_KEPT = {"help", "out", "restart", "only"}


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
    flags.DEFINE_enum(
        "only", None, STEPS, "Do this one step again, with what is there.", flag_values=values
    )
    flags.DEFINE_integer("keep", 3, "States of the training that stay.", 1, flag_values=values)
    flags.DEFINE_float(
        "minutes", 5.0, "At most so much time between two states.", 0.0, flag_values=values
    )


def check(values: flags.FlagValues) -> None:
    """Refuse a missing folder, one that holds something else, and flags that contradict."""
    from keras_amalgam.experiments.run_folder import check_folder

    if not values.out:
        raise ValueError("--out=FOLDER is needed: where the run is.")
    if values.restart and values.only:
        raise ValueError("--restart removes what --only would build upon. Give one of them.")
    try:
        check_folder(Path(values.out), values.restart)
    except FileExistsError as error:
        raise ValueError(str(error).replace("another folder", "another --out")) from error


def settings(values: flags.FlagValues, command: str, positional: list[str], **more: Any) -> Any:
    """What `job.run` is told of how to run.

    Args:
        values: The command's flags.
        command: Its name, for `run.json`.
        positional: Its arguments, for `run.json`.
        **more: Further fields of `job.Settings`.
    """
    from keras_amalgam.experiments import job

    return job.Settings(
        only=values.only,
        restart=values.restart,
        keep=values.keep,
        minutes=values.minutes,
        described={"command": command, "arguments": positional, "flags": resolved(values)},
        **more,
    )


def resolved(values: flags.FlagValues) -> Mapping[str, Any]:
    """Every flag's value, those left out included, as JSON has it."""
    return {
        name: values[name].value
        for name in sorted(values)
        if name == values[name].name and name not in _NOT_KEPT
    }
