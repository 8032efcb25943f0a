"""The flags that every command has for where its results go."""

from pathlib import Path

from absl import flags


def define_flags(values: flags.FlagValues, default: str | None) -> None:
    """Define `--out` and `--overwrite`."""
    flags.DEFINE_string("out", default, "Folder for the results.", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "Replace the folder if it exists.", flag_values=values)


def check(values: flags.FlagValues) -> None:
    """Refuse a missing or existing folder before anything is computed."""
    if not values.out:
        raise ValueError("--out=FOLDER is needed: where the results go.")
    if Path(values.out).exists() and not values.overwrite:
        raise ValueError(
            f"{values.out} exists already. Choose another --out, or replace it with --overwrite."
        )


def check_no_arguments(positional: list[str]) -> None:
    """Refuse arguments where there should be flags only."""
    if positional:
        raise ValueError(f"Only flags are expected. Received: {' '.join(positional)}.")
