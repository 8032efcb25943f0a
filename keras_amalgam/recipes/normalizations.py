"""Whether teachers are shown images normalised as in their training, before a student learns."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from keras_amalgam.teacher import Teacher
from keras_amalgam.teachers.normalization_check import check_normalization


def warnings(teachers: Sequence[Teacher], unlabelled: Mapping[str, tf.data.Dataset]) -> list[str]:
    """A sentence for every teacher whose running statistics another normalisation fits better.

    Args:
        teachers: Those that cannot be looked into are passed over.
        unlabelled: Data sets of single images of their own sizes by the teachers' names, or one
            for all. Only the first images of each are read.
    """
    common = next(iter(unlabelled.values()))
    checks = (
        check_normalization(teacher, unlabelled.get(teacher.name, common).as_numpy_iterator())
        for teacher in teachers
    )
    return [check.warning for check in checks if check.warning]
