"""Killing runs, and what is found when they go on."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from keras_amalgam.training import state as states

ROOT = Path(__file__).parents[2]
STEPS = 3  # Of an epoch.


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was killed once.

    Attributes:
        moment: When it was killed.
        trained: Steps that were trained before.
        lost: Steps of these that had to be trained again.
        same: Whether it ended with what an unbroken run ends with.
        killed: Whether it was killed, and had not ended before.
    """

    moment: str
    trained: int
    lost: int
    same: bool
    killed: bool = True


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """A process of the run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.kills.child", str(folder), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for_work(folder: Path, process: subprocess.Popen) -> None:
    """Wait until a process has imported all it needs and begins."""
    while process.poll() is None and not (folder / "out").exists():
        time.sleep(0.01)


def finish(folder: Path, *arguments: str) -> dict:
    """Let a run go on to its end, and give what it ended with."""
    process = start(folder, *arguments)
    _, error = process.communicate()
    if process.returncode:
        raise RuntimeError(f"The run did not go on. Received: {error[-2000:]}")
    return json.loads((folder / "end.json").read_text())


def events_of(folder: Path) -> list[str]:
    """The fsyncs and renames of a run, in their order."""
    return [line.split()[1] for line in (folder / "events.log").read_text().splitlines()]


def killed_at_event(folder: Path, event: int, when: str, name: str, whole: dict) -> Outcome:
    """Kill a run before or after one of its fsyncs or renames, and let it go on."""
    process = start(folder, "--event", str(event), "--when", when)
    process.communicate()
    killed = process.returncode == -signal.SIGKILL
    return _outcome(folder, f"{when} {name} {event}", killed, whole)


def killed_after(folder: Path, seconds: float, whole: dict, artifacts: str = "few") -> Outcome:
    """Kill a run some seconds after it began to work, and let it go on.

    One that ended before, as speed varies, is given again for half as long.
    """
    process = start(folder, "--artifacts", artifacts)
    wait_for_work(folder, process)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        again = folder.with_name(f"{folder.name}_again")
        return killed_after(again, seconds / 2, whole, artifacts)
    return _outcome(folder, f"after {seconds:.1f} s", True, whole, artifacts)


def moments(number: int, seconds: float, seed: int = 0) -> list[float]:
    """Random moments of a run of so many seconds."""
    chosen = random.Random(seed)
    return [chosen.uniform(0.0, seconds) for _ in range(number)]


def _outcome(
    folder: Path, moment: str, killed: bool, whole: dict, artifacts: str = "few"
) -> Outcome:
    log = folder / "steps.log"
    trained = int(log.read_text().splitlines()[-1]) if log.exists() else 0
    found = states.latest(folder / "out" / "training" / "main" / "states")
    place = found[0].place if found else states.Place()
    kept = place.epoch * STEPS + place.step
    same = finish(folder, "--artifacts", artifacts) == whole
    return Outcome(moment, trained, trained - kept, same, killed)
