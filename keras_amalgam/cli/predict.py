"""Show what an artifact says of photographs: each task's likeliest classes.

    keras-amalgam predict runs/cars_birds photos/
    keras-amalgam predict phone/student_int8.tflite photo.jpg --top 1
    keras-amalgam predict runs/cars_birds photos/ --artifact student.onnx --page page.html
    keras-amalgam predict serving/ photos/ --json | jq '.predictions[].tasks'

ARTIFACT is what keras-amalgam wrote: a .keras, .tflite or .onnx file, the directory of a
SavedModel, a bundle for TF Serving, a teacher's folder; or the folder of a run or of an export, in
which --artifact chooses. A SavedModel is a program: ask only one that you would run. IMAGES are
files and folders, which are searched with their sub-folders.

The artifact runs in its own runtime, on photographs that were handed over as an application should.
The score of a class is its softmax probability among the classes of its task. Where several tasks
are known by their class names, `joint` is the decision among the classes of all of them, with the
tasks that know the class.

Images that cannot be read are named, and the others are still asked about. The table goes to
standard output, or with --json the same as JSON; notes go to standard error. --out and --page write
files as well.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from keras_amalgam.cli.advice import PREDICT, in_flags
from keras_amalgam.cli.class_file import class_lines
from keras_amalgam.cli.export_flags import pairs
from keras_amalgam.cli.screen import columns

if TYPE_CHECKING:
    from keras_amalgam.export import ImagePrediction, Predictions

_LONGEST = 40  # Of a class's name in the table, where its beginning tells it from others.
_KEYS = {"artifact", "format", "class_names", "predictions", "unreadable"}
_LATER_KEYS = {"notes"}  # Which the files of earlier versions lack.


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_integer(
        "top", 3, "How many of the likeliest classes are named.", 1, flag_values=values
    )
    flags.DEFINE_string(
        "artifact",
        None,
        "Of several in a folder the one to ask, such as student.onnx; of a bundle's models and "
        "versions such as animals/2. By default the .keras file, else the first that misses no "
        "threshold; of a bundle the newest version of its only model.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "classes",
        [],
        "TASK=FILE: a task's classes, one a line; by default those that the artifact holds.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "json", False, "Print JSON, for machines, in place of the table.", flag_values=values
    )
    flags.DEFINE_string("out", None, "A .json file to write the same JSON to.", flag_values=values)
    flags.DEFINE_string(
        "page",
        None,
        "An .html file to write: the pictures, and what was said of each.",
        flag_values=values,
    )
    flags.DEFINE_boolean("overwrite", False, "Replace an earlier result.", flag_values=values)


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    if len(positional) < 2:
        raise ValueError(
            "ARTIFACT and one or more IMAGES are expected. Received: "
            f"{' '.join(positional) or 'none'}."
        )
    artifact, *images = positional
    missing = [path for path in images if not Path(path).exists()]
    if missing:
        raise ValueError(f"There is no file or directory {missing[0]}.")
    for file in pairs(values, "classes").values():
        class_lines(file)
    _check_target(values, "out", ".json", _is_json)
    _check_target(values, "page", ".html", _is_page)

    from keras_amalgam.export.prediction.choosing import choose

    try:
        choose(Path(artifact), values.artifact)
    except ValueError as error:
        raise ValueError(in_flags(str(error), PREDICT)) from error


def _check_target(
    values: flags.FlagValues, flag: str, suffix: str, is_own: Callable[[Path], bool]
) -> None:
    """Refuse a file that is not a result of ours, or one that is not to be replaced."""
    given: Any = values[flag].value
    if given is None:
        return
    path = Path(given)
    if path.suffix.lower() != suffix or path.is_dir():
        raise ValueError(f"--{flag} must be a file ending in {suffix}. Received: {path}.")
    if not path.exists() and not path.is_symlink():
        return
    if not values.overwrite:
        raise ValueError(
            f"{path} exists already. Choose another --{flag}, or replace it with --overwrite."
        )
    if not (path.is_file() and is_own(path)):
        raise ValueError(
            f"--overwrite replaces earlier results only. Received: --{flag}={path}, which "
            f"`predict` did not write. Choose another --{flag}."
        )


def _is_json(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() - _LATER_KEYS == _KEYS


def _is_page(path: Path) -> bool:
    from keras_amalgam.export.prediction import page

    return page.is_own(path)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    from keras_amalgam import export
    from keras_amalgam.export.prediction import page
    from keras_amalgam.files.writing import write_text

    artifact, *images = positional
    for note in filter(None, map(_note, images)):
        print(note, file=sys.stderr)
    classes: Any = {task: class_lines(file) for task, file in pairs(values, "classes").items()}
    try:
        asked, name = _asked(artifact, values.artifact)
        said = export.predict(asked, images, values.top, artifact=name, class_names=classes or None)
    except ValueError as error:
        raise ValueError(in_flags(str(error), PREDICT)) from error
    for note in _notes(said):
        print(note, file=sys.stderr)
    text = json.dumps(said.to_dict(), indent=2, ensure_ascii=False)
    print(text if values.json else f"{said.artifact}\n\n{table(said)}")
    if values.out:
        write_text(values.out, text + "\n")
    if values.page:
        page.write(said, values.page)
    for written in filter(None, (values.out, values.page)):
        print(f"Written to {written}", file=sys.stderr)


def _asked(path: str, artifact: str | None) -> tuple[Any, str | None]:
    """What `export.predict` is given: of a teacher, which may run in its own runtime, itself."""
    from keras_amalgam import teachers
    from keras_amalgam.export.prediction.choosing import TEACHER, choose, format_of

    chosen = choose(Path(path), artifact)
    return (teachers.load(chosen), None) if format_of(chosen) == TEACHER else (path, artifact)


def _note(images: str) -> str:
    """What is passed over in a folder; what cannot be reached is said of the predictions."""
    from keras_amalgam.images.folders import walk

    found = walk(images) if Path(images).is_dir() else None
    if found is None:
        return ""
    found.lost = {}
    return found.note()


def _notes(said: "Predictions") -> Iterator[str]:
    """What was not read, what is doubtful, and which tasks have no class names."""
    from keras_amalgam.images.folders import printable

    for path, why in said.unreadable.items():
        yield f"Not read: {printable(path)}: {why}"
    yield from said.notes
    nameless = [task for task, names in said.class_names.items() if not names]
    if nameless:
        yield (
            f"{said.artifact} holds no class names of {', '.join(nameless)}: numbers stand for "
            "them. Name a file for each task with --classes TASK=FILE."
        )


def table(said: "Predictions") -> str:
    """The predictions as aligned lines, one a class, each image and task named once."""
    rows = [("image", "task", "class", "score")]
    for one in said.images:
        rows += _rows(one)
    return columns(rows, right=(3,), indent=0)


def _rows(one: "ImagePrediction") -> Iterator[tuple[str, str, str, str]]:
    from keras_amalgam.export.prediction.page import percent
    from keras_amalgam.images.folders import printable

    image = printable(one.image)
    for task, scores in {**one.tasks, **({"joint": one.joint} if one.joint else {})}.items():
        heading = task
        for score in scores:
            whose = "" if score.tasks == (task,) else f" ({', '.join(score.tasks)})"
            yield image, heading, f"{_cut(score.title)}{whose}", percent(score.score)
            image = heading = ""


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
