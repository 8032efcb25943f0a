"""Kills an exporter at every step that makes files durable or moves them; not a test by itself.

`python killed.py EXPORTER TARGET STUDENT CLASS_NAMES`: for each step a child process loads the
student, exports, and is killed before or after the step, as by a power cut. Prints one JSON line
a child: where it was killed, and what then stood in the target's folder.
"""

import itertools
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

# Imported once, and not used here: a fork copies a process whose TensorFlow has not started yet.
import keras
import tensorflow  # noqa: F401

from keras_amalgam import export

STEPS = ("fsync", "replace", "rename")
SIZES = (1_000, 8_000)


def kill_at(number):
    """Makes the process kill itself at the step of that number, counted over all of `STEPS`."""
    counter = itertools.count()

    def wrapped(name, original):
        def step(*arguments, **keywords):
            for when in ("before", "after"):
                if when == "after":
                    result = original(*arguments, **keywords)
                if next(counter) == number:
                    print(json.dumps({"killed": f"{when} {name}"}), flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    for name in STEPS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def kill_in_a_file(size):
    """Lets the system kill the process when a file grows past `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def run(arrange, exporter, target, student, class_names):
    """One child; returns its exit status, negative if killed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        model = keras.saving.load_model(student, compile=False)
        arrange()
        getattr(export, exporter)(model, target, class_names=class_names)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder):
    """Name to size of every visible file."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


def main(exporter, name, student, class_names):
    names = json.loads(class_names)
    ways = [lambda size=size: kill_in_a_file(size) for size in SIZES]
    for arrange in itertools.chain(ways, (lambda n=n: kill_at(n) for n in itertools.count())):
        folder = Path("killed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        status = run(arrange, exporter, str(folder / name), student, names)
        print(json.dumps({"status": status, "left": contents(folder)}), flush=True)
        if status == 0:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
