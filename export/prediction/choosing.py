"""Which artifact a path means: a file, a SavedModel, or one of several in a folder."""

import json
from pathlib import Path

from keras_amalgam.export.serving.bundle import CONFIG, Bundle
from keras_amalgam.export.verification.report import JSON_NAME
from keras_amalgam.files.provenance import CARD

FORMATS = {".keras": "keras", ".tflite": "tflite", ".onnx": "onnx"}
"""By the file's ending."""
SAVED_MODEL, TEACHER = "saved_model", "teacher"
_GRAPH = "saved_model.pb"

_EXPECTED = (
    "a .keras, .tflite or .onnx file, the directory of a SavedModel, a bundle for TF Serving, the "
    "folder of a run, of `keras-amalgam export` or of a teacher"
)


def format_of(path: Path) -> str | None:
    """The kind of artifact a path holds, a key of `runner.OPENERS` or `"teacher"`, or `None`.

    Args:
        path: A file or a folder. Nothing but its name, or the names in it, is looked at.
    """
    if path.is_dir():
        kinds = {SAVED_MODEL: path / _GRAPH, TEACHER: path / CARD}
        return next((kind for kind, mark in kinds.items() if mark.is_file()), None)
    return FORMATS.get(path.suffix.lower()) if path.is_file() else None


def choose(path: Path, artifact: str | None = None) -> Path:
    """The artifact that a path means.

    | path | artifact |
    | --- | --- |
    | a file, the directory of a SavedModel or of a teacher | itself |
    | a folder with `export.json` | the `.keras` file, else the first that misses no threshold |
    | a bundle, or the folder of its versions | the newest version of its only model |
    | any other folder | the only artifact in it, else its only `.keras` file |

    Args:
        path: Where to look.
        artifact: The name of one in the folder; in a bundle a model's, a version's, or both as
            `"animals/2"`.

    Raises:
        ValueError: If there is no artifact, none of that name, or a choice is needed.
    """
    if not path.exists():
        raise ValueError(
            f"There is no artifact to ask. Received: '{path}', which does not exist. Expected: "
            f"{_EXPECTED}. Check the path."
        )
    if format_of(path) is not None or not path.is_dir():
        return _itself(path, artifact)
    found, preferred = _in_folder(path)
    if not found:
        raise ValueError(
            f"There is no artifact in the folder. Received: '{path}'. Expected: {_EXPECTED}. Check "
            "the path, or export the student first."
        )
    if artifact is None and preferred is None:
        raise ValueError(
            f"Several artifacts lie in the folder. Received: '{path}' with {sorted(found)}. "
            "Expected: one of them. Choose it with `artifact=`."
        )
    name = preferred if artifact is None else artifact.rstrip("/")
    if name not in found:
        raise ValueError(
            f"There is no such artifact in '{path}'. Received: artifact={artifact!r}. Expected: "
            f"one of {sorted(found)}. Choose one of these."
        )
    return found[name]


def _itself(path: Path, artifact: str | None) -> Path:
    if format_of(path) is None:
        raise ValueError(
            f"This is not an artifact of keras-amalgam. Received: '{path}'. Expected: {_EXPECTED}. "
            "Make a teacher of another network's file with `keras-amalgam convert`, and ask that."
        )
    if artifact is not None:
        raise ValueError(
            f"`artifact=` chooses one in a folder. Received: artifact={artifact!r} for '{path}', "
            "which is an artifact itself. Leave `artifact=` out."
        )
    return path


def _in_folder(folder: Path) -> tuple[dict[str, Path], str | None]:
    """The artifacts in a folder by name, and the one that is meant if none is named."""
    if (folder / CONFIG).is_file():
        return _in_bundle(folder)
    if versions := _versions(folder):
        return versions, max(versions, key=int)
    listed = _listed(folder)
    found = {name: folder / name for name in listed if format_of(folder / name)}
    if not found:
        entries = sorted(folder.iterdir())
        found = {one.name: one for one in entries if format_of(one) not in (None, TEACHER)}
        listed = dict.fromkeys(found, False)
    keras = [name for name, path in found.items() if format_of(path) == "keras"]
    good = [name for name in found if listed[name]]
    if len(found) == 1 or len(keras) == 1:
        return found, (keras or [*found])[0]
    return found, (good or [None])[0]


def _listed(folder: Path) -> dict[str, bool]:
    """The artifacts that `export.json` names, and whether each keeps its thresholds."""
    try:
        artifacts = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))["artifacts"]
        return {str(name): not one["missed"] for name, one in artifacts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _in_bundle(folder: Path) -> tuple[dict[str, Path], str | None]:
    found: dict[str, Path] = {}
    newest = []
    for model in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        versions = _versions(model)
        if versions:
            newest.append(model.name)
            found[model.name] = versions[max(versions, key=int)]
            found |= {f"{model.name}/{version}": path for version, path in versions.items()}
    return found, newest[0] if len(newest) == 1 else None


def _versions(folder: Path) -> dict[str, Path]:
    """The versions of a served model by number, of those that are SavedModels."""
    folders = Bundle(folder.parent, folder.name).folders()
    return {str(n): path for n, path in folders.items() if format_of(path) == SAVED_MODEL}
