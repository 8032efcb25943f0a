"""The everyday recipe: saved teachers, a folder of images, a backbone by name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from keras_amalgam import data
from keras_amalgam.images.folders import Walk, walk
from keras_amalgam.methods import Method, Stage, cosine_adamw
from keras_amalgam.recipes import normalizations, students
from keras_amalgam.recipes.recipe import Recipe, check_evaluated
from keras_amalgam.student import build_student
from keras_amalgam.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, CommonFeatures, SoftTargets
from keras_amalgam.terms.soft_targets import Ownership

NAMED_FOLDERS = 5  # In one line; a tree can have thousands.


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
    flip: bool,
    teacher_bytes: int | None = None,
) -> Recipe:
    """The recipe behind `keras-amalgam amalgamate`; its flags explain the arguments.

    Raises:
        ValueError: If the sources are wanted and the images' folder has no sub-folder for a
            teacher, or something does not fit.
    """
    names = [teacher.name for teacher in teachers]
    check_choices(names, images, tests, student, ownership)
    known = _has_collections(images, names)
    believed: Ownership = ownership or ("source" if known else "per_task")
    unlabelled = _unlabelled(images, names if known else [], image_shape[-1])
    counts = {name: int(dataset.cardinality()) for name, dataset in unlabelled.items()}
    _check_batch_size(batch_size, counts, images)
    found = walk(images)
    left_out = _left_out(found, names) if known else Counter()
    with_space = common_features > 0 and all(teacher.tap for teacher in teachers)

    def terms() -> list[AmalgamationTerm]:
        soft = SoftTargets(ownership=believed, temperature=temperature)
        space = [CommonFeatures(units=64, weight=common_features)] if with_space else []
        return [soft, *space]

    def stream(augmentation: data.Augmentation | None) -> tf.data.Dataset:
        return data.stream(
            unlabelled if known else unlabelled["images"],
            batch_size=batch_size,
            canvas=image_shape,
            augmentation=augmentation,
        )

    return Recipe(
        name=" and ".join(names),
        teachers=teachers,
        student=lambda: build_student(students.backbone(student, image_shape), teachers),
        # The backbone as a whole, whose output is its last map: Keras numbers the layers inside
        # anew in every student, but the backbone's name stays.
        student_tap=students.backbone(student, image_shape).name,
        streams={
            "train": stream(data.Augmentation(translation=image_shape[0] // 16, flip=flip)),
            "calibration": stream(None),
        },
        evaluation={
            teacher.name: _labelled(teacher, tests[teacher.name], image_shape)
            for teacher in teachers
            if teacher.name in tests
        },
        methods=[Method("amalgamation", (Stage(terms, epochs, cosine_adamw(learning_rate)),))],
        settings={
            "student": student,
            "epochs": epochs,
            "batch": batch_size,
            "mirrored images": flip,
            "images' sources": "known" if known else "unknown",
            **{f"images of {name}" if known else name: n for name, n in counts.items()},
            "images left out": left_out.total(),
        },
        notes=[*_notes(left_out, found), *normalizations.warnings(teachers, unlabelled)],
        teacher_bytes=teacher_bytes,
    )


def check_choices(
    names: Sequence[str],
    images: Path,
    tests: Mapping[str, str],
    student: str,
    ownership: Ownership | None,
) -> None:
    """Refuse choices that do not fit the teachers, before any image is read.

    Args:
        names: The teachers'.
        images: As in `recipe`, like the others.
        tests: Folders by teacher.
        student: A backbone's name.
        ownership: As in `SoftTargets`.

    Raises:
        ValueError: Naming the choice.
    """
    students.check_name(student)
    check_evaluated(" and ".join(names), names, tests)
    if ownership == "source" and not _has_collections(images, names):
        raise ValueError(
            f"--ownership=source needs one sub-folder of {images} per teacher. Expected: "
            f"{list(names)}. Sort the images by collection, or use --ownership=per_task."
        )


def _has_collections(images: Path, names: Sequence[str]) -> bool:
    return all((images / name).is_dir() for name in names)


def _unlabelled(
    images: Path, collections: Sequence[str], channels: int
) -> dict[str, tf.data.Dataset]:
    """The images by collection, or all of them as `"images"`."""
    folders = {name: images / name for name in collections} or {"images": images}
    return {name: data.from_folder(path, channels=channels) for name, path in folders.items()}


def _check_batch_size(batch_size: int, counts: Mapping[str, int], images: Path) -> None:
    total = sum(counts.values())
    if batch_size > total:
        raise ValueError(
            f"A batch must not be larger than the number of images. Received: {total} images "
            f"below {images}, --batch_size={batch_size}. Lower --batch_size to {total} or less, or "
            "give more images."
        )


def _left_out(found: Walk, collections: Sequence[str]) -> Counter[str]:
    """Number of image files in no collection, by the top folder that they lie in."""
    parts = [file.relative_to(found.folder).parts for file in found.files]
    folders = [inside[0] if len(inside) > 1 else "" for inside in parts]
    return Counter(folder for folder in sorted(folders) if folder not in collections)


def _notes(left_out: Counter[str], found: Walk) -> list[str]:
    notes = [_left_out_note(left_out, found.folder)] if left_out else []
    return [*notes, found.note()] if found.note() else notes


def _left_out_note(left_out: Counter[str], images: Path) -> str:
    where = [f"{images / folder} ({count})" for folder, count in left_out.items()]
    more = len(where) - NAMED_FOLDERS
    named = ", ".join(where[:NAMED_FOLDERS]) + (f" and {more} more folders" if more > 0 else "")
    return f"Images left out, as in no teacher's sub-folder: {left_out.total()}, in {named}."


def _labelled(teacher: Teacher, folder: str, image_shape: tuple[int, int, int]) -> tf.data.Dataset:
    try:
        return data.labelled_from_folder(
            folder, canvas=image_shape, class_names=teacher.class_names
        )
    except ValueError as error:
        raise ValueError(f"Test images of teacher {teacher.name!r}: {error}") from error
