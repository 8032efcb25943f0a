"""A run is a folder in which each step leaves its result whole and knows what it was made from."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_amalgam.files.contents import sha256_of, sha256_of_directory
from keras_amalgam.files.writing import write_json
from keras_amalgam.training.state import differences

RUN, STEPS, LOCK = "run.json", "steps.json", ".run.lock"
_STATES = "training/*/states/state_*.npz"
_KIND = "keras-amalgam run"  # What `run.json` is, as other programs write such files, too.
# All that a run leaves in its folder, and that --restart removes: what else lies there stays.
_LEFT = (
    RUN, STEPS, "training", "evaluation", "logs", "saved_model", "student*", "choice.json",
    "first_look.json", "package.json", "export.json", "export.html", "report.json", "report.html",
)  # fmt: skip

Say = Callable[[str], None]


class RunFolder:
    """The folder of one run, opened by one process at a time.

    Args:
        path: The folder.
        say: Where it goes what is done, skipped or done again.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, say: Say) -> None:
        self.path = path
        self._say = say

    @classmethod
    @contextmanager
    def opened(cls, path: str | Path, restart: bool, say: Say) -> Iterator["RunFolder"]:
        """The folder, made if it is not there, for this process alone.

        Args:
            path: The folder.
            restart: Whether what an earlier run left in it is removed; nothing else is.
            say: As in the class.

        Raises:
            FileExistsError: If it is neither empty nor the folder of a run.
            BlockingIOError: If another process runs in it.
        """
        path = Path(path)
        check_folder(path, restart)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"Nothing can be written into the folder {path.parent}. Received: "
                f"{error.strerror}. Choose another place for {path.name}."
            ) from error
        with _locked(path / LOCK):
            if restart:
                _remove(inside for pattern in _LEFT for inside in path.glob(pattern))
            _remove(_unfinished(path))
            yield cls(path, say)

    def describe(self, description: Mapping[str, Any]) -> None:
        """Write `run.json`: what is run, resolved, so that it can be run again."""
        write_json(self.path / RUN, {"kind": _KIND, **description})

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """What is done: by step `made_from`, `seconds` and `files`, these with their hashes.

        Nothing, where the file that says so is damaged: all but the training is done again then.
        """
        try:
            return json.loads((self.path / STEPS).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def lost(self, name: str) -> list[str]:
        """What a step left and is not there any more as it was, each in a few words."""
        found = []
        for file, was in self.steps.get(name, {}).get("files", {}).items():
            if not (self.path / file).exists():
                found.append(f"{file} is missing")
            elif _hash_of(self.path / file) != was:
                found.append(f"{file} is not as it was left")
        return found

    def step(
        self,
        name: str,
        made_from: Mapping[str, Any],
        do: Callable[[], Iterable[str]],
        anew: bool = False,
    ) -> bool:
        """Do a step, unless it is done and nothing that it was made from has changed.

        Args:
            name: Of the step.
            made_from: What its result depends on, JSON-ready.
            do: Does it, and returns the names, in the folder, of what it leaves.
            anew: Whether it is done in any case.

        Returns:
            Whether it was done now.
        """
        made_from = json.loads(json.dumps(made_from))
        steps = self.steps
        record = steps.get(name)
        if record and not anew:
            changed = differences(record["made_from"], made_from) + self.lost(name)
            if not changed:
                self._say(f"{name}: done already.")
                return False
            self._say(f"{name}: again, as something has changed: {listed(changed)}.")
        # What is about to be replaced is no longer the result of the step.
        if steps.pop(name, None):
            write_json(self.path / STEPS, steps)
        start = time.perf_counter()
        files = do()
        seconds = time.perf_counter() - start
        hashes = {file: _hash_of(self.path / file) for file in files}
        steps[name] = {"made_from": made_from, "seconds": seconds, "files": hashes}
        write_json(self.path / STEPS, steps)
        return True


def check_folder(path: Path, restart: bool = False) -> None:
    """Refuse a folder that holds anything but a run.

    Args:
        path: The folder; it need not exist.
        restart: Whether an earlier run in it would be removed.

    Raises:
        FileExistsError: Saying what is there and what to do.
    """
    if not path.exists():
        return
    inside = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    # A process that was killed early has locked the folder, and perhaps begun to write run.json.
    begun = {name for name in inside if name == LOCK or name.startswith(f".{RUN}-")}
    if path.is_dir() and (inside == begun or _is_run(path)):
        return
    # A result of versions that had no run.json.
    if not {"report.json", "report.html"} <= inside:
        raise FileExistsError(
            f"A run needs a folder of its own. Received: {path}, which is neither empty nor the "
            f"folder of a run, which has a {RUN}. Choose another folder."
        )
    if not restart:
        raise FileExistsError(
            f"{path} holds the result of a version that could not go on with it. Choose another "
            "folder, or replace it with `restart=True`."
        )


def check_begun(path: Path, only: str | None) -> None:
    """Refuse one step of a run of which no training was begun.

    Args:
        path: The folder; it need not exist.
        only: The step that is wanted, if it is one alone.

    Raises:
        ValueError: Saying what to do.
    """
    if only not in (None, "train") and not any(path.glob(_STATES)):
        raise ValueError(
            f"Only the step {only!r} was wanted, and nothing was trained in {path}. Run without "
            "`only` first."
        )


def listed(changes: Sequence[str], most: int = 4) -> str:
    """The first of some changes, and how many others there are, in one line."""
    more = len(changes) - most
    return "; ".join([*changes[:most], *([f"and {more} more"] if more > 0 else [])])


def _is_run(folder: Path) -> bool:
    """Whether a run was begun there; without its run.json, or with half of it, a training tells."""
    try:
        told = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return any(folder.glob(_STATES))
    return isinstance(told, dict) and told.get("kind") == _KIND


def _hash_of(path: Path) -> str:
    return (sha256_of_directory if path.is_dir() else sha256_of)(path)


def _unfinished(folder: Path) -> Iterator[Path]:
    """What a killed process was about to write: hidden folders, which nobody else makes."""
    for place in (folder, *folder.glob("training/*"), *folder.glob("training/*/states")):
        yield from (hidden for hidden in place.glob(".*-*") if hidden.is_dir())


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file that the system lets go of when the process ends, however it ends."""
    with open(path, "a+", encoding="utf-8") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BlockingIOError(
                f"Another process runs in {path.parent}. Received: its number {holder}. Wait for "
                "it or end it, or choose another folder."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield  # The file stays: without it a third process could lock another of its name.


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
