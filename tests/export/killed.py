"""Kills an exporter at steps that make files durable or move them; not a test by itself.

`python killed.py EXPORTER TARGET MARK STUDENT CLASS_NAMES`: each child process loads the student
and exports. The first one is not killed and says at every step what stands in the target's folder,
which is what a kill there, as by a power cut, would leave. Others are killed in the middle of a
file, at the first step, and on both sides of the one that puts the artifact in its place. Prints
one JSON line per child with what stood in the target's folder, the first one's with its steps. MARK
is the file that tells that the artifact is in its place.
"""

import itertools
import json
import os
import resource
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

# Imported once, and not used here: a fork copies a process whose TensorFlow has not started yet.
import keras
import tensorflow  # noqa: F401

from keras_amalgam import export

FOLDER = Path("killed")
STEPS = ("fsync", "replace", "rename")
SIZES = (1_000, 8_000)


def at_every_step(act):
    """Lets the process call `act(number, name)` before and after every one of `STEPS`."""
    counter = itertools.count()

    def wrapped(name, original):
        def step(*arguments, **keywords):
            act(next(counter), f"before {name}")
            result = original(*arguments, **keywords)
            act(next(counter), f"after {name}")
            return result

        return step

    for name in STEPS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def look(number, name):
    """Says what a kill at this step would leave."""
    print(json.dumps({"step": name, "left": contents(FOLDER)}), flush=True)


def kill_at(wanted):
    """Makes the process kill itself at the step of that number."""

    def act(number, name):
        if number == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    at_every_step(act)


def kill_in_a_file(size):
    """Lets the system kill the process when a file grows past `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def run(arrange, exporter, target, student, class_names):
    """One child in a new folder; returns its exit status, negative if killed, and its lines."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, sys.stdout.fileno())
        model = keras.saving.load_model(student, compile=False)
        arrange()
        getattr(export, exporter)(model, str(FOLDER / target), class_names=class_names)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        said = [json.loads(line) for line in lines if line.startswith("{")]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def contents(folder):
    """Name to size of every visible file."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


def main(exporter, name, mark, student, class_names):
    arguments = (exporter, name, student, json.loads(class_names))
    status, steps = run(lambda: at_every_step(look), *arguments)
    placed = next(n for n, step in enumerate(steps) if mark in step["left"])
    ways = {f"in a file at {size} bytes": partial(kill_in_a_file, size) for size in SIZES}
    ways |= {n: partial(kill_at, n) for n in sorted({0, placed - 1, placed})}
    print(json.dumps({"status": status, "left": contents(FOLDER), "steps": steps}), flush=True)
    for where, arrange in ways.items():
        status, _ = run(arrange, *arguments)
        print(json.dumps({"status": status, "left": contents(FOLDER), "where": where}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
