"""A page that holds the pictures and what was said of each."""

import base64
import datetime
import io
from pathlib import Path

from PIL import Image

from keras_amalgam.export.decisions import JOINT
from keras_amalgam.export.prediction.results import ClassScore, ImagePrediction, Predictions
from keras_amalgam.files.writing import write_text
from keras_amalgam.images.folders import printable
from keras_amalgam.images.pillow_files import pixels_of
from keras_amalgam.text import page_template
from keras_amalgam.version import __version__

MARK = '<meta name="generator" content="keras-amalgam predict">'
"""By which such a page is known again."""
_SIDE = 320  # Pixels of a thumbnail: sharp at 160 on a screen of two pixels a point.
_QUALITY = 82
_RUNTIMES = {"tflite": "LiteRT", "onnx": "onnxruntime", "keras": "Keras"} | dict.fromkeys(
    ("saved_model", "serving"), "TensorFlow"
)
_TEMPLATE = "predictions.html"


def write(predictions: Predictions, path: str | Path) -> None:
    """Writes a self-contained page, whole or not at all.

    Args:
        predictions: What was said; the images' files are read once more.
        path: The file to write. What is there is replaced; folders above it are made.

    Raises:
        ValueError, OSError: If an image cannot be read any more, or nothing can be written.
    """
    text = page_template(Path(__file__).with_name(_TEMPLATE)).render(
        said=predictions,
        mark=MARK,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        version=__version__,
        runtime=_RUNTIMES.get(predictions.format, "its own runtime"),
        name=printable,
        groups=_groups,
        thumbnail=_thumbnail,
        percent=percent,
        of_tasks=_of_tasks,
    )
    write_text(path, text)


def is_own(path: Path) -> bool:
    """Whether a file is such a page."""
    with path.open("rb") as file:
        return MARK.encode() in file.read(1000)


def percent(score: float) -> str:
    """A score for people: `98.1 %`."""
    return f"{100 * score:.1f} %"


def _groups(one: ImagePrediction) -> dict[str, tuple[ClassScore, ...]]:
    """The tasks' classes, and the joint decision where there is one."""
    return {**one.tasks, **({JOINT: one.joint} if one.joint else {})}


def _of_tasks(heading: str, one: ClassScore) -> str:
    """Whose a class of the joint decision is; nothing of a task's own."""
    return "" if one.tasks == (heading,) else ", ".join(one.tasks)


def _thumbnail(file: Path) -> str:
    """A picture the right way up, small, as a `data:` address."""
    pixels = pixels_of(file.read_bytes())
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
