"""The everyday recipe: saved teachers, a folder of images, a backbone by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_amalgam import data
from keras_amalgam.choices import CHOOSE, USED_BY
from keras_amalgam.data.memory import Footprint, free_memory
from keras_amalgam.experiments import arguments, canvas_choice, students, training_methods
from keras_amalgam.experiments.canvas_choice import Choice
from keras_amalgam.experiments.own_images import OwnImages, has_collections
from keras_amalgam.experiments.recipe import Recipe, check_evaluated
from keras_amalgam.experiments.shortening import cut_short
from keras_amalgam.experiments.training_methods import Course
from keras_amalgam.models.taps import FEATURES
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.report import formats
from keras_amalgam.terms.soft_targets import Ownership
from keras_amalgam.training.stages import rehearse
from keras_amalgam.training.state import latest


def recipe(
    teachers: Sequence[Teacher],
    images: Path,
    tests: Mapping[str, str],
    *,
    student: str,
    size: tuple[int, int] | None,
    channels: int,
    epochs: int | None,
    batch_size: int,
    learning_rate: float | None,
    temperature: float | None,
    common_features: float | None,
    ownership: Ownership | None,
    flip: bool,
    weights: str | None = None,
    canvas: Choice | None = None,
    teacher_bytes: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    dtype_policy: str = "float32",
    workers: int | None = None,
    read_once: bool | None = None,
    method: str = "amalgamation",
    say: Callable[[str], None] = print,
) -> Recipe:
    """The recipe behind `keras-amalgam amalgamate`; its flags explain the arguments.

    Args:
        teachers: The teachers, in the order of their sources.
        images: Folder of photographs.
        tests: Folders of labelled photographs by teacher.
        student: A name, file or folder that the student starts from; see `students.start`.
        size: `(height, width)` of the student's own images, in pixels; `None` for its default.
        channels: Number of channels of every image, 1 (grey) or 3 (RGB).
        epochs: Passes over the images, at least 1; `None` for 30, or for what `steps` make.
        batch_size: Images per step, at least 2.
        learning_rate: Peak of the schedule, finite and at least 0; `None` for 1e-3, or 1e-4 with
            `"paper"`.
        temperature: Temperature of the soft targets, at least 0.01; `None` for 2.
        common_features: Weight of the common space, at least 0, which leaves it out; `None` for
            0.1.
        ownership: The `ownership` of `SoftTargets`; None for what the folders allow.
        flip: Whether images are mirrored at random.
        weights: Where the student's weights come from; see `students.start`.
        canvas: `(height, width)` or `(height, width, method)` of the canvas; by default the one of
            `data.canvas_for`.
        teacher_bytes: Size of the teachers' files together.
        seed: Of the student's and the terms' initial weights, of order and augmentation.
        steps: Number of training steps, in place of `epochs`; the last epoch may be cut short.
        dtype_policy: The student's: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        workers: Threads that read images; `None` for one per core.
        read_once: Whether decoded images are kept in memory, as `begun_with` says of a run that was
            begun; `None` for what the memory that is free allows.
        method: How the student is trained: `"amalgamation"`, soft targets and the common space;
            `"matching"`, `"standardized"`, `"reused_heads"` or `"paper"`, see `training.methods`;
            or `"choose"`, the one of several whose student agrees best with the teachers after a
            short run, on images that are kept aside for that.
        say: Where what is read, and what it takes, is said before it is read.

    Raises:
        ValueError: If an argument is out of its bounds or the method has no use for it, the method
            cannot serve the teachers, the sources are wanted and the images' folder has no
            sub-folder for a teacher, the canvas is not right for a teacher, or something does not
            fit.
    """
    arguments.check_choices(
        {
            "student": student,
            "weights": weights,
            "size": size,
            "channels": channels,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "temperature": temperature,
            "common_features": common_features,
            "ownership": ownership,
            "flip": flip,
            "canvas": canvas,
            "seed": seed,
            "steps": steps,
            "dtype_policy": dtype_policy,
            "workers": workers,
            "read_once": read_once,
            "method": method,
        }
    )
    names = [teacher.name for teacher in teachers]
    check_choices(names, images, tests, ownership)
    begin = students.start(student, weights, size, channels, dtype_policy)
    own = OwnImages.below(images, names, channels)
    own.check_batch_size(batch_size)
    weight = training_methods.COMMON_FEATURES if common_features is None else common_features
    tap = _shared_tap(teachers, method, weight)
    place, notes = canvas_choice.choose(canvas, teachers, (*begin.size, channels), own.folders)
    cuts = place[-1] == "crop"
    # The backbone as a whole, whose output is its last map: Keras numbers the layers inside anew
    # in every student, but the backbone's name stays.
    student_tap = {tap or FEATURES: begin.make().name}

    def make_student() -> keras.Model:
        return begin.student(teachers, cuts)

    course = Course(
        teachers,
        reusing=lambda: begin.student(teachers, cuts, heads="reused"),
        tap=tap if weight > 0 else None,
        common_features=weight,
        ownership=ownership or ("source" if own.collections else "per_task"),
        temperature=training_methods.TEMPERATURE if temperature is None else temperature,
        learning_rate=learning_rate,
        epochs=epochs or training_methods.EPOCHS,
        seed=seed,
        fits=lambda method: rehearse(method, teachers, make_student, student_tap),
    )
    made, left_out_methods = course.methods(method)
    aside = own.kept_aside() if method == CHOOSE else {}
    footprint = Footprint(own.total, place[:3], free=free_memory())
    kept = footprint.fits if read_once is None else read_once
    say(footprint.sentence if read_once is None else footprint.sentence_of_run(kept))
    shifted = data.Augmentation(translation=min(place[:2]) // 16, flip=flip)
    views = training_methods.augmented(method, shifted)
    has_space = method in USED_BY["common_features"][0]
    made_recipe = Recipe(
        name=" and ".join(names),
        teachers=teachers,
        student=make_student,
        student_tap=student_tap,
        streams=own.streams(place, views, batch_size, kept, seed, workers, aside),
        evaluation=canvas_choice.labelled(teachers, tests, place),
        photographs=canvas_choice.labelled(teachers, tests, None),
        methods=made if len(made) == 1 else [],
        candidates=made if len(made) > 1 else [],
        made_from={
            **own.about(),
            **{"batch_size": batch_size, "canvas": place, "flip": flip, "seed": seed},
            "read_once": kept,
            **({"kept_aside": aside} if aside else {}),
            **({"views": method} if method == "matching" else {}),
        },
        settings={
            "student": student,
            "student's weights": begin.weights,
            "student's size": list(begin.size),
            "canvas": [*place[:2], place[-1]],
            "epochs": course.epochs,
            "batch": batch_size,
            "mirrored images": flip,
            "seed": seed,
            "precision": dtype_policy,
            **({"weight of the common space": course.weight} if has_space else {}),
            **_settings_of(own, aside),
        },
        notes=[
            *own.notes(),
            *notes,
            *left_out_methods,
            *filter(None, [begin.note(own.total)]),
            *([_without_space_note(teachers)] if has_space and weight > 0 and not tap else []),
        ],
        teacher_bytes=teacher_bytes,
    )
    return made_recipe if steps is None else cut_short(made_recipe, steps)


def _settings_of(own: OwnImages, aside: Mapping[str, int]) -> dict[str, Any]:
    """What the report says of the images."""
    return {
        "images' sources": "known" if own.collections else "unknown",
        **{
            f"images of {name}" if own.collections else name: number
            for name, number in own.counts.items()
        },
        "images left out": own.left_out.total(),
        **({"images kept aside": sum(aside.values())} if aside else {}),
    }


def _shared_tap(teachers: Sequence[Teacher], method: str, weight: float) -> str | None:
    """The last tap name that all teachers have, which the end of the student's backbone gets.

    `None` if there is none, which is refused if the method needs one.
    """
    first, *others = [teacher.taps for teacher in teachers]
    shared = [name for name in first if all(name in taps for taps in others)]
    if shared:
        return shared[-1]
    needed = method in ("standardized", "paper") or (method == "amalgamation" and weight > 0)
    if needed and all(teacher.taps for teacher in teachers):
        instead = "leave the common space out with `common_features=0`"
        if method != "amalgamation":
            instead = "choose another `method`, such as 'matching' or 'reused_heads'"
        raise ValueError(
            "The teachers' features are compared where their taps have one name. Received: "
            f"{ ({teacher.name: list(teacher.taps) for teacher in teachers}) }. Convert them with "
            f"taps of one name, or {instead}."
        )
    return None


def begun_with(run: Path) -> bool | None:
    """Whether the images of a run that was begun are kept in memory, which their order depends on.

    Args:
        run: Its folder; it need not exist.

    Returns:
        The `read_once` of its recipe; `None` if nothing was trained there.
    """
    for states in run.glob("training/*/states"):
        found = latest(states)
        if found is not None:
            return found[0].made_from.get("images", {}).get("read_once")
    return None


def check_choices(
    names: Sequence[str],
    images: Path,
    tests: Mapping[str, str],
    ownership: Ownership | None,
) -> None:
    """Refuse choices that do not fit the teachers, before any image is read.

    Args:
        names: The teachers'.
        images: As in `recipe`, like the others.
        tests: Folders by teacher.
        ownership: As in `SoftTargets`.

    Raises:
        ValueError: Naming the choice.
    """
    check_evaluated(" and ".join(names), names, tests)
    if ownership == "source" and not has_collections(images, names):
        raise ValueError(
            f"`ownership='source'` needs one sub-folder of {images} per teacher. Expected: "
            f"{list(names)}. Sort the images by collection, or use `ownership='per_task'`."
        )


def _without_space_note(teachers: Sequence[Teacher]) -> str:
    tapless = [teacher.name for teacher in teachers if not teacher.taps]
    reason = f"{formats.words(tapless)} named no layer at which features are read"
    return (
        "The common space is left out, and the student learns from the teachers' answers alone: "
        f"{reason if tapless else 'no tap of all teachers has one name'}."
    )
