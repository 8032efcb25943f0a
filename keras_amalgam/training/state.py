"""The state of a training: everything that its next step depends on, in one file.

A `.keras` file holds less: neither the random states of dropout layers nor the running means of an
epoch.
"""

import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.files.writing import named, whole_file
from keras_amalgam.training.amalgamator import Amalgamator

VERSION = 2
_ABOUT = "about"
_DAMAGED = (EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
_NAME = re.compile(r"state_(\d{3})_(\d{6})_(\d{8})\.npz")
# NumPy's format knows no bfloat16: its bits are stored as whole numbers.
_AS_BITS = {"bfloat16": "uint16"}


@dataclass(frozen=True, order=True)
class Place:
    """How far a training has come.

    Attributes:
        stage: Number of the stage, from 0.
        epoch: Epochs of the stage that are complete.
        step: Steps of the next epoch that are complete.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class State:
    """What a state file holds beside the numbers of the variables.

    Attributes:
        place: How far the training has come.
        history: Values by key, one for each complete epoch of all stages; `None` where the epoch's
            stage has no such key.
        epochs_before: Epochs that were trained in the stages before this one. Fewer than planned
            where a callback ended a stage early.
        seconds: Time spent training, over all processes.
        made_from: What the training was begun with; see `differences`.
        callbacks: State of those callbacks that have `get_state`, by position.
        finished: Whether this is the end of the last stage.
    """

    place: Place = Place()
    history: Mapping[str, list[float | None]] = field(default_factory=dict)
    epochs_before: int = 0
    seconds: float = 0.0
    made_from: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False

    @property
    def epochs(self) -> int:
        """Epochs trained so far, in all stages."""
        return max(map(len, self.history.values()), default=0)

    def with_epoch(self, losses: Mapping[str, float]) -> "State":
        """The state with one more epoch in its history."""
        before = {key: self.history.get(key, [None] * self.epochs) for key in losses}
        history = {
            key: [*values, losses.get(key)] for key, values in {**self.history, **before}.items()
        }
        return replace(self, history=history)


def save(folder: Path, state: State, amalgamator: Amalgamator, keep: int) -> Path:
    """Write a state, whole or not at all, and remove all but the latest ones.

    Args:
        folder: Of the training's states.
        state: What to write with the variables.
        amalgamator: Compiled, its optimizer built.
        keep: How many states stay, at least 1.

    Returns:
        The file's path.

    Raises:
        OSError: If it cannot be written; the earlier states are untouched then.
    """
    arrays, names = {}, []
    for number, (name, variable) in enumerate(_variables(amalgamator)):
        value = np.asarray(keras.ops.convert_to_numpy(variable))
        names.append([name, str(value.dtype)])
        bits = _AS_BITS.get(str(value.dtype))
        arrays[f"{number:05}"] = value.view(bits) if bits else value
    about = {"version": VERSION, "variables": names, **asdict(state)}
    arrays[_ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    place = state.place
    path = folder / f"state_{place.stage:03}_{place.epoch:06}_{place.step:08}.npz"
    with whole_file(path) as partial, named(path), open(partial, "wb") as file:
        np.savez(file, **arrays)
    files = _files(folder)
    at = files.index(path)
    # Those of later places are damaged: the training went on from before them.
    for stale in files[: max(0, at + 1 - keep)] + files[at + 1 :]:
        stale.unlink(missing_ok=True)
    return path


def latest(folder: Path) -> tuple[State, Path] | None:
    """The newest whole state of a folder, and its file; `None` if the folder has no states.

    A damaged file, as a failing disk leaves, is passed over with a warning for the one before it.

    Raises:
        ValueError: If no state of the folder is whole, or another version wrote the newest one.
        OSError: If a file cannot be read.
    """
    files = _files(folder)
    for path in reversed(files):
        try:
            about = _whole(path)
        except _DAMAGED:
            continue
        if path != files[-1]:
            warnings.warn(
                f"The training goes on from {path.name}: {files[-1]}, which is newer, is damaged.",
                stacklevel=1,  # Whoever asks, it is said once.
            )
        return _read(about, path), path
    if files:
        raise ValueError(
            f"No state of the training in {folder} is whole. Received: {len(files)} damaged files, "
            f"the newest {files[-1].name}. Put them back from a copy, or begin anew in another "
            "folder."
        )
    return None


def _whole(path: Path) -> dict[str, Any]:
    """What a state file says of itself, read after all numbers in it."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        damaged = arrays.zip.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        return json.loads(arrays[_ABOUT].tobytes())


def _read(about: dict[str, Any], path: Path) -> State:
    version = about.pop("version", None)
    if version != VERSION:
        raise ValueError(
            f"Another version of keras-amalgam wrote the training in {path.parent}. Received: a "
            f"state of version {version}. Expected: {VERSION}. Go on with that version, or begin "
            "anew in another folder."
        )
    about.pop("variables")
    return State(**{**about, "place": Place(**about["place"])})


def restore(path: Path, amalgamator: Amalgamator) -> list[np.ndarray]:
    """Give an amalgamator the numbers of a state.

    Args:
        path: Of the state's file.
        amalgamator: Of the same student, teachers and terms, compiled, its optimizer built.

    Returns:
        The epoch's running means, for `restore_means`: `fit` resets them.

    Raises:
        ValueError: If the variables are others than the state's.
    """
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays[_ABOUT].tobytes())
        variables = _variables(amalgamator)
        _check(path, about["variables"], variables, arrays)
        for number, (_, variable) in enumerate(variables):
            value, dtype = arrays[f"{number:05}"], about["variables"][number][1]
            if dtype in _AS_BITS:
                value = value.view(keras.ops.convert_to_numpy(variable).dtype)
            variable.assign(value)
    return [keras.ops.convert_to_numpy(variable) for variable in _means(amalgamator)]


def restore_means(amalgamator: Amalgamator, means: Sequence[np.ndarray]) -> None:
    """Let the means of an epoch go on from where a state left them."""
    for variable, value in zip(_means(amalgamator), means, strict=True):
        variable.assign(value)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """What differs between two descriptions, as `name: new, was old`.

    Args:
        before: Of the training when it was begun; JSON-ready.
        now: Of the training that is to go on.
        path: Of the part that is compared.
    """
    found = []
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            old, new = (dict(enumerate(one, 1)) for one in (old, new))
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{path}{key}.")
        else:
            found.append(f"{path}{key}: {_short(new)}, was {_short(old)}")
    return found


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _files(folder: Path) -> list[Path]:
    """State files, the oldest first."""
    return sorted(path for path in folder.glob("state_*.npz") if _NAME.fullmatch(path.name))


def _variables(amalgamator: Amalgamator) -> list[tuple[str, Any]]:
    """All that a step reads and changes, in a fixed order, each once."""
    groups = (amalgamator.variables, amalgamator.optimizer.variables, _means(amalgamator))
    unique = {id(variable): variable for group in groups for variable in group}
    return [(variable.path, variable) for variable in unique.values()]


def _means(amalgamator: Amalgamator) -> list[Any]:
    return [variable for metric in amalgamator.metrics for variable in metric.variables]


def _check(path: Path, saved: Sequence[Any], variables: Sequence[Any], arrays: Any) -> None:
    """Refuse variables of other shapes; their names may count layers made before them."""
    before = [(name, arrays[f"{number:05}"].shape) for number, (name, _) in enumerate(saved)]
    now = [(name, tuple(variable.shape)) for name, variable in variables]
    if [shape for _, shape in before] == [shape for _, shape in now]:
        return
    pairs = zip(before, now, strict=False)
    differing = next(((old, new) for old, new in pairs if old[1] != new[1]), (None, None))
    old, new = differing if differing[0] else (f"{len(before)} variables", f"{len(now)} variables")
    raise ValueError(
        f"The training in {path.parent} was begun with another student or other terms. Received: "
        f"{new}, was {old}. Go on with the same, or begin anew in another folder."
    )
