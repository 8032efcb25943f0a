"""The canvas on which every teacher sees what its authors showed it.

A teacher resizes its images itself, so the canvas only has to lose nothing that the teacher would
have kept: neither detail, for which it must be large enough, nor the shape of things. One canvas
serves photographs of different shapes in two cases only. Where every teacher squeezes them, they
can be squeezed before. Where every teacher cuts them to one shape, they can be cut before. Bars of
padding no teacher has ever seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_amalgam.images.canvas import Canvas, CanvasSpec
from keras_amalgam.models.teacher import Teacher

Size = tuple[int, int]

# Shapes nearer than this are one: at a hundred pixels the squeeze is one pixel.
_SHAPE_TOLERANCE = 0.01


def canvas_for(
    teachers: Sequence[Teacher],
    student_size: Size,
    channels: int = 3,
    sizes: Iterable[Size] | None = None,
) -> tuple[int, int, int, str]:
    """The smallest canvas that shows every teacher what its authors showed it.

    Its sides are at least the largest that a teacher resizes to (`size` / `crop_fraction`) and the
    student's, but never exceed those of the photographs themselves. Photographs are squeezed
    (`"resize"`) where every teacher squeezes them, and cut (`"crop"`) where every teacher cuts them
    to the student's shape (`crop_to_aspect_ratio`). Where teachers differ, only photographs that
    have one shape are right for all: the canvas has that shape then.

    Args:
        teachers: Who look at the canvas.
        student_size: `(height, width)` of the student's own images, in pixels.
        channels: 1 for a grey canvas, 3 for an RGB one.
        sizes: Heights and widths of the photographs, shape `(photographs, 2)`, as `image_sizes`
            reads them; None if they are not known.

    Returns:
        `(height, width, channels, method)`, as `stream` and `canvas` take it.

    Raises:
        ValueError: If no canvas is right for all, or a teacher takes images of any size, so that
            nothing says how large they should be.

    Example:
        >>> photos, sizes = from_folder("photos"), image_sizes("photos")
        >>> images = stream(photos, batch_size=64, canvas=canvas_for(teachers, (96, 96), 3, sizes))
    """
    eyes = [_Eye.of(teacher) for teacher in teachers]
    sizes_seen = [student_size]
    for eye in eyes:
        if eye.size is None:
            raise ValueError(
                f"{eye.name} takes images of any size, so nothing says how large its authors "
                "showed them. Give its preprocessing a `size`, or choose "
                "`canvas=(height, width, channels, method)`."
            )
        sizes_seen.append(eye.size)
    known = None if sizes is None else _as_array(sizes)
    wanted = np.max(sizes_seen, axis=0)
    if not any(eye.cuts for eye in eyes):
        side = wanted if known is None else np.minimum(wanted, known.max(axis=0))
        return _spec(side, channels, "resize")
    student = _Eye("The student", student_size, True)
    if all(eye.cuts and _alike(eye.size, student_size) for eye in [*eyes, student]):
        scale = 1.0 if known is None else min(1.0, (known / wanted).min(axis=1).max())
        return _spec(wanted * scale, channels, "crop")
    if known is not None and _alike(known, known[0]).all():
        largest = known[known.prod(axis=1).argmax()]
        return _spec(largest * min(1.0, (wanted / largest).max()), channels, "resize")
    raise ValueError(_no_canvas(eyes, student_size, wanted, channels))


def check_canvas(
    canvas: CanvasSpec,
    teachers: Sequence[Teacher],
    student_size: Size,
    sizes: Iterable[Size] | None = None,
) -> list[str]:
    """Refuse a canvas that is too small, and say who sees photographs in another shape on it.

    Args:
        canvas: The canvas, as for `stream`.
        teachers: Who look at it.
        student_size: `(height, width)` of the student's own images, in pixels.
        sizes: Heights and widths of the photographs, shape `(photographs, 2)`; None if they are
            not known.

    Returns:
        One sentence for each teacher to whom things have another shape than its authors showed.

    Raises:
        ValueError: If the canvas has less detail than a teacher or the student would take from a
            photograph itself.
    """
    place = Canvas.parse(canvas)
    known = None if sizes is None else _as_array(sizes)
    eyes = [_Eye.of(teacher) for teacher in teachers]
    for eye in [*eyes, _Eye("The student", student_size, place.method == "crop")]:
        if eye.size is not None and _loses_detail(place, eye.size, known):
            raise ValueError(
                f"The canvas is too small: {eye.name} resizes photographs to {_by(eye.size)} and "
                f"would see them enlarged from less. Received: a canvas of {_by(place.size)}. "
                f"Choose one of at least {_by(np.maximum(eye.size, place.size))}, or leave it out."
            )
    if known is not None and _alike(known, place.size).all():
        return []
    return [f"{eye.name} {said}" for eye in eyes if (said := eye.sees_otherwise(place))]


@dataclass(frozen=True)
class _Eye:
    """How somebody looks at a photograph.

    Attributes:
        name: For sentences.
        size: Size that photographs are resized to; None for their own.
        cuts: Whether they keep their shape and lose their sides, rather than being squeezed.
    """

    name: str
    size: Size | None
    cuts: bool

    @classmethod
    def of(cls, teacher: Teacher) -> "_Eye":
        preprocessing = teacher.preprocessing
        size, cuts = preprocessing.size_before_crop, preprocessing.crop_to_aspect_ratio
        return cls(f"Teacher {teacher.name!r}", size, cuts)

    def sees_otherwise(self, place: Canvas) -> str:
        """What is different on a canvas for photographs of another shape; nothing if all is right.

        Who takes images of any size minds whether things keep their shape, and nothing else.
        """
        keeps_shape = self.cuts or self.size is None
        if place.method == "pad":
            return "sees photographs between black bars on this canvas."
        if place.method == "resize":
            return "sees photographs squeezed on this canvas." if keeps_shape else ""
        if not keeps_shape:
            return "squeezes photographs whole, and sees them without their sides on this canvas."
        if self.size is not None and not _alike(self.size, place.size):
            return f"cuts photographs to the shape of {_by(self.size)}, and sees less of them."
        return ""


def _loses_detail(place: Canvas, size: Size, known: np.ndarray | None) -> bool:
    """Whether some photograph is shrunk along an axis to less than somebody resizes it to."""
    short = np.less(place.size, size)
    if known is None:
        return bool(short.any())
    scales = np.array(place.size) / known
    if place.method != "resize":
        both = scales.max(axis=1) if place.method == "crop" else scales.min(axis=1)
        scales = np.stack([both, both], axis=1)
    return bool((short & (scales < 1)).any())


def _no_canvas(eyes: Sequence[_Eye], student_size: Size, wanted: np.ndarray, channels: int) -> str:
    ways = [
        f"{eye.name} {'cuts them to the shape of' if eye.cuts else 'squeezes them to'} "
        f"{_by(eye.size)}"
        for eye in eyes
    ]
    cut, squeezed = (_spec(wanted, channels, method) for method in ("crop", "resize"))
    return (
        "No canvas shows photographs of different shapes to all teachers as their authors did. "
        f"Received: {', '.join(ways)}; a student of {_by(student_size)}. Correct "
        "`crop_to_aspect_ratio` where a teacher's card says it wrongly, cut the photographs to one "
        f"shape beforehand, or choose who sees less: `canvas={cut}` shows them without their "
        f"sides, `canvas={squeezed}` shows them squeezed."
    )


def _as_array(sizes: Iterable[Size]) -> np.ndarray:
    known = np.array(list(sizes), dtype=np.int64)
    if known.ndim != 2 or known.shape[-1] != 2 or not len(known) or known.min() < 1:
        raise ValueError(
            f"Sizes of photographs are pairs (height, width) in pixels. Received: shape "
            f"{known.shape}. Expected: (photographs, 2), at least one, each side at least 1."
        )
    return known


def _alike(one: Any, other: Any) -> Any:
    """Whether sizes have the same shape; element-wise over the first."""
    one = np.asarray(one, float)
    quotient = one[..., 0] * other[1] / (one[..., 1] * other[0])
    return np.abs(quotient - 1) <= _SHAPE_TOLERANCE


def _spec(size: np.ndarray, channels: int, method: str) -> tuple[int, int, int, str]:
    height, width = (max(1, round(float(side))) for side in size)
    return height, width, channels, method


def _by(size: Any) -> str:
    return f"{size[0]} × {size[1]}"
