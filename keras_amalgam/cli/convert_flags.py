"""The flags of `keras-amalgam convert`: which there are, and what their texts mean."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

from keras_amalgam.cli import output
from keras_amalgam.cli.class_file import class_lines

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
INTERPOLATIONS = ["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"]


def define(values: flags.FlagValues) -> None:
    """Define the command's flags, but for those of its folder."""
    _define_teacher(values)
    _define_preprocessing(values)
    _define_reading(values)
    _define_comparison(values)


def _define_teacher(values: flags.FlagValues) -> None:
    flags.DEFINE_string("name", None, "Of the teacher and its task: a word.", flag_values=values)
    flags.DEFINE_string(
        "classes", None, "Text file of one class per line, as the logits.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "tap",
        ["default"],
        "Where features are read: a layer, node, tensor or module by name; 'default' for the one "
        "that inspect marks; 'none' for soft targets only. Several, each with a name that the "
        "student's taps bear as well: --tap mid=layer2 --tap top=layer4.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "outputs",
        "auto",
        ["auto", "logits", "probabilities", "sigmoid"],
        "What the network returns: logits, the probabilities of a softmax, or one sigmoid a class "
        "of which exactly one holds. 'auto' looks, and refuses several independent sigmoids: a "
        "multi-label head, of which several labels can hold at once, cannot teach. A linear head "
        "of numbers, as of a regression, looks like logits: --images shows it by their signs.",
        flag_values=values,
    )
    flags.DEFINE_string("license", None, "Of the file, for the card.", flag_values=values)


def _define_preprocessing(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "size",
        None,
        "Height and width of the network's images: 224 or 224,256. By default as in the file.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "scale", None, "Factor on 0..255 pixels; 1/255 if --mean is given.", flag_values=values
    )
    flags.DEFINE_string(
        "mean", None, "Subtracted after scaling: 1 or 3 numbers, by commas.", flag_values=values
    )
    flags.DEFINE_string(
        "std", None, "Divisor after that: 1 or 3 numbers, by commas.", flag_values=values
    )
    flags.DEFINE_enum(
        "interpolation", "bilinear", INTERPOLATIONS, "Of the resizing.", flag_values=values
    )
    flags.DEFINE_boolean(
        "antialias",
        True,
        "Shrink images as Pillow does. Turn it off with --noantialias for a network whose authors "
        "did without, as keras.layers.Resizing and tf.image.resize do.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "crop_fraction",
        1.0,
        "Side of the central crop over the side resized to; 0.875 is 256 to 224.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "crop_to_aspect_ratio",
        False,
        "Cut images to the shape of --size before resizing, rather than squeeze them.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "channels", None, ["rgb", "bgr", "grey"], "What the network takes.", flag_values=values
    )


def _define_reading(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "input_shape", None, "224,224,3 for an ONNX file that leaves it open.", flag_values=values
    )
    flags.DEFINE_boolean(
        "fold_batch_norm",
        False,
        "Multiply batch norms into the convolutions before them; the card keeps their statistics.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "signature", "serving_default", "The serving function of a SavedModel.", flag_values=values
    )
    flags.DEFINE_string(
        "output",
        None,
        "Of several outputs the classifier's answer, by its name as inspect shows it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "architecture",
        None,
        "For an .h5 file of weights: a class of keras.applications, as MobileNetV2.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "architecture_args", "{}", "Its arguments as JSON: '{\"alpha\": 0.5}'.", flag_values=values
    )
    flags.DEFINE_boolean(
        "runtime", False, "Where it cannot be converted, let it teach as it is.", flag_values=values
    )


def _define_comparison(values: flags.FlagValues) -> None:
    flags.DEFINE_string("images", None, "Folder of images to compare on.", flag_values=values)
    flags.DEFINE_float(
        "tolerance",
        1e-4,
        "Largest error, as a fraction of a tensor's range, or of 1.",
        0.0,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "allow_difference",
        False,
        "Write it though it differs; the card says so.",
        flag_values=values,
    )


def check(values: flags.FlagValues) -> list[str]:
    """Refuse wrong values before anything is read; the files and folders that are named.

    Raises:
        ValueError: Saying which flag, and what it should be.
    """
    from keras_amalgam.tasks.names import check_task_name

    if not values.name:
        raise ValueError("--name is needed: what the teacher knows, such as birds.")
    check_task_name(values.name)
    if not values.classes:
        raise ValueError("--classes=FILE is needed: one class per line, in the logits' order.")
    class_names(values.classes)
    if values.images:
        output.check_folder(values.images, "images")
    for flag in ("size", "input_shape"):
        whole_numbers(values, flag)
    for flag in ("mean", "std"):
        if max(map(abs, numbers(values, flag) or (0.0,))) > 1 and values.scale is None:
            raise ValueError(
                f"--{flag}={values[flag].value} is in 0..255, but pixels are divided by 255 unless "
                "--scale says otherwise. Add --scale=1, or give mean and std in 0..1."
            )
    if values.architecture is None and values.architecture_args != "{}":
        raise ValueError("--architecture_args needs --architecture.")
    architecture_arguments(values)
    return [name for name in (values.classes, values.images) if name]


def check_fits(values: flags.FlagValues, path: Path) -> None:
    """Refuse flags that say nothing about a kind of file, before it is read.

    Raises:
        ValueError: Naming the flag, and what it is for.
    """
    check_signature(values, path)
    if values.architecture is not None and path.suffix.lower() not in KERAS_SUFFIXES:
        raise ValueError(
            f"--architecture is for Keras files of weights, {', '.join(KERAS_SUFFIXES)}. Received: "
            f"{path}, which has an architecture of its own. Leave it out."
        )


def check_signature(values: flags.FlagValues, path: Path) -> None:
    """Refuse `--signature` for a file that has none.

    Raises:
        ValueError: If it is no SavedModel's directory.
    """
    if values["signature"].present and not path.is_dir():
        raise ValueError(
            f"--signature is for the directory of a SavedModel. Received: {path}. Leave it out."
        )


def class_names(path: str) -> list[str]:
    """The classes in a text file, one per line, each once.

    Raises:
        ValueError: If it is not a file of UTF-8 text, or a line is empty or stands twice.
    """
    names = class_lines(path)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        first, second = [number for number, name in enumerate(names, 1) if name == twice[0]][:2]
        raise ValueError(
            f"--classes must name each class once. Received: {path}, where {twice[0]!r} is on "
            f"lines {first} and {second}. Give every logit a name of its own."
        )
    return names


def numbers(values: flags.FlagValues, flag: str) -> tuple[float, ...] | None:
    """One or three numbers of a flag, `None` if it is not given.

    Raises:
        ValueError: If it is anything else.
    """
    text: str | None = values[flag].value
    if text is None:
        return None
    try:
        parsed = tuple(float(part) for part in text.split(","))
    except ValueError:
        parsed = ()
    if len(parsed) not in (1, 3) or not all(map(math.isfinite, parsed)):
        raise ValueError(f"--{flag} must be 1 or 3 numbers with commas between. Received: {text}.")
    return parsed


def whole_numbers(values: flags.FlagValues, flag: str) -> tuple[int, ...] | None:
    """`--size` as `(height, width)` or `--input_shape` as `(height, width, channels)`.

    Raises:
        ValueError: If it is anything else.
    """
    text = values[flag].value
    if text is None:
        return None
    parts = text.split(",")
    wanted = (1, 2) if flag == "size" else (3,)
    if len(parts) not in wanted or not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        example = "224 or 224,256" if flag == "size" else "224,224,3"
        raise ValueError(f"--{flag} must be in pixels, as {example}. Received: {text}.")
    sides = tuple(int(part) for part in parts)
    return sides * 2 if len(sides) == 1 else sides


def architecture_arguments(values: flags.FlagValues) -> dict[str, Any]:
    """`--architecture_args` as keyword arguments.

    Raises:
        ValueError: If it is no JSON object, or asks for weights, which would be downloaded.
    """
    try:
        arguments = json.loads(values.architecture_args)
    except json.JSONDecodeError as error:
        arguments, reason = None, f" ({error})"
    else:
        reason = ""
    if not isinstance(arguments, dict) or "weights" in arguments:
        raise ValueError(
            "--architecture_args must be a JSON object of arguments but weights, which are in the "
            f"file. Received: {values.architecture_args}{reason}."
        )
    return arguments
