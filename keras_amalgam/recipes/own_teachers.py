"""The everyday recipe: saved teachers, a folder of images, a backbone by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from keras_amalgam import data
from keras_amalgam.methods import Method, Stage, cosine_adamw
from keras_amalgam.recipes import students
from keras_amalgam.recipes.recipe import Recipe
from keras_amalgam.student import build_student
from keras_amalgam.taps import candidates
from keras_amalgam.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, CommonFeatures, SoftTargets
from keras_amalgam.terms.soft_targets import Ownership


def recipe(
    teachers: Sequence[Teacher],
    images: Path,
    tests: Mapping[str, str],
    *,
    student: str,
    image_shape: tuple[int, int, int],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    temperature: float,
    common_features: float,
    ownership: Ownership | None,
) -> Recipe:
    """The recipe behind `keras-amalgam amalgamate`; its flags explain the arguments.

    Raises:
        ValueError: If the sources are wanted and the images' folder has no sub-folder for a
            teacher, or something does not fit.
    """
    names = [teacher.name for teacher in teachers]
    known = all((images / name).is_dir() for name in names)
    if ownership == "source" and not known:
        raise ValueError(
            f"--ownership=source needs one sub-folder of {images} per teacher. Expected: {names}. "
            "Sort the images by collection, or use --ownership=per_task."
        )
    believed: Ownership = ownership or ("source" if known else "per_task")
    channels = image_shape[-1]
    unlabelled: Mapping[str, tf.data.Dataset] | tf.data.Dataset = (
        {name: data.from_folder(images / name, channels=channels) for name in names}
        if known
        else data.from_folder(images, channels=channels)
    )
    backbone = students.backbone(student, image_shape)
    with_space = common_features > 0 and all(teacher.tap for teacher in teachers)

    def terms() -> list[AmalgamationTerm]:
        soft = SoftTargets(ownership=believed, temperature=temperature)
        space = [CommonFeatures(units=64, weight=common_features)] if with_space else []
        return [soft, *space]

    def stream(augmentation: data.Augmentation | None) -> tf.data.Dataset:
        return data.stream(
            unlabelled, batch_size=batch_size, canvas=image_shape, augmentation=augmentation
        )

    return Recipe(
        name=" and ".join(names),
        teachers=teachers,
        student=lambda: build_student(students.backbone(student, image_shape), teachers),
        student_tap=_last_map(backbone),
        streams={
            "train": stream(data.Augmentation(translation=image_shape[0] // 16, flip=True)),
            "calibration": stream(None),
        },
        evaluation={
            name: data.labelled_from_folder(folder, canvas=image_shape)
            for name, folder in tests.items()
        },
        methods=[Method("amalgamation", (Stage(terms, epochs, cosine_adamw(learning_rate)),))],
        settings={
            "student": student,
            "epochs": epochs,
            "batch": batch_size,
            "images' sources": "known" if known else "unknown",
        },
    )


def _last_map(backbone) -> str:
    """The path of the backbone's last map inside the student."""
    maps = [path for path, shape in candidates(backbone).items() if len(shape) == 4]
    if not maps:
        raise ValueError(f"The backbone {backbone.name!r} has no map to tap.")
    return f"{backbone.name}/{maps[-1]}"
