"""The fresh processes that run an artifact: they load it side by side and are timed in turn."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.verification import runner
from keras_amalgam.export.verification.encoded import EncodedImages
from keras_amalgam.images import pillow_files

_RUN = """
import json, runpy, sys
sys.argv = sys.argv[1:]
with open(sys.argv[1]) as job:
    sys.path += [path for path in json.load(job)["paths"] if path not in sys.path]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(
    artifact: Artifact,
    encoded: EncodedImages,
    size: tuple[int, int] | None,
    channels: int,
    threads: Sequence[int],
    repeats: int,
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Run an artifact, a process for each number of threads.

    Importing a runtime takes longer than all the rest, and one core; so that is done by all at the
    same time. What is timed has the machine to itself.

    Args:
        artifact: What to run.
        encoded: The images.
        size: `(height, width)` that they are brought to; `None` leaves their own.
        channels: The number of channels of the images, 1 or 3.
        threads: How many threads each process uses; the first process gives the answers.
        repeats: Calls that are timed.
        meanwhile: What is worth doing here while the processes load.

    Returns:
        The answers, and of each process what `runner.main` measures.

    Raises:
        RuntimeError: If a process fails, with what it said.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        folder = Path(directory)
        encoded.write(folder / "images.zip")
        job = {
            "paths": [os.path.abspath(path) for path in sys.path if path],
            "artifact": str(artifact.path.resolve()),
            "format": artifact.format,
            "images": str(folder / "images.zip"),
            "decoder": pillow_files.__file__,
            "size": size,
            "channels": channels,
            "covers": artifact.covers,
            "repeats": repeats,
        }
        processes = [
            _Process(folder / str(number), job | {"threads": count}, answers=number == 0)
            for number, count in enumerate(threads)
        ]
        for process in processes:
            stack.enter_context(process)
        meanwhile()
        for process in processes:
            process.wait_until_loaded()
        measured = [process.finish(artifact) for process in processes]
        with np.load(folder / "0" / "outputs.npz") as outputs:
            return dict(outputs), measured


class _Process:
    """One process in a folder of its own, which waits before it is timed; killed on leaving."""

    def __init__(self, folder: Path, job: dict[str, Any], answers: bool) -> None:
        self._folder = folder
        self._measured = folder / "measured.json"
        self._job = job | {
            "outputs": str(folder / "outputs.npz") if answers else None,
            "measured": str(self._measured),
        }

    def __enter__(self) -> "_Process":
        self._folder.mkdir()
        path = self._folder / "job.json"
        path.write_text(json.dumps(self._job))
        with (self._folder / "errors.txt").open("w") as errors:
            self._running = subprocess.Popen(
                # Isolated: no folder of the user's comes before the libraries. But it finds, behind
                # its own, what this process finds, wherever that was installed.
                [sys.executable, "-I", "-c", _RUN, runner.__file__, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self._folder,
            )
        return self

    def __exit__(self, *error: Any) -> None:
        self._running.kill()
        self._running.communicate()

    def wait_until_loaded(self) -> None:
        """Return when it could be timed, or has failed."""
        for line in self._running.stdout or ():
            if line.strip() == runner.LOADED:
                return

    def finish(self, artifact: Artifact) -> dict[str, Any]:
        """Let it go on, and return what it measured."""
        self._running.communicate("\n")
        if self._running.returncode != 0:
            errors = (self._folder / "errors.txt").read_text(errors="replace")
            last = "\n".join(errors.strip().splitlines()[-5:])
            raise RuntimeError(
                "The artifact does not run in a process of its own. Received: exit status "
                f"{self._running.returncode} for '{artifact.path}', which said:\n{last}\nExpected: "
                "an artifact that its runtime loads. Export it again."
            )
        return json.loads(self._measured.read_text())
