"""Where a converted network came from, and the statistics that conversion took out of it."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.files.contents import files_below, sha256_of_files

# The statistics of folded batch normalizations, beside the card.
BATCH_NORM = "batch_norm.npz"
# Where the original files of a network lie that runs in its own runtime.
NETWORK = "network"
CARD = "card.json"
# All that stands in a teacher's directory.
TEACHER_FILES = (BATCH_NORM, CARD, "labels.txt", "model.keras", NETWORK, "parity.json")
Statistics = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Provenance:
    """Where a converted network came from.

    Args:
        source: Name of the source file.
        sha256: Of the source file, hexadecimal.
        framework: What wrote the source, as far as it says.
        converter: Name and version of what converted it.
        opset: The source's ONNX opset, if it is ONNX.
        names: Names in the source (node, tensor, module path) to Keras layer names.
        parity: Largest errors against the source runtime, per output.
        license: Of the source, as the user says.
        batch_norm: Running `"mean"` and `"variance"` per channel of every batch normalization that
            was folded into a convolution, by the normalization's name in the source.
        output: The source's output that was taken, where it was chosen out of several.
    """

    source: str
    sha256: str
    framework: str
    converter: str
    opset: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    license: str | None = None
    batch_norm: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    output: str | None = None

    def card(self) -> dict[str, Any]:
        """JSON-ready; `batch_norm` refers to a file beside the card, by name and hash."""
        kept = asdict(replace(self, batch_norm={}))
        return kept | {"batch_norm": batch_norm_entry(self.batch_norm)}

    @classmethod
    def from_card(cls, card: Mapping[str, Any], directory: Path) -> "Provenance":
        """What `card` wrote, with the statistics in the file beside it.

        Raises:
            FileNotFoundError: If that file is missing.
            ValueError: If it is not the card's.
        """
        batch_norm = read_batch_norm(directory, card.get("batch_norm") or {})
        return cls(**{**card, "batch_norm": batch_norm})


def batch_norm_bytes(statistics: Statistics) -> bytes:
    """The content of `batch_norm.npz`: float32 arrays `<number>_mean` and `<number>_variance`.

    The numbers are those of the names in the card, as a name of a node is no name of a file. Equal
    statistics make equal bytes.
    """
    arrays = {
        f"{number}_{key}": np.asarray(values, np.float32)
        for number, name in enumerate(statistics)
        for key, values in statistics[name].items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def batch_norm_entry(statistics: Statistics) -> dict[str, Any]:
    """What a card says about the statistics beside it; empty without any."""
    if not statistics:
        return {}
    digest = hashlib.sha256(batch_norm_bytes(statistics)).hexdigest()
    return {"file": BATCH_NORM, "sha256": digest, "names": list(statistics)}


def read_batch_norm(directory: Path, entry: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """The statistics that a card refers to.

    Args:
        directory: With the card.
        entry: From `batch_norm_entry`.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not the card's.
    """
    if not entry:
        return {}
    path = directory / BATCH_NORM
    if not path.is_file():
        raise FileNotFoundError(
            f"No statistics of batch normalizations at {path}, which the card beside it refers to. "
            "Copy the whole directory of the teacher."
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise ValueError(
            f"The statistics in {path} are not those of their card: the file was changed after it "
            "was written. Convert or save the teacher again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {
            name: {key: arrays[f"{number}_{key}"].tolist() for key in ("mean", "variance")}
            for number, name in enumerate(entry["names"])
        }


def holds_own_network(directory: Path) -> bool:
    """Whether what lies in a teacher's folder of original files is what its card says.

    Only then it may be replaced: beside the network somebody may keep files there.

    Args:
        directory: A teacher's, with its card.
    """
    folder = directory / NETWORK
    if not folder.exists():
        return True
    try:
        card = json.loads((directory / CARD).read_text())
        inside = files_below(folder)
        network = folder / card["runtime"]["file"]
        base = network if network.is_dir() else folder
        return all(path.is_relative_to(base) for path in inside) and (
            sha256_of_files(inside, base) == card["weights_sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
