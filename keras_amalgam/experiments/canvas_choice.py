"""The canvas of a recipe on folders: chosen by the user or for the teachers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_amalgam import data
from keras_amalgam.models.teacher import Teacher

Choice = tuple[int, int] | tuple[int, int, str]
"""Height and width, and how photographs are brought to them."""

Placed = tuple[int, int, int, str]
"""Height, width, channels and method, as `data.stream` takes them."""

BATCH_SIZE = 64


def choose(
    choice: Choice | None,
    teachers: Sequence[Teacher],
    image_shape: tuple[int, int, int],
    folders: Sequence[Path],
) -> tuple[Placed, list[str]]:
    """The canvas for the photographs of some folders, and what must be said of it.

    Args:
        choice: The user's; without a method the one that is right for the teachers. None for the
            smallest canvas that is right for all.
        teachers: Who look at it.
        image_shape: `(height, width, channels)` of the student's own images.
        folders: Folders with the photographs to learn from.

    Raises:
        ValueError: If the canvas is too small for somebody, or none is right for all.
    """
    student_size, channels = image_shape[:2], image_shape[-1]
    sizes = np.concatenate([data.image_sizes(folder) for folder in folders])
    if choice is None or len(choice) == 2:
        best = data.canvas_for(teachers, student_size, channels, sizes)
        if choice is None:
            return best, []
        choice = (*choice, best[-1])
    place = (choice[0], choice[1], channels, choice[2])
    return place, data.check_canvas(place, teachers, student_size, sizes)


def labelled(
    teachers: Sequence[Teacher], tests: Mapping[str, str], place: Placed | None
) -> dict[str, tf.data.Dataset]:
    """Test images by task, numbered as the teacher does.

    Args:
        teachers: Those without a folder are left out.
        tests: Folders by teacher.
        place: The canvas; None for photographs at their own size, one by one, with the channels
            that the teacher's network takes.

    Raises:
        ValueError: Naming the teacher whose folder is not right.
    """
    return {
        teacher.name: _labelled(teacher, tests[teacher.name], place)
        for teacher in teachers
        if teacher.name in tests
    }


def _labelled(teacher: Teacher, folder: str, place: Placed | None) -> tf.data.Dataset:
    try:
        return data.labelled_from_folder(
            folder,
            canvas=place,
            batch_size=BATCH_SIZE if place else 1,
            class_names=teacher.class_names,
            channels=teacher.model.input_shape[-1],
        )
    except ValueError as error:
        raise ValueError(f"Test images of teacher {teacher.name!r}: {error}") from error
