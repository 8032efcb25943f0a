"""A cache whose building is killed goes on to the same bytes."""

import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from keras_amalgam import data
from keras_amalgam.data.cache import building, signal_cache

BUILD = """
import sys
sys.path.insert(0, {tests!r})
from conftest import grey_images, small_teacher
from keras_amalgam import data
from keras_amalgam.data.cache import building, signal_cache
building.BATCH = signal_cache.BATCH = 4
signal_cache.SHARD_BYTES = 1
teachers = [small_teacher("digits", ["0", "1", "2"])]
images = data.from_arrays(grey_images(120, seed=1))
print("ready", flush=True)
data.SignalCache.build(
    sys.argv[1], images, teachers, views=2, augmentation=data.Augmentation(translation=2)
)
"""


class Killed(BaseException):
    """Stands for the end of the process: nothing is tidied up behind it."""


@pytest.fixture
def build(make, teachers, monkeypatch):
    monkeypatch.setattr(building, "BATCH", 4)
    monkeypatch.setattr(signal_cache, "BATCH", 4)
    monkeypatch.setattr(signal_cache, "SHARD_BYTES", 1)
    images = data.from_arrays(make.images(6, seed=1))
    return lambda folder: data.SignalCache.build(folder, images, teachers[:1])


def dies_at(number, patched):
    """Ends the building before so many calls that make a file durable or move one."""
    events = itertools.count(1)

    def dying(real):
        def call(*arguments, **named):
            if next(events) >= number:
                raise Killed
            return real(*arguments, **named)

        return call

    for name in ("fsync", "replace", "rename"):
        patched.setattr(os, name, dying(getattr(os, name)))
    patched.setattr(shutil, "rmtree", lambda *arguments, **named: None)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_at_any_fsync_or_rename_it_goes_on_to_the_same_bytes(build, tmp_path, monkeypatch):
    whole = content(build(tmp_path / "whole").folder)
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patched:
            dies_at(number, patched)
            try:
                build(folder)
                break
            except Killed:
                pass
        shards = {path.name: path.read_bytes() for path in folder.glob("signals-*tfrecord*")}
        assert shards.items() <= whole.items()  # None that could be read and is wrong.
        build(folder)
        assert content(folder) == whole
    assert number > 10


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(tmp_path):
    script = BUILD.format(tests=str(pathlib.Path(__file__).parents[1]))

    def started(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        return process

    def ended(process):
        process.communicate()
        return process.returncode

    process = started(tmp_path / "whole")
    began = time.monotonic()
    assert ended(process) == 0
    seconds = time.monotonic() - began
    whole = content(tmp_path / "whole")
    killed = 0
    for share in (0.2, 0.5, 0.8):
        process = started(tmp_path / "broken")
        time.sleep(share * seconds)
        process.send_signal(signal.SIGKILL)
        killed += ended(process) == -signal.SIGKILL
        assert ended(started(tmp_path / "broken")) == 0
        assert content(tmp_path / "broken") == whole
        shutil.rmtree(tmp_path / "broken")
    assert killed
