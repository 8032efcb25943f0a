"""How the timed processes are asked: a line in, so many steps done, the milliseconds of one out."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

THREADS = os.cpu_count() or 1
RATE = 1e-3
# Steps whose losses are compared before anything is timed.
COMPARED = 3
# A question is long enough for the clock and for what a step leaves running behind it.
SECONDS = 0.4


def serve(
    steps: Mapping[str, Callable[[], Any]],
    losses: Sequence[float],
    profile: Callable[[], Mapping[str, float]] = dict,
) -> None:
    """Do what is asked for, until there is nobody to ask.

    Args:
        steps: By name what does one step and returns when it is done.
        losses: Those of the first steps.
        profile: Gives milliseconds of a step by kind of operator, once all steps have run.
    """
    number = {}
    for name, step in steps.items():
        for _ in range(2):  # Traced, and the memory pools filled.
            step()
        started = time.perf_counter()
        step()
        number[name] = max(1, round(SECONDS / (time.perf_counter() - started)))
    ready = {"losses": [float(one) for one in losses], "names": [*steps], "kinds": profile()}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        name = line.strip()
        started = time.perf_counter()
        for _ in range(number[name]):
            steps[name]()
        print(1000 * (time.perf_counter() - started) / number[name], flush=True)


class Worker:
    """A process that serves steps, ready to be asked.

    Args:
        module: Its module.
        arguments: Its command line.
        log: Where it writes what goes wrong.

    Attributes:
        losses: Those of its first steps.
        names: What it can be asked for.
        kinds: Milliseconds of a step by kind of operator, if it was profiled.
    """

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": str(THREADS)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        ready = json.loads(self._line())
        self.losses: list[float] = ready["losses"]
        self.names: list[str] = ready["names"]
        self.kinds: dict[str, float] = ready["kinds"]

    def milliseconds(self, name: str) -> float:
        """The time of one step of that name."""
        if self._process.stdin:
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        line = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not line:
            raise SystemExit(
                f"A measuring process ended: {' '.join(map(str, self._process.args))}\n"
                + self._log.read_text(encoding="utf-8")[-2000:]
            )
        return line
