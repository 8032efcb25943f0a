"""The steps of `keras-amalgam convert`, from a file to a compared teacher."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from absl import flags

from keras_amalgam import teachers
from keras_amalgam.cli import convert_flags
from keras_amalgam.cli.advice import in_flags
from keras_amalgam.cli.screen import shape
from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.images.files import list_images
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.models.heads import num_logits
from keras_amalgam.models.plausibility import TeacherWarning
from keras_amalgam.models.runtime_teacher import RuntimeTeacher
from keras_amalgam.models.taps import FEATURES
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.teachers.inspection.keras_inspection import model_taps
from keras_amalgam.teachers.inspection.report import TapCandidate
from keras_amalgam.teachers.keras_files.keras_applications import builder_of
from keras_amalgam.teachers.saved_models.file import read_saved_model

# So many of the images in --images are compared.
MAX_IMAGES = 32
_NAMED_TAP = re.compile(r"([A-Za-z]\w*)=(.+)")


def read(values: flags.FlagValues, path: Path) -> Teacher:
    """The teacher that the command line asks for, not yet compared.

    Raises:
        flags.Error: If the command line does not fit the file.
        NotImplementedError: If it cannot be converted and `--runtime` is not given.
        ValueError: If the file is damaged, or the parts do not fit each other.
    """
    try:
        model = _converted(values, path)
    except NotImplementedError as error:
        if not values.runtime:
            raise NotImplementedError(
                f"{error} With --runtime it teaches as it is, outside of the training step."
            ) from error
        print(f"It cannot be converted: {in_flags(str(error))}")
        return _runtime_teacher(values, path)
    _check_outputs(values, path, model)
    if model.provenance is not None:
        model.provenance = replace(model.provenance, license=values.license)
    classes = convert_flags.class_names(values.classes)
    _check_number(values, len(classes), model.output_shape)
    return Teacher(
        model,
        values.name,
        classes,
        taps=_taps(values, path, model),
        outputs=values.outputs,
        preprocessing=_preprocessing(values, model, built_in_normalisation(model)),
    )


def compared(
    values: flags.FlagValues, path: Path, teacher: Teacher
) -> tuple[Teacher, dict[str, Any]]:
    """The teacher with the comparison in its provenance, and the whole report.

    Raises:
        ValueError: If they differ and `--allow_difference` is not given.
    """
    source: Any = path
    if values.architecture:
        source = _filled(values, path)
    elif path.is_dir() and teacher.in_graph:
        source = read_saved_model(path, values.signature)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherWarning)  # The report has them, to be printed.
        report = teachers.check_teacher(
            teacher,
            source,
            images=_images(values.images) if values.images else None,
            tolerance=values.tolerance,
            allow_difference=values.allow_difference,
        )
    if teacher.provenance is not None:
        short = {key: report[key] for key in ("tolerance", "passed", "input", "outputs")}
        short |= {"tap": report["taps"], "images": len(report["images"])}
        teacher.provenance = replace(teacher.provenance, parity=short)
    return teacher, report


def _converted(values: flags.FlagValues, path: Path) -> Any:
    """The network as a Keras model; it is compared later, from images on."""
    suffix = path.suffix.lower()
    fold, given = values.fold_batch_norm, convert_flags.whole_numbers(values, "input_shape")
    if given is not None and suffix != ".onnx":
        raise flags.IllegalFlagValueError("--input_shape is for .onnx files.")
    if path.is_dir():
        return teachers.from_saved_model(
            path,
            signature=values.signature,
            output=values.output,
            fold_batch_norm=fold,
            verify=False,
        )
    if suffix == ".onnx":
        return teachers.from_onnx(
            path, input_shape=given, output=values.output, fold_batch_norm=fold, verify=False
        )
    if suffix == ".tflite":
        raise NotImplementedError("A .tflite file is not converted into Keras.")
    if fold:
        raise flags.IllegalFlagValueError(
            "--fold_batch_norm is for .onnx files and SavedModels. A Keras model stays as it is."
        )
    if suffix not in convert_flags.KERAS_SUFFIXES:
        raise flags.IllegalFlagValueError(
            f"FILE must be .onnx, .keras, .h5 or the directory of a SavedModel. Received: {path}."
        )
    if values.architecture:
        return _filled(values, path)
    return teachers.from_keras(path, output=values.output, verify=False)


def _architecture(values: flags.FlagValues) -> keras.Model:
    try:
        build = builder_of(values.architecture)
    except ValueError as error:
        raise flags.IllegalFlagValueError(str(error)) from error
    arguments = convert_flags.architecture_arguments(values)
    arguments.setdefault("classes", len(convert_flags.class_names(values.classes)))
    if arguments.get("input_shape"):
        arguments["input_shape"] = tuple(arguments["input_shape"])
    try:
        return build(weights=None, **arguments)
    except (TypeError, ValueError) as error:
        raise flags.IllegalFlagValueError(
            f"keras.applications.{values.architecture} does not take {arguments}: {error}"
        ) from error


def _filled(values: flags.FlagValues, path: Path) -> keras.Model:
    """The network of `--architecture` with the file's weights."""
    return teachers.from_keras(
        path, architecture=_architecture(values), output=values.output, verify=False
    )


def _check_outputs(values: flags.FlagValues, path: Path, model: keras.Model) -> None:
    if len(model.outputs) == 1:
        return
    found = teachers.inspect(path, signature=values.signature).outputs
    names = ", ".join(f"{tensor.name} {shape(tensor.shape)}" for tensor in found)
    raise flags.IllegalFlagValueError(
        f"--output is needed: {path.name} has {len(model.outputs)} outputs, and a teacher one. "
        f"Received: {names or list(model.output)}. Say --output=NAME, the one that holds the "
        "logits."
    )


def _check_number(values: flags.FlagValues, number: int, output: Sequence[int | None]) -> None:
    logits = num_logits(output)
    if logits not in (None, 1, number):  # What to do about a single one, the teacher says.
        raise flags.IllegalFlagValueError(
            f"--classes must have a line for each of the network's {logits} logits. Received: "
            f"{values.classes} with {number} lines."
        )


def _preprocessing(
    values: flags.FlagValues, model: keras.Model | None, built_in: BuiltIn | SeveralWays | None
) -> Preprocessing:
    """What the flags say; what they leave out from the architecture or the model itself."""
    mean, std = (convert_flags.numbers(values, flag) for flag in ("mean", "std"))
    size = convert_flags.whole_numbers(values, "size")
    fixed = tuple(model.input_shape[1:3]) if model is not None else (None, None)
    if size is None and None in fixed and model is not None:
        raise flags.IllegalFlagValueError(
            f"--size is needed: the network takes images of any size, {shape(model.input_shape)}. "
            "Give the one it was trained with."
        )
    others: dict[str, Any] = {
        "size": size or (None if None in fixed else fixed),
        "interpolation": values.interpolation,
        "antialias": values.antialias,
        "crop_fraction": values.crop_fraction,
        "crop_to_aspect_ratio": values.crop_to_aspect_ratio,
    }
    if values.channels:
        others["channels"] = values.channels
    if mean is None and std is None and values.scale is None:
        return replace(_normalisation(values, built_in), **others)
    return Preprocessing(
        scale=1 / 255 if values.scale is None else values.scale,
        mean=_one_or_more(mean or (0.0,)),
        std=_one_or_more(std or (1.0,)),
        **others,
    )


def _normalisation(
    values: flags.FlagValues, built_in: BuiltIn | SeveralWays | None
) -> Preprocessing:
    if values.architecture:
        arguments = convert_flags.architecture_arguments(values)
        inside = arguments.get("include_preprocessing", True)
        said = teachers.preprocessing_of(values.architecture, include_preprocessing=inside)
        print(f"Normalised as keras.applications does: scale {said.scale:.4g}, mean {said.mean}")
        return said
    implied = built_in.preprocessing() if built_in else None
    if implied is not None and built_in is not None:
        print(f"Normalised inside the network by {built_in}, which takes {built_in.expects}.")
        return implied
    inside = f" What it does itself, {built_in}, does not tell." if built_in else ""
    raise flags.IllegalFlagValueError(
        "It must be said how images were normalised in the network's training: --mean and --std in "
        "0..1, as --mean=0.485,0.456,0.406 --std=0.229,0.224,0.225, or --scale. Say --scale=1 for "
        f"a network that takes 0..255.{inside}"
    )


def _one_or_more(given: tuple[float, ...]) -> float | tuple[float, ...]:
    return given[0] if len(given) == 1 else given


def _taps(values: flags.FlagValues, path: Path, model: keras.Model | None) -> dict[str, str]:
    """The layers to tap, by tap name."""
    if values.tap == ["none"]:
        return {}
    if values.tap == ["default"]:
        found = _default_tap(values, path, model)
        return {FEATURES: found} if found else {}
    if len(values.tap) == 1 and not _NAMED_TAP.fullmatch(values.tap[0]):
        return {FEATURES: values.tap[0]}
    named = [_NAMED_TAP.fullmatch(one) for one in values.tap]
    taps = {one[1]: one[2] for one in named if one}
    if len(taps) < len(values.tap):
        raise flags.Error(
            "--tap: several taps need a name each, all different. Received: "
            f"{' '.join(values.tap)}. Write --tap mid=layer2 --tap top=layer4."
        )
    return taps


def _default_tap(values: flags.FlagValues, path: Path, model: keras.Model | None) -> str | None:
    found: TapCandidate | None
    if model is not None and path.suffix.lower() in convert_flags.KERAS_SUFFIXES:
        found = next((tap for tap in model_taps(model) if tap.is_default), None)
    else:
        found = teachers.inspect(path, signature=values.signature, output=values.output).default_tap
    if found is None:
        print("No tap: nothing stands before the last layer with weights.")
        return None
    module = f", the end of {found.module}" if found.module else ""
    print(f"Tapped at {found.name}{module}: {found.kind} {shape(found.shape)}, the default.")
    # The nodes of a SavedModel are numbered anew whenever it is read, its scopes are not.
    return found.module if path.is_dir() and found.module else found.name


def _runtime_teacher(values: flags.FlagValues, path: Path) -> Teacher:
    untapped = path.is_dir() and values.tap == ["default"]
    taps = {} if untapped else _taps(values, path, None)
    runtime = teachers.open_runtime(
        path,
        taps=list(dict.fromkeys(taps.values())),
        output_name=values.output,
        signature=values.signature if path.is_dir() else None,
    )
    teacher = RuntimeTeacher(
        runtime,
        values.name,
        convert_flags.class_names(values.classes),
        taps=taps,
        outputs=values.outputs,
        preprocessing=_preprocessing(values, None, runtime.built_in),
    )
    if teacher.provenance is not None:
        teacher.provenance = replace(teacher.provenance, license=values.license)
    return teacher


def _images(folder: str) -> Mapping[str, bytes]:
    files = list_images(folder, tell=print)
    if len(files) > MAX_IMAGES:
        print(f"Comparing on {MAX_IMAGES} of {len(files)} images, evenly from first to last.")
        # The first ones may be all of one class, where classes lie in folders.
        files = [files[number * len(files) // MAX_IMAGES] for number in range(MAX_IMAGES)]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}
