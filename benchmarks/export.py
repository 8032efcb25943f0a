"""Exported students: size, latency and agreement, against their teachers and plain Keras' export.

    make demo
    python -m benchmarks.export [--demo runs/demo] [--table docs/export_speed.md] [--repeats 60]

Three students: the demo's, as it was trained; one of MobileNetV3-Small's size at 224 pixels, with
two heads and seeded random weights; and EfficientNet-Lite0 at 224 pixels, trained, whose features
and logits any student of its size could have. Each is written in every precision by `to_tflite`,
and by `model.export(format="litert")` with the converter's settings of the same precision. All
files of a student, and its teachers, are called in turn in every repeat, on one thread, so that
what else the machine does meets all of them; ratios are medians over the repeats.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks import export_report
from keras_amalgam import Preprocessing, Teacher, build_student, export, teachers
from keras_amalgam.experiments import digits_fashion
from tests.networks import measuring, samples
from tests.networks.catalogue import networks

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16")
SIDE = 224
IMAGENET = [f"class {number}" for number in range(1000)]
DEFAULT = [tf.lite.Optimize.DEFAULT]


@dataclasses.dataclass
class Subject:
    """A student with what it is compared with.

    Args:
        name: Of the row.
        student: Functional, with class names.
        teachers: Those that it stands for.
        images: Raw images that are compared, `(count, height, width, channels)`.
        calibration: Raw images for integer activations.
    """

    name: str
    student: keras.Model
    teachers: list[Teacher]
    images: np.ndarray
    calibration: np.ndarray


@dataclasses.dataclass
class Row:
    """One student in one precision.

    Args:
        student: Its name.
        precision: One of `PRECISIONS`.
        bytes: Of the model, without labels and description.
        plain_bytes: Of the plain file.
        milliseconds: Median for one image.
        to_plain: Median ratio to the plain file's time in the same repeat.
        to_teachers: Median ratio of all teachers' time to ours.
        teachers_milliseconds: Median of all teachers together, TFLite float32.
        max_error: Of a logit, as a fraction of the head's largest.
        agreement: Share of images with the Keras student's class, at the worst head.
    """

    student: str
    precision: str
    bytes: int
    plain_bytes: int
    milliseconds: float
    to_plain: float
    to_teachers: float
    teachers_milliseconds: float
    max_error: float
    agreement: float


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="of a demo's run")
    parser.add_argument("--networks", type=Path, default=Path(".networks"), help="of files")
    parser.add_argument("--table", type=Path, help="the Markdown file to write")
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    if not (arguments.demo / "student.keras").is_file():
        parser.error(f"There is no student in {arguments.demo}. Run `make demo` first.")
    load = os.getloadavg()[0]
    rows: list[Row] = []
    refused: list[str] = []
    for subject in subjects(arguments.demo, arguments.networks.resolve()):
        rows += measure(subject, arguments.repeats, refused)
        text = export_report.markdown(rows, refused, load)
        if arguments.table:
            arguments.table.write_text(text)
    print(text)


def subjects(demo: Path, folder: Path) -> Iterator[Subject]:
    """The three students; photographs are those that the tests' networks are checked on."""
    recipe = digits_fashion.recipe()
    batches = recipe.streams["calibration"].take(4)
    images = np.concatenate([np.rint(batch["image"]) for batch in batches]).astype("float32")
    student: Any = keras.saving.load_model(demo / "student.keras", compile=False)
    student.class_names = export.read_labels(demo / "student.keras")
    yield Subject("demo", student, recipe.teachers, images[-256:], images[:256])

    known = [_trained(name, folder) for name in ("mobilenet_v2", "efficientnet_lite0")]
    photographs, crops = _photographs(folder)
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV3Small(
        (SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg"
    )
    student = build_student(backbone, known)
    _settle(student, crops)
    yield Subject("MobileNetV3-Small", student, known, photographs, crops)

    student = known[1].answers(3)
    student.class_names = {"things": IMAGENET}
    yield Subject("EfficientNet-Lite0", student, known, photographs, crops)


def measure(subject: Subject, repeats: int, refused: list[str]) -> list[Row]:
    """Every precision of a student; what cannot be written is added to `refused`."""
    size = subject.images.shape[1:3]
    calls: dict[str, Callable[[], Any]] = {}
    sizes, artifacts = {}, {}
    with tempfile.TemporaryDirectory() as directory:
        for precision in PRECISIONS:
            ours, plain = (Path(directory, f"{precision}{end}.tflite") for end in ("", "_plain"))
            given = subject.calibration if precision in ("int8", "int16") else None
            try:
                artifacts[precision] = export.to_tflite(
                    subject.student,
                    ours,
                    precision,
                    given,
                    size,
                    images=subject.images,
                    tolerance=float("inf"),
                    min_agreement=0.0,
                )
            except NotImplementedError as error:
                refused.append(f"{subject.name} {precision}: {error}")
                continue
            export_plainly(subject, plain, precision)
            sizes[precision] = (model_bytes(ours), model_bytes(plain))
            calls[precision] = call(ours.read_bytes(), subject.images[:1])
            calls[f"{precision} plain"] = call(plain.read_bytes(), subject.images[:1])
        for teacher in subject.teachers:
            file = Path(directory, f"{teacher.name}.tflite")
            alone = teacher.answers(subject.images.shape[-1])
            alone.class_names = {teacher.name: teacher.class_names}
            export.to_tflite(alone, file, image_shape=size, images=subject.images[:4])
            calls[f"teacher {teacher.name}"] = call(file.read_bytes(), subject.images[:1])
    times = in_turn(calls, repeats)
    ours_of = [times[key] for key in times if key.startswith("teacher ")]
    together = [sum(parts) for parts in zip(*ours_of, strict=True)]
    return [
        Row(
            subject.name,
            precision,
            *sizes[precision],
            1e3 * statistics.median(times[precision]),
            _ratio(times[precision], times[f"{precision} plain"]),
            _ratio(together, times[precision]),
            1e3 * statistics.median(together),
            _share(subject, artifacts[precision]),
            artifacts[precision].parity["argmax_agreement"],
        )
        for precision in artifacts
    ]


def export_plainly(subject: Subject, path: Path, precision: str) -> None:
    """The same network by `model.export`, one image of the same size."""
    settings: dict[str, Any] = {} if precision == "float32" else {"optimizations": DEFAULT}
    if precision == "float16":
        settings["target_spec"] = {"supported_types": [tf.float16]}
    if precision in ("int8", "int16"):
        settings["representative_dataset"] = lambda: (
            [image[None]] for image in subject.calibration
        )
        operators = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        if precision == "int16":
            operators = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        settings["target_spec"] = {"supported_ops": [operators]}
    if precision == "int8":
        settings["inference_input_type"] = tf.uint8
    image = tf.TensorSpec((1, *subject.images.shape[1:]), tf.float32, name="image")
    with contextlib.redirect_stdout(io.StringIO()):
        subject.student.export(
            path, format="litert", input_signature=[image], verbose=False, **settings
        )


def model_bytes(path: Path) -> int:
    """Of a file without what is appended to it as a zip."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        return min(entry.header_offset for entry in archive.infolist())


def call(content: bytes, image: np.ndarray) -> Callable[[], Any]:
    """One image through a file on one thread, from the input tensor to all output tensors."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    outputs = [details["index"] for details in interpreter.get_output_details()]
    tensor = image.astype(given["dtype"])

    def run() -> Any:
        interpreter.set_tensor(given["index"], tensor)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, all of them called in turn in every repeat.

    Short calls are repeated within their turn, and every second turn goes backwards, so that
    neither the clock nor what ran before favours one.
    """
    often = {}
    for key, run in calls.items():
        run()
        started = time.perf_counter()
        run()
        often[key] = max(1, int(0.005 / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {key: [] for key in calls}
    for number in range(repeats):
        for key in list(calls)[:: 1 if number % 2 else -1]:
            calls[key]()  # Brings its weights into the cache.
            started = time.perf_counter()
            for _ in range(often[key]):
                calls[key]()
            times[key].append((time.perf_counter() - started) / often[key])
    return times


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _share(subject: Subject, artifact: Any) -> float:
    """The largest error of a logit as a fraction of its head's largest."""
    outputs: Any = subject.student(subject.images, training=False)
    return max(
        artifact.parity["heads"][head]["max_abs_error"] / float(np.abs(values).max())
        for head, values in outputs.items()
    )


def _trained(name: str, folder: Path) -> Teacher:
    network = networks()[f"{name}_trained"]
    path = measuring.written_file(network, "script 17", folder)
    # TFLite resizes bilinearly without antialias; the images have the right size anyway.
    bilinear = {"antialias": False, "interpolation": "bilinear", "crop_fraction": 1.0}
    settings = {**network.preprocessing, **bilinear}
    return Teacher(
        teachers.from_onnx(path, verify=False),
        name=name,
        class_names=IMAGENET,
        preprocessing=Preprocessing(**settings),
    )


def _photographs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labelled photographs at 224 pixels for the comparison, and other crops for calibration."""
    images, _ = samples.labelled(folder)
    whole = [keras.ops.image.resize(image.astype("float32"), (SIDE, SIDE)) for image in images]
    crops = []
    for image in images:
        height, width = (round(0.8 * side) for side in image.shape[:2])
        for part in (image[:height, :width], image[-height:, -width:][:, ::-1]):
            crops.append(keras.ops.image.resize(part.astype("float32"), (SIDE, SIDE)))
    return np.rint(np.stack(whole)), np.rint(np.stack(crops))


def _settle(student: keras.Model, images: np.ndarray) -> None:
    """Statistics of photographs for the batch norms, as a training leaves them."""
    for layer in student._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(8):
        student(images, training=True)


if __name__ == "__main__":
    main()
