"""What the commands' files and folders must be, and the flags of those that write."""

from collections.abc import Collection, Iterable
from pathlib import Path

from absl import flags

from keras_amalgam.files.replacing import Own, in_words, is_empty_directory, is_replaceable


def define_flags(values: flags.FlagValues, default: str | None) -> None:
    """Define `--out` and `--overwrite`."""
    flags.DEFINE_string("out", default, "Folder for the results.", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "Replace an earlier result.", flag_values=values)


def check(
    values: flags.FlagValues,
    mark: str = "report.json",
    contents: Collection[str] | None = None,
    is_own: Own | None = None,
) -> None:
    """Refuse a missing or existing folder before anything is computed.

    Args:
        values: With `--out` and `--overwrite`.
        mark: The file by which an earlier result of the command is known.
        contents: All that an earlier result of the command can hold, if that is known.
        is_own: What looks into the folders among them.
    """
    if not values.out:
        raise ValueError("--out=FOLDER is needed: where the results go.")
    if not Path(values.out).exists() or is_empty_directory(values.out):
        return
    if not values.overwrite:
        raise ValueError(
            f"{values.out} exists already. Choose another --out, or replace it with --overwrite."
        )
    if not is_replaceable(values.out, mark, contents, is_own):
        raise ValueError(
            f"--overwrite replaces earlier results only. Received: --out={values.out}, which is "
            f"neither an empty folder nor one that holds {in_words(mark, contents, is_own)}. "
            "Choose another --out."
        )


def check_apart(values: flags.FlagValues, inputs: Iterable[str]) -> None:
    """Refuse a folder for the results that could cost an input, or become part of one."""
    out = Path(values.out).resolve()
    for folder in inputs:
        path = Path(folder).resolve()
        if out.is_relative_to(path) or path.is_relative_to(out):
            raise ValueError(
                "The results need a folder apart from all inputs. Received: "
                f"--out={values.out} and the input {folder}. Choose an --out that is neither "
                "inside an input nor around it."
            )


def check_one_file(positional: list[str]) -> None:
    """Refuse anything but one file or directory that exists."""
    if len(positional) != 1:
        raise ValueError(f"One FILE is expected. Received: {' '.join(positional) or 'none'}.")
    if not Path(positional[0]).exists():
        raise ValueError(f"There is no file or directory {positional[0]}.")


def check_folder(path: str, flag: str) -> None:
    """Require that the path given with a flag is a folder."""
    if not Path(path).is_dir():
        raise ValueError(f"--{flag} must be a folder. Received: {path}, {_instead(path)}")


def check_file(path: str, flag: str) -> None:
    """Require that the path given with a flag is a file."""
    if not Path(path).is_file():
        raise ValueError(f"--{flag} must be a file. Received: {path}, {_instead(path)}")


def _instead(path: str) -> str:
    if not Path(path).exists():
        return "which does not exist. Check the path."
    return f"which is a {'folder' if Path(path).is_dir() else 'file'}."


def check_no_arguments(positional: list[str]) -> None:
    """Refuse arguments where there should be flags only."""
    if positional:
        raise ValueError(f"Only flags are expected. Received: {' '.join(positional)}.")
