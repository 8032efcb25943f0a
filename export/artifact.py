"""What an exporter returns: where the artifact is, what is in it and how well it agrees."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A written and verified artifact.

    Attributes:
        path: The file, or for a SavedModel the directory.
        format: `"keras"`, `"saved_model"`, `"serving"`, `"tflite"` or `"onnx"`.
        precision: `"float32"`, `"float16"`, `"dynamic"`, `"int8"` or `"int16"`; for `"keras"` the
            student's own dtype policy.
        bytes: Size on disk of `path`; for a directory the sum of its files.
        heads: The heads' names in the model's order.
        parity: Agreement with the Keras model: `max_abs_error`, `mean_abs_error`,
            `argmax_agreement` (the worst head's each), `images` (how many were compared) and
            `heads`, the same numbers per head.
        operators: How often each operator occurs: the file's own of TFLite and ONNX, TensorFlow's
            over all signatures of a SavedModel or bundle, and the layers of a Keras file.
        seconds: Wall time of the export, the check included.
        resized_to: `(height, width)` that a bundle brings encoded images to; `None` where the
            student does that by itself, and for the other formats.
        covers: Whether a photograph of another shape than the artifact's is cut about its centre
            before it is handed over, as the student itself does it, rather than squeezed.
    """

    path: Path
    format: str
    precision: str
    bytes: int
    heads: tuple[str, ...]
    parity: Mapping[str, Any]
    operators: Mapping[str, int]
    seconds: float
    resized_to: tuple[int, int] | None = None
    covers: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "path": str(self.path),
            "heads": list(self.heads),
            "parity": dict(self.parity),
            "operators": dict(self.operators),
        }
