"""The command `keras-amalgam`: finds the sub-command, turns errors into exit codes."""

import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType

from absl import flags

from keras_amalgam.cli import flag_values
from keras_amalgam.onednn import prefer_onednn

COMMANDS = {
    "demo": "amalgamate the two teachers that ship with the package",
    "inspect": "show what is in a network's file and where to tap it",
    "convert": "make a teacher of a network's file",
    "amalgamate": "amalgamate teachers of your own on a folder of images",
    "export": "package a student for phones or servers, verified and measured",
    "predict": "show what an artifact says of photographs",
    "run": "run a recipe",
}
# The commands' own names are those of a module of the standard library and of a package of ours.
MODULES = {"inspect": "inspect_file", "export": "export_student"}
EXIT_ERROR, EXIT_USAGE = 1, 2
RUNS = ("demo", "amalgamate", "run")  # What these leave is gone on with.

USAGE = """\
keras-amalgam: several trained networks become one compact student, without labels.

usage: keras-amalgam COMMAND [--flags]

commands:
{commands}

`keras-amalgam COMMAND --help` explains a command. Exit codes: 0 done, 1 it failed, 2 the command
line is wrong, 130 interrupted, 143 ended by SIGTERM. demo, amalgamate and run go on where they
stopped when they are given again. Nothing is ever overwritten without --overwrite or --restart, and
nothing but an earlier result with it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: Arguments without the program's name; by default the process's own.

    Returns:
        The exit code.
    """
    arguments = [_expanded(one) for one in (sys.argv[1:] if argv is None else argv)]
    _prepare_streams()
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_usage())
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from keras_amalgam.version import __version__

        print(f"keras-amalgam {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"There is no command {name!r}.\n\n{_usage()}", file=sys.stderr)
        return EXIT_USAGE
    # TensorFlow reads both when it is imported: whether to greet with pages about the hardware, and
    # which kernels to compute with.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    prefer_onednn()
    try:
        module = importlib.import_module(f"keras_amalgam.cli.{MODULES.get(name, name)}")
        with _plain_warnings():
            return _run(name, module, rest)
    except KeyboardInterrupt as interrupted:
        kept = "The same command goes on where it stopped." if name in RUNS else ""
        said = kept or "Nothing was written in place."
        print(f"\nInterrupted. {said}", file=sys.stderr)
        return 128 + getattr(interrupted, "signal", signal.SIGINT)


def _expanded(argument: str) -> str:
    """`--out=~/result` as `--out ~/result`, in which the shell writes the home folder."""
    flag, sign, value = argument.partition("=~")  # TASK=~/photos and --test=TASK=~/photos as well.
    return f"{flag}={os.path.expanduser('~' + value)}" if sign else argument


def _run(name: str, command: ModuleType, arguments: list[str]) -> int:
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "Show this help.", flag_values=values, short_name="h")
    command.define_flags(values)
    try:
        positional = values([name, *arguments])[1:]
        if values.help:
            print(f"{(command.__doc__ or '').strip()}\n\nflags:\n{_flag_help(values)}")
            return 0
        flag_values.check(values, positional)
        importlib.import_module("keras_amalgam.backend")
        with _without_greetings():  # Some checks need Keras.
            command.check(values, positional)
    except (flags.Error, ValueError) as error:
        return _usage_error(name, error)
    except (ImportError, OSError) as error:  # Of a path that may not be looked at, for one.
        return _failure(name, error)
    with _without_greetings():
        importlib.import_module("tensorflow")
    try:
        _under_keras_defaults(command, values, positional)
    except flags.Error as error:  # Seen to be wrong only when the files it names were read.
        return _usage_error(name, error)
    except (ValueError, TypeError, RuntimeError, ImportError, OSError, ArithmeticError) as error:
        return _failure(name, error)
    return 0


def _under_keras_defaults(command: ModuleType, values: flags.FlagValues, rest: list[str]) -> None:
    """Run a command as if there were no `keras.json`."""
    from keras_amalgam.keras_settings import keras_defaults

    with keras_defaults():
        command.run(values, rest)


def _prepare_streams() -> None:
    """Let nothing that is printed end the command: a closed stream, or one without a character."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # Closed by the caller, as with 2>&-.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as sentences: the line of our code that warns says nothing to a user."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """Import TensorFlow without its greetings, which precede its heeding of any log level."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _failure(name: str, error: Exception) -> int:
    print(f"keras-amalgam {name} failed.\n{type(error).__name__}: {error}", file=sys.stderr)
    return EXIT_ERROR


def _usage_error(name: str, error: Exception) -> int:
    print(f"{error}\n`keras-amalgam {name} --help` explains.", file=sys.stderr)
    return EXIT_USAGE


def _flag_help(values: flags.FlagValues) -> str:
    lines = []
    for flag_name in sorted(values):
        flag = values[flag_name]
        if flag_name == flag.name:
            default = "" if flag.default in (None, [], False) else f" (default: {flag.default})"
            lines.append(f"  --{flag_name}: {flag.help}{default}")
    return "\n".join(lines)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return USAGE.format(commands=commands)
