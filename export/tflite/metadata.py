"""What travels with a TFLite file: class names, and how its numbers are to be read."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.decisions import IDS
from keras_amalgam.export.handing_over import handing_over
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.tflite.runtime import LiteRtModel
from keras_amalgam.files.keras_bounds import UNREADABLE
from keras_amalgam.version import __version__

FILE_NAME = "metadata.json"
CHANNELS = {1: "grey", 3: "rgb"}


def beside(path: Path) -> Path:
    """The metadata beside a file: `student.tflite` has `student.metadata.json`."""
    return path.with_name(f"{path.stem}.{FILE_NAME}")


def describe(
    name: str,
    loaded: LiteRtModel,
    precision: str,
    quantizer: str,
    labels: Labels,
    covers: bool = False,
) -> dict[str, Any]:
    """The metadata of a file, JSON-ready.

    Args:
        name: The model's name.
        loaded: The file.
        precision: As in `Plan`.
        quantizer: As in `Plan`.
        labels: Output to class names, none for an embedding.
        covers: See `Artifact`.
    """
    given = loaded.runner.get_output_details()
    in_order = [*labels, *sorted(set(given) - set(labels))]
    _, height, width, channels = loaded.image_shape
    image = {
        "shape": list(loaded.image_shape),
        "dtype": np.dtype(loaded.dtype).name,
        "range": [0, 255],
        "channels": CHANNELS.get(channels or 0, str(channels)),
        **_quantization(loaded.quantization),
    }
    if height and width and channels:
        image["photograph"] = handing_over((height, width), channels, covers)
    return {
        "name": name,
        "format": "tflite",
        "precision": precision,
        "quantizer": quantizer,
        "keras_amalgam": __version__,
        "inputs": {loaded.input_name: image},
        "outputs": {
            key: {"shape": [loaded.image_shape[0], *map(int, given[key]["shape"][1:])]}
            | _output(key, given[key], labels)
            for key in in_order
        },
    }


def append(path: Path, labels: Labels, metadata: dict[str, Any]) -> None:
    """Appends labels and metadata to a `.tflite` file as a zip, as TFLite's associated files are.

    A flatbuffer is read from its start and a zip from its end, so the file is both: interpreters
    load it and `unzip` lists it.
    """
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (labels_module.files(labels) | {FILE_NAME: to_json(metadata)}).items():
            # A fixed date keeps equal exports byte-identical.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)


def read(path: Path) -> dict[str, Any] | None:
    """The metadata inside a file; `None` if there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            given = json.loads(archive.read(FILE_NAME))
    except (*UNREADABLE, KeyError, ValueError):
        return None
    return given if isinstance(given, dict) else None


def to_json(metadata: dict[str, Any]) -> str:
    """The text of `metadata.json`."""
    return json.dumps(metadata, ensure_ascii=False, indent=2) + "\n"


def _output(key: str, details: dict[str, Any], labels: Labels) -> dict[str, Any]:
    dtype = details["dtype"].__name__
    if key not in labels:
        return {"kind": "label ids", "of": key.removesuffix(IDS), "dtype": dtype}
    kind = "logits" if labels[key] else "embedding"
    described = {"kind": kind, "dtype": dtype, **_quantization(details["quantization"])}
    return described | {"labels": list(labels[key])}


def _quantization(quantization: tuple[float, int]) -> dict[str, Any]:
    """`real = (stored - zero_point) * scale`, where the tensor is quantized."""
    scale, zero_point = quantization
    return {"scale": float(scale), "zero_point": int(zero_point)} if scale else {}
