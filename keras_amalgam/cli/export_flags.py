"""The flags of `keras-amalgam export`, and their check."""

from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import output
from keras_amalgam.cli.canvas_flag import canvas_of, sides_of
from keras_amalgam.cli.class_file import class_lines

FORMATS = ("tflite", "serving", "onnx", "saved_model", "keras")
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16")
# Flags that mean something for some formats only; naming one elsewhere is an error.
ONLY_FOR = {
    "precision": ("tflite",),
    "fallback": ("tflite",),
    "calibration": ("tflite",),
    "batch": ("tflite",),
    "image_dtype": ("tflite",),
    "head_dtype": ("tflite",),
    "joint": ("tflite",),
    "quantizer": ("tflite",),
    "top_k": ("tflite", "serving"),
    "opset": ("onnx",),
    "layout": ("onnx",),
    "version": ("serving",),
    "label": ("serving",),
    "keep": ("serving",),
}
# And of tflite's for some precisions only.
ONLY_FOR_PRECISIONS = {
    "image_dtype": ("int8",),
    "head_dtype": ("int8",),
    "calibration": ("int8", "int16"),
    "quantizer": ("dynamic", "int8", "int16"),
}
LIMITS = {
    "max_error": "Largest allowed difference of a logit from the student's.",
    "min_agreement": "Smallest allowed share of images with the student's class, 0..1.",
    "max_accuracy_loss": "Points of accuracy that a task may lose against the student.",
    "min_accuracy": "Smallest allowed accuracy of a task, 0..1.",
    "max_bytes": "Of the artifact on disk.",
    "max_memory_bytes": "That loading and running one image may add to a process.",
    "max_latency_ms": "Median for one image on one thread.",
}


def define(values: flags.FlagValues) -> None:
    """Define them all but `--out` and `--overwrite`."""
    define_string, define_list = flags.DEFINE_string, flags.DEFINE_list
    flags.DEFINE_multi_string(
        "images",
        [],
        "Folder of images to verify with; or TASK=DIR, once for each task.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "test", [], "TASK=DIR: labelled images, one sub-folder a class.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "classes",
        [],
        "TASK=FILE: a task's classes, one a line; by default those beside the student.",
        flag_values=values,
    )
    define_string("name", None, "The student's name; by default its own.", flag_values=values)
    define_list("precision", ["float32"], f"Of {', '.join(PRECISIONS)}.", flag_values=values)
    define_list(
        "fallback",
        [],
        "Precisions to try in order where the one of --precision misses a threshold.",
        flag_values=values,
    )
    define_string(
        "calibration",
        None,
        "Folder of images for int8, int16; else --images.",
        flag_values=values,
    )
    define_list("size", None, "HEIGHT,WIDTH, where the student takes any.", flag_values=values)
    define_list(
        "canvas",
        None,
        "HEIGHT,WIDTH[,METHOD] of the images that the student was evaluated on; by default as "
        "report.json beside it says, else the student's own size.",
        flag_values=values,
    )
    flags.DEFINE_integer("batch", 1, "Images in a call; 0 for any number.", 0, flag_values=values)
    define_string("image_dtype", None, "uint8, int8 or float32, for int8.", flag_values=values)
    define_string("head_dtype", "float32", "float32, or int8 for int8.", flag_values=values)
    flags.DEFINE_boolean(
        "joint", False, "Also give the logits over all tasks' classes.", flag_values=values
    )
    define_string("quantizer", "converter", "Or litert, its successor.", flag_values=values)
    flags.DEFINE_integer(
        "top_k", None, "Classes that are named for each task.", 0, flag_values=values
    )
    flags.DEFINE_integer("opset", 18, "ONNX operator set.", flag_values=values)
    define_string("layout", "NHWC", "Or NCHW, channels first.", flag_values=values)
    flags.DEFINE_integer("version", None, "By default the next one.", 1, flag_values=values)
    define_string("label", "stable", "Version label that moves here.", flag_values=values)
    flags.DEFINE_integer("keep", None, "Newest versions that stay.", 1, flag_values=values)
    for limit, meaning in LIMITS.items():
        flags.DEFINE_float(limit, None, f"Threshold: {meaning}", flag_values=values)
    for flag, formats in ONLY_FOR.items():
        values[flag].help = f"{values[flag].help} (For {', '.join(formats)}.)"


def check(values: flags.FlagValues, format: str) -> list[str]:
    """Refuse flags that are wrong, or not the format's; returns the folders that are read."""
    foreign = [
        flag for flag, able in ONLY_FOR.items() if format not in able and values[flag].present
    ]
    if foreign:
        raise ValueError(f"export {format} does not take --{', --'.join(foreign)}.")
    for flag in ("precision", "fallback") if values.fallback else ("precision",):
        given = list(values[flag].value or ())
        if set(given) - set(PRECISIONS) or not given:
            raise ValueError(
                f"--{flag} wants one or more of {', '.join(PRECISIONS)}, separated by commas. "
                f"Received: {','.join(given) or 'nothing'}."
            )
    quantized = [precision for precision in values.precision if precision != "float32"]
    if values.fallback and (len(quantized) != 1 or set(values.fallback) & set(values.precision)):
        raise ValueError(
            "--fallback stands for one other --precision than float32, and names new ones. "
            f"Received: --precision {','.join(values.precision)} "
            f"--fallback {','.join(values.fallback)}."
        )
    for flag, able in ONLY_FOR_PRECISIONS.items():
        if values[flag].present and not {*values.precision, *values.fallback} & set(able):
            raise ValueError(
                f"--{flag} is for --precision {' or '.join(able)}. Received: "
                f"{','.join(values.precision)}."
            )
    if not values.images and not values.test:
        raise ValueError("--images=FOLDER is needed: what the artifact is verified with.")
    for flag, folder in _named_folders(values):
        output.check_folder(folder, flag)
    for file in pairs(values, "classes").values():
        class_lines(file)
    size_of(values)
    canvas_of(values)
    if values.name is not None and not _is_word(values.name):
        raise ValueError(
            "--name wants ASCII letters, digits, '_', '-' and '.': files and tensors bear it. "
            f"Received: {values.name}."
        )
    return folders_of(values)


def _is_word(name: str) -> bool:
    from keras_amalgam.tasks.names import TASK_NAME  # Imports Keras.

    return TASK_NAME.fullmatch(name) is not None


def pairs(values: flags.FlagValues, flag: str) -> dict[str, str]:
    """A flag of the form TASK=PATH that can stand several times."""
    found: dict[str, str] = {}
    for entry in values[flag].value or ():
        task, _, path = entry.partition("=")
        if not task or not path or task in found:
            raise ValueError(f"--{flag} wants TASK=PATH, once for each task. Received: {entry}.")
        found[task] = path
    return found


def images_of(values: flags.FlagValues) -> str | dict[str, str] | None:
    """`--images` as one folder, or as task to folder."""
    given = values.images or []
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).is_dir()):
        return given[0]
    return pairs(values, "images") or None


def folders_of(values: flags.FlagValues) -> list[str]:
    """The folders of images that the command reads."""
    return [folder for _, folder in _named_folders(values)]


def _named_folders(values: flags.FlagValues) -> list[tuple[str, str]]:
    """Each with the flag that names it."""
    images, tests = images_of(values), pairs(values, "test")
    named = images.values() if isinstance(images, dict) else [images]
    given = {"images": named, "calibration": [values.calibration], "test": tests.values()}
    return [(flag, path) for flag, paths in given.items() for path in paths if path]


def size_of(values: flags.FlagValues) -> tuple[int, int] | None:
    """`--size` as height and width."""
    if values.size is None:
        return None
    sides = sides_of(values.size)
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(
            f"--size wants HEIGHT,WIDTH or one number. Received: {','.join(values.size)}."
        )
    return sides[0], sides[-1]


def limits_of(values: flags.FlagValues) -> dict[str, Any]:
    """The thresholds as arguments of `export.Thresholds`."""
    return {limit: values[limit].value for limit in LIMITS}
