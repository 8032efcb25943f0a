"""Class names that travel with an artifact: one place for their form, writing and reading.

`labels.json` maps each head to its class names in the order of its units; `labels_<head>.txt` has
one name a line, the form mobile tools read. An output without classes, such as an embedding, has an
empty list and no such file.
"""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import keras

from keras_amalgam.export.signatures import Signature
from keras_amalgam.tasks.names import fits_a_line

Labels = dict[str, tuple[str, ...]]

FILE_NAME = "labels.json"
ONNX_KEY = "labels"
SAVED_MODEL_FOLDER = "assets.extra"


def resolve(
    model: keras.Model, signature: Signature, class_names: Mapping[str, Sequence[str]] | None
) -> Labels:
    """The labels of every head, checked against the heads.

    Args:
        model: The student; its attribute `class_names` is used where the argument is `None`.
        signature: The model's interface.
        class_names: Head's name to its class names in the order of the head's units; none for an
            output without classes.

    Returns:
        Head's name to its class names, in the heads' order.

    Raises:
        TypeError: If `class_names` is not a mapping of sequences of text.
        ValueError: If they are missing, or do not fit the heads.
    """
    given = getattr(model, "class_names", None) if class_names is None else class_names
    heads = list(signature.heads)
    if given is None:
        raise ValueError(
            f"The classes of model '{model.name}' are unknown. Received: class_names=None and a "
            f"model without the attribute `class_names`. Expected: names for the heads {heads}. "
            f"Pass `class_names={{{heads[0]!r}: [...], ...}}`."
        )
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`class_names` must say which head each list belongs to. Received: a "
            f"{type(given).__name__}. Expected: a mapping from the heads {heads} to their class "
            f"names. Pass `class_names={{{heads[0]!r}: [...]}}`."
        )
    if set(given) != set(heads):
        raise ValueError(
            f"`class_names` and the heads of model '{model.name}' differ. Received: names for "
            f"{sorted(given)}. Expected: names for exactly {heads}. Name the heads that are "
            "missing and drop the others."
        )
    labels = {head: _checked(head, given[head], signature.heads[head]) for head in heads}
    if not classified(labels):
        raise ValueError(
            f"No output of model '{model.name}' has classes. Received: `class_names` without a "
            f"name for {heads}. Expected: names for one head at least. Pass "
            f"`class_names={{{heads[0]!r}: [...], ...}}`."
        )
    return labels


def read_labels(path: str | PathLike[str]) -> Labels:
    """Reads the class names that travel with an artifact.

    Args:
        path: A SavedModel's directory, a `.tflite`, `.onnx` or `.keras` file written by this
            package.

    Returns:
        Head's name to its class names in the order of the head's units.

    Raises:
        ValueError: If there is no artifact, or it carries no labels, or none that can be read.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"There is no artifact to read labels from. Received: '{path}'. Expected: an existing "
            "SavedModel directory, or a .tflite, .onnx or .keras file. Check the path."
        )
    try:
        text = carried(path).get(FILE_NAME)
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    if text is None:
        raise ValueError(
            f"The artifact carries no labels. Received: '{path}'. Expected: an artifact written "
            "by `keras_amalgam.export`. Export the student again, or take the names from where "
            "the artifact came from."
        )
    try:
        return {head: tuple(names) for head, names in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise _unreadable(path, f"{text[:60]!r} ({error})") from error


def _unreadable(path: Path, received: str) -> ValueError:
    return ValueError(
        f"The labels of '{path}' cannot be read. Received: {received}. Expected: a JSON object of "
        "head to class names, and its lines as text. Export the student again."
    )


def carried(path: Path) -> dict[str, str]:
    """The files of labels that travel with an artifact, name to text; none of a foreign one."""
    if path.is_dir():
        found = (path / SAVED_MODEL_FOLDER).glob("labels*")
        return {file.name: file.read_text(encoding="utf-8") for file in found if file.is_file()}
    if path.suffix == ".keras":
        file = beside(path)
        return {FILE_NAME: file.read_text(encoding="utf-8")} if file.is_file() else {}
    if path.suffix == ".onnx":
        import onnx

        properties = onnx.load(str(path), load_external_data=False).metadata_props
        text = next((entry.value for entry in properties if entry.key == ONNX_KEY), None)
        return {} if text is None else {FILE_NAME: text}
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.startswith("labels")]
        return {name: archive.read(name).decode() for name in names}


def classified(labels: Labels) -> Labels:
    """The heads that have classes."""
    return {head: names for head, names in labels.items() if names}


def without_classes(labels: Labels) -> set[str]:
    """The outputs that have none."""
    return labels.keys() - classified(labels).keys()


def to_json(labels: Labels) -> str:
    """The text of `labels.json`."""
    return json.dumps({head: list(names) for head, names in labels.items()}, ensure_ascii=False)


def beside(path: Path) -> Path:
    """The labels file beside a `.keras` file: `student.keras` has `student.labels.json`."""
    return path.with_name(f"{path.stem}.{FILE_NAME}")


def write_folder(folder: Path, labels: Labels) -> None:
    """Writes `labels.json` and `labels_<head>.txt` into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(labels).items():
        (folder / name).write_text(text, encoding="utf-8")


def files(labels: Labels) -> dict[str, str]:
    """`labels.json` and `labels_<head>.txt` as file name to content."""
    lines = {
        f"labels_{head}.txt": "\n".join([*names, ""]) for head, names in classified(labels).items()
    }
    return {FILE_NAME: to_json(labels)} | lines


def _checked(head: str, names: Sequence[str], shape: tuple[int | None, ...]) -> tuple[str, ...]:
    # A head's name becomes part of a file name, a tensor name and a signature key.
    if not re.fullmatch(r"\w[\w.\-]*", head):
        raise ValueError(
            f"The head {head!r} cannot name a file and a tensor. Received: {head!r}. Expected: "
            "letters, digits, '_', '-' and '.'. Rename the task."
        )
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"The class names of head '{head}' are not text. Received: {names!r}. Expected: a "
            "sequence of strings. Convert them with `str`."
        )
    units = shape[-1] if shape else None
    if len(names) not in (units, 0):
        raise ValueError(
            f"The class names of head '{head}' do not fit its units. Received: {len(names)} names "
            f"for {units} units. Expected: one name per unit, in the order of the units, or none "
            "for an output without classes. Pass the names that the head was trained with."
        )
    broken = [name for name in names if not fits_a_line(name)]
    if broken:
        raise ValueError(
            f"A class name of head '{head}' does not fit on a line of a labels file. Received: "
            f"{broken[0]!r}. Expected: non-empty text without line breaks. Rename the class."
        )
    return tuple(names)
