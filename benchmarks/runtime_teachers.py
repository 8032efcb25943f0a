"""What a teacher costs that runs its original file, against the same network converted.

    python -m benchmarks.runtime_teachers [--size 96] [--batch 32] [--steps 8] [--repeats 5]

One MobileNetV2 with random weights is written as ONNX, TFLite and SavedModel. A student learns from
it: converted into the training step, in each runtime beside the step, and from cached signals. All
are timed in turn in every repeat, so that what else the machine does meets all of them; the ratios
are the medians over the repeats. Compare no figures of different machines.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam import data, teachers

CLASSES = [f"class {number}" for number in range(20)]


def write_files(size: int, folder: Path) -> dict[str, Path]:
    """The network as three files."""
    keras.utils.set_random_seed(0)
    options = {"weights": None, "classes": len(CLASSES), "classifier_activation": None}
    model = keras.applications.MobileNetV2((size, size, 3), **options)
    files = {kind: folder / f"network.{kind}" for kind in ("onnx", "tflite", "saved_model")}
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(files["saved_model"], verbose=False)
        model.export(files["onnx"], format="onnx", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(files["saved_model"]))
        files["tflite"].write_bytes(converter.convert())
    return files


def teachers_of(files: dict[str, Path], size: int) -> dict[str, ka.Teacher]:
    """The network as a teacher of each kind; soft targets only, as not all of them have taps."""
    settings = {"preprocessing": ka.Preprocessing(size=(size, size), scale=1 / 127.5, mean=1.0)}
    converted = teachers.from_onnx(files["onnx"], verify=False)
    made = {"converted": ka.Teacher(converted, "birds", CLASSES, **settings)}
    for kind, path in files.items():
        made[kind] = teachers.runtime_teacher(path, "birds", CLASSES, **settings)
    return made


def amalgamator(teacher: ka.Teacher, size: int) -> ka.Amalgamator:
    keras.utils.set_random_seed(1)
    shape = (size, size, 3)
    backbone = keras.applications.MobileNetV3Small(shape, include_top=False, weights=None)
    model = ka.Amalgamator(ka.build_student(backbone, [teacher]), [teacher])
    model.compile(optimizer=keras.optimizers.SGD(1e-3))
    return model


def seconds_per_step(model: ka.Amalgamator, images: tf.data.Dataset) -> float:
    started = time.perf_counter()
    model.fit(images, verbose=0)
    return (time.perf_counter() - started) / int(images.cardinality())


def measure(size: int, batch: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a step and median ratio to the converted teacher's, by kind."""
    array = np.random.default_rng(0).integers(0, 256, (batch * steps, size, size, 3), np.uint8)
    images = tf.data.Dataset.from_tensor_slices(array).batch(batch)
    with tempfile.TemporaryDirectory() as folder:
        made = teachers_of(write_files(size, Path(folder)), size)
        runs = {kind: (amalgamator(teacher, size), images) for kind, teacher in made.items()}
        cached = data.with_runtime_signals(images, [made["onnx"]]).cache()
        runs["onnx, cached"] = (amalgamator(made["onnx"], size), cached)
        for run in runs.values():  # Traces the step, and fills the cache.
            seconds_per_step(*run)
        times = {kind: [] for kind in runs}
        for _ in range(repeats):
            for kind, run in runs.items():
                times[kind].append(seconds_per_step(*run))
    ratios = {
        kind: [a / b for a, b in zip(values, times["converted"], strict=True)]
        for kind, values in times.items()
    }
    return {
        kind: {
            "ms_per_step": round(1e3 * statistics.median(values), 1),
            "ratio_to_converted": round(statistics.median(ratios[kind]), 2),
            "lowest": round(min(ratios[kind]), 2),
            "highest": round(max(ratios[kind]), 2),
        }
        for kind, values in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("size", 96), ("batch", 32), ("steps", 8), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
