"""What the student says of photographs: as it was evaluated, on the canvas of its data sets."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.export import parity
from keras_amalgam.export.entrance import entrance_of
from keras_amalgam.export.signatures import Signature, describe, float32_copy
from keras_amalgam.export.verification import runner
from keras_amalgam.export.verification.encoded import EncodedImages
from keras_amalgam.images.canvas import Canvas
from keras_amalgam.images.decoding import decoder
from keras_amalgam.images.pillow_files import pixels_of

CanvasSize = Sequence[Any]
"""`(height, width)`, or with one of `canvas`' methods as third."""

REPORT = "report.json"
_MAX_BATCH_PIXELS = 2**22


def photographs(contents: Iterable[bytes], channels: int) -> Iterator[np.ndarray]:
    """Images as the data sets decode them, uint8, one at a time: together they may be too many.

    Args:
        contents: Files.
        channels: 1 or 3.
    """
    decoded = decoder(channels)
    for content in contents:
        yield decoded(content).numpy()


def canvas_for(model: keras.Model, canvas: CanvasSize | None) -> Canvas | None:
    """The canvas that a student was evaluated on.

    Args:
        model: The student.
        canvas: Its size and method; `None` for the student's own size.

    Raises:
        ValueError: If it is not one, or not one of images that the student takes.
    """
    if canvas is None:
        return None
    height, width, channels = describe(model).image_shape
    size, method = tuple(canvas[:2]), canvas[2] if len(canvas) == 3 else "resize"
    if len(canvas) not in (2, 3) or not all(
        own in (None, side) for own, side in zip((height, width), size, strict=True)
    ):
        raise ValueError(
            f"The canvas does not fit model '{model.name}'. Received: {tuple(canvas)}. Expected: "
            f"(height, width) or (height, width, method) agreeing with the model's "
            f"{(height, width)}. Leave `canvas=` out for the model's own size."
        )
    return Canvas.parse((*size, channels, method))


def canvas_beside(student: Path) -> list[Any] | None:
    """The canvas in the report of the run that trained a student; `None` if there is none.

    Args:
        student: The student's file, which a run writes beside its `report.json`.
    """
    try:
        report = json.loads((student.parent / REPORT).read_text(encoding="utf-8"))
        canvas = report["settings"]["canvas"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return canvas if isinstance(canvas, list) else None


class Reference:
    """What a student answers to photographs, worked out once for all of its artifacts.

    Args:
        model: The student.
        encoded: The photographs, with labels or without.
        canvas: As of `canvas_for`.

    Attributes:
        signature: The student's.
        canvas: What it was evaluated on; `None` for the size that it begins with.
    """

    def __init__(
        self, model: keras.Model, encoded: EncodedImages, canvas: CanvasSize | None = None
    ) -> None:
        self._model = float32_copy(model)
        self.encoded = encoded
        self.signature = describe(self._model)
        self.canvas = canvas_for(self._model, canvas)
        self._known: dict[Any, dict[str, np.ndarray]] = {}

    def as_shown(self, size: tuple[int, int] | None, covers: bool) -> dict[str, np.ndarray]:
        """Its answers to what an application hands over, head to values; see `runner.shown`.

        Args:
            size: `(height, width)` that the photographs are brought to; `None` leaves their own.
            covers: Whether those of another shape are cut, rather than squeezed.
        """

        def asked() -> dict[str, np.ndarray]:
            contents, channels = self.encoded.contents, self.signature.image_shape[2]
            shown = (
                runner.shown(pixels_of(content), size, channels, covers) for content in contents
            )
            return answers(self._model, self.signature, shown)

        return self._once(("shown", size, covers), asked)

    def as_evaluated(self, size: tuple[int, int] | None) -> dict[str, np.ndarray]:
        """Its answers on the canvas of its evaluation, head to values.

        Args:
            size: `(height, width)` for a student that takes any size and does not begin so.
        """
        canvas = self.canvas
        if canvas is None:
            return self.entered(size)

        def asked() -> dict[str, np.ndarray]:
            placed = (np.asarray(canvas(tf.constant(image))) for image in self._photographs())
            return answers(self._model, self.signature, placed)

        return self._once("canvas", asked)

    def entered(self, size: tuple[int, int] | None) -> dict[str, np.ndarray]:
        """Its answers to photographs brought antialiased to the size that it begins with.

        Args:
            size: As of `as_evaluated`.
        """

        def asked() -> dict[str, np.ndarray]:
            entrance = entrance_of(self._model, size)
            model = self._model if entrance is None else entrance.joined()
            return answers(model, self.signature, self._photographs())

        return self._once(("entered", size), asked)

    def _photographs(self) -> Iterator[np.ndarray]:
        return photographs(self.encoded.contents, self.signature.image_shape[2])

    def _once(self, key: Any, asked: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        if key not in self._known:
            self._known[key] = asked()
        return dict(self._known[key])  # What is added to one answer is not another's.


def answers(
    model: keras.Model, signature: Signature, images: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    """A model's values on images of any sizes, in their order; those of one size go together.

    Args:
        model: The model, in float32.
        signature: With its heads; its sizes may be other ones.
        images: Shape `(height, width, channels)` each.
    """
    rows = [
        parity.reference(model, signature, np.stack(batch))
        for _, of_one_size in itertools.groupby(images, lambda image: image.shape)
        for batch in _batches(of_one_size)
    ]
    return {head: np.concatenate([row[head] for row in rows]) for head in signature.heads}


def _batches(images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Batches of images of one size, small enough for any machine's memory."""
    remaining = iter(images)
    for first in remaining:
        count = min(parity.REFERENCE_BATCH, max(1, _MAX_BATCH_PIXELS // max(1, first[..., 0].size)))
        yield [first, *itertools.islice(remaining, count - 1)]
