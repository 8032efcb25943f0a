"""Amalgamate teachers of your own into one student, on a folder of unlabelled images.

    keras-amalgam amalgamate --teacher cars/ --teacher birds/ --images photos/ --out runs/mine

A teacher is a folder written by Teacher.save: card.json and model.keras, or the original file of a
network that runs in its own runtime. The images are all JPEG, PNG, BMP, GIF, WEBP, TIFF and AVIF
files below a folder (.jpg, .jpeg, .png, .bmp, .gif, .webp, .tif, .tiff, .avif), and others that
Pillow reads; they need no labels. What is passed over is said. If photos/ has one sub-folder per
teacher, named like it (photos/cars, photos/birds), the student is told which collection an image
came from (--ownership source), which helps: it is provenance, not a label. Images elsewhere below
photos/ are then left out, which is said.

Every teacher sees what its authors showed it. Photographs are brought to one canvas, no smaller
than the largest size that a teacher resizes to, from which teachers and student take their own
sizes; --size is the student's alone. The canvas squeezes photographs where every teacher does, and
cuts their sides off where every teacher does. Where teachers differ, photographs of different
shapes are refused until --canvas says what is to be done with them.

The student starts from new weights (--student MobileNetV3Small), from ImageNet's (with --weights
imagenet), or from a network that is there: --student with the folder of a teacher or a .keras file.
Each gets its images as its weights were trained on them.

With --test cars=DIR --test birds=DIR, each DIR having one sub-folder per class, named as the
teacher names its classes, the report says how accurate teachers and student are: the teachers on
the photographs at their own size, and on the canvas where that differs. Test images of some
teachers only are welcome; the joint accuracy, the task unknown, needs those of all.

--method says how the student learns: 'amalgamation', from the teachers' answers and, in a space
common to all, their features; 'matching', from answers alone, on mixed and zoomed images;
'standardized', from answers and standardised features; 'reused_heads', from features alone, which
the teachers' own heads answer from; 'paper', with the terms and the schedule as first published.
No method wins everywhere, and 'choose' finds out without labels which one does here.

The folder --out is the run: training writes its state there every epoch and every few minutes, and
each step leaves its result. The same command again goes on where it stopped, after Ctrl-C, a kill
or a power cut, too, and does again only what something has changed for; --restart begins anew.
"""

import time
from pathlib import Path

from absl import flags

from keras_amalgam.choices import (
    DTYPE_POLICIES,
    LEAST_SIDE,
    NUMBERS,
    OWNERSHIPS,
    TRAINING_METHODS,
)
from keras_amalgam.cli import output, run_flags
from keras_amalgam.cli.advice import AMALGAMATE, RUN, in_flags
from keras_amalgam.cli.canvas_flag import METHODS, canvas_of, sides_of

# Flags that are arguments of the recipe, under the same names.
_CHOICES = (
    "student",
    "weights",
    "epochs",
    "batch_size",
    "learning_rate",
    "temperature",
    "common_features",
    "ownership",
    "flip",
    "method",
    "seed",
    "dtype_policy",
    "workers",
)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    _define_inputs(values)
    _define_student(values)
    _define_training(values)
    run_flags.define_flags(values, default=None)


def _define_inputs(values: flags.FlagValues) -> None:
    """What is merged, and on which images."""
    flags.DEFINE_multi_string(
        "teacher", [], "Folder of a teacher; once for each.", flag_values=values
    )
    flags.DEFINE_string("images", None, "Folder of unlabelled images.", flag_values=values)
    flags.DEFINE_multi_string(
        "test", [], "TEACHER=DIR: labelled test images of a teacher.", flag_values=values
    )
    flags.DEFINE_list(
        "canvas",
        None,
        "HEIGHT,WIDTH or HEIGHT,WIDTH,METHOD that all photographs are brought to, METHOD being "
        f"one of {', '.join(METHODS)}. By default the smallest that shows every teacher "
        "what its authors did.",
        flag_values=values,
    )
    flags.DEFINE_integer("channels", 3, "Of the images: 1 grey, 3 RGB.", 1, 3, flag_values=values)
    flags.DEFINE_boolean(
        "flip",
        True,
        "Mirror half of the images left to right, at random. Turn it off with --noflip where "
        "mirrored images mean something else or nothing: text, digits, signs.",
        flag_values=values,
    )


def _define_student(values: flags.FlagValues) -> None:
    """What the student starts from."""
    flags.DEFINE_string(
        "student",
        "compact",
        "What the student starts from: 'compact', a class of keras.applications, a .keras file, or "
        "the folder of a teacher.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weights",
        None,
        "The student's: 'imagenet', which Keras downloads, a file of weights without the top, or "
        "'none' for new ones. By default those of its file or folder, and new ones for a name.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "size",
        None,
        "HEIGHT,WIDTH of the student's images, or one number for both, pixels. By default 96, or "
        "what the student's file takes.",
        flag_values=values,
    )


def _define_training(values: flags.FlagValues) -> None:
    """How it is trained."""
    flags.DEFINE_enum(
        "method",
        "amalgamation",
        TRAINING_METHODS,
        "How the student is trained. 'choose' tries several, each on a fifth of the epochs, and "
        "takes the one whose student agrees best with the teachers on a tenth of the images, at "
        "most 1,000, which are kept aside for that.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "ownership",
        None,
        OWNERSHIPS,
        "Which teacher is believed on an image; not for reused_heads and paper. By default "
        "'source' if the images' folder has one sub-folder per teacher, else 'per_task'. With "
        "'source' the method 'amalgamation' asks every teacher about every image besides.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "temperature",
        None,
        "Temperature of the soft targets, 2 by default; not for reused_heads and paper.",
        *NUMBERS["temperature"].ends,
        flag_values=values,
    )
    flags.DEFINE_float(
        "common_features",
        None,
        "Weight of the common space, 0.1 by default; 0 leaves it out. For the methods amalgamation "
        "and choose.",
        *NUMBERS["common_features"].ends,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "epochs",
        None,
        "Passes over the images, 30 by default.",
        *NUMBERS["epochs"].ends,
        flag_values=values,
    )
    flags.DEFINE_float(
        "learning_rate",
        None,
        "Peak of the schedule. By default 1e-3, and 1e-4 with --method=paper.",
        *NUMBERS["learning_rate"].ends,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size", 64, "Images per step.", *NUMBERS["batch_size"].ends, flag_values=values
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Seed of the initial weights, order and augmentation.",
        *NUMBERS["seed"].ends,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dtype_policy",
        "float32",
        DTYPE_POLICIES,
        "Precision that the student computes in; its weights are float32 in any case.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "workers",
        None,
        "Threads that read images; by default one per core.",
        *NUMBERS["workers"].ends,
        flag_values=values,
    )


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    output.check_no_arguments(positional)
    if not values.teacher:
        raise ValueError("At least one --teacher=FOLDER is needed.")
    if not values.images:
        raise ValueError("--images=FOLDER is needed: what the student learns from.")
    for teacher in values.teacher:
        output.check_folder(teacher, "teacher")
    output.check_folder(values.images, "images")
    for test in values.test:
        name, _, folder = test.partition("=")
        if not name or not folder:
            raise ValueError(f"--test wants TEACHER=DIR. Received: {test}.")
        output.check_folder(folder, "test")
    if values.channels == 2:
        raise ValueError("--channels must be 1 or 3. Received: 2.")
    if len(_tests(values)) < len(values.test):
        raise ValueError(f"--test wants one folder per teacher. Received: {values.test}.")
    student_size(values)
    canvas_of(values)
    run_flags.check(values)
    start = [path for path in (values.student, values.weights) if path and Path(path).exists()]
    inputs = [*values.teacher, values.images, *_tests(values).values(), *start]
    output.check_apart(values, inputs)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    started = time.perf_counter()
    from keras_amalgam.experiments import own_teachers, students
    from keras_amalgam.experiments.amalgamate import recipe_of
    from keras_amalgam.models.student import check_names
    from keras_amalgam.models.teacher_files import network_bytes
    from keras_amalgam.teachers import load

    teachers = [load(folder) for folder in values.teacher]
    names = [teacher.name for teacher in teachers]
    try:
        check_names(teachers)
        own_teachers.check_choices(names, Path(values.images), _tests(values), values.ownership)
        students.check(values.student, values.weights, values.dtype_policy)
    except ValueError as error:
        raise flags.IllegalFlagValueError(in_flags(str(error), AMALGAMATE)) from error
    try:
        made = recipe_of(
            teachers, values.images, _tests(values), print,
            {
                "size": student_size(values),
                "channels": values.channels,
                "canvas": canvas_of(values),
                "teacher_bytes": sum(network_bytes(folder) for folder in values.teacher),
                **{name: values[name].value for name in _CHOICES},
            },
            begun=None if values.restart else Path(values.out),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(in_flags(str(error), AMALGAMATE + RUN)) from error
    run_flags.run(made, values, "amalgamate", positional, started)


def _tests(values: flags.FlagValues) -> dict[str, str]:
    return dict(test.split("=", 1) for test in values.test)


def student_size(values: flags.FlagValues) -> tuple[int, int] | None:
    """`--size` as height and width, `None` where it is left out."""
    if values.size is None:
        return None
    sides = sides_of(values.size)
    if len(sides) not in (1, 2) or min(sides) < LEAST_SIDE:
        raise ValueError(
            f"--size wants HEIGHT,WIDTH or one number, each at least {LEAST_SIDE}. Received: "
            f"{','.join(values.size)}."
        )
    return sides[0], sides[-1]
