"""Runs one artifact in a fresh process: `python runner.py JOB.json`. Not of our package.

The job names the artifact, its format, a zip of encoded images and where the answers go. When the
artifact is loaded it says so, and waits for a line before anything is timed. The answers are what
the artifact gives for every image, how long one image takes, and how much memory loading and
running it adds to a process that has its runtime already.
"""

import importlib.util
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

MODES = {1: "L", 3: "RGB"}
WARM_UP = 10
LOADED = "loaded"


class Opened(NamedTuple):
    """A loaded artifact.

    Attributes:
        given: From a batch of raw uint8 images to what the runtime takes. An application has its
            image in that form, so this is not timed.
        run: From that to named arrays.
        image_shape: `(height, width, channels)` of one image; height and width are `None` where
            they are open.
    """

    given: Callable[[np.ndarray], Any]
    run: Callable[[Any], dict[str, Any]]
    image_shape: tuple[int | None, int | None, int]

    def __call__(self, images: np.ndarray) -> dict[str, Any]:
        """What the artifact gives for images."""
        answers = self.run(self.given(images))
        return {key: values[: len(images)] for key, values in answers.items()}


def shown(
    pixels: np.ndarray, size: tuple[int, int] | None, channels: int, covers: bool = False
) -> np.ndarray:
    """A photograph as the documentation tells an application to hand it over, uint8.

    Args:
        pixels: Its own, shape `(height, width, 1 or 3)`, uint8.
        size: `(height, width)` to bring it to, bilinearly; `None` leaves its own.
        channels: 1 or 3.
        covers: Whether another shape is cut about its centre, rather than squeezed.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image = image.convert(MODES[channels])
    if size is not None and image.size != (size[1], size[0]):
        target, filter = (size[1], size[0]), Image.Resampling.BILINEAR
        image = ImageOps.fit(image, target, filter) if covers else image.resize(target, filter)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def decoder(path: str) -> Callable[[bytes], np.ndarray]:
    """The function from a file's bytes to its pixels, of a module that needs Pillow only."""
    spec: Any = importlib.util.spec_from_file_location("decoder", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pixels_of


def open_tflite(path: str, threads: int) -> Opened:
    """A TFLite file in LiteRT, through its signature."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path, num_threads=threads).get_signature_runner("serving_default")
    ((name, details),) = runner.get_input_details().items()
    scale, zero_point = details["quantization"]
    batch, dtype = int(details["shape"][0]), details["dtype"]
    described = runner.get_output_details()

    def given(images: np.ndarray) -> np.ndarray:
        values = images.astype(np.float64)
        if dtype != np.float32:
            limits = np.iinfo(dtype)
            values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
        # A file of fixed batch wants that many: copies fill it up.
        filled = np.repeat(values[:1], max(batch, len(values)), axis=0)
        filled[: len(values)] = values
        return filled.astype(dtype)

    def run(images: np.ndarray) -> dict[str, Any]:
        answers = {}
        for key, values in runner(**{name: images}).items():
            step, zero = described[key]["quantization"]
            answers[key] = (values.astype(np.float64) - zero) * step if step else values
        return answers

    return Opened(given, run, _image_shape(details["shape"]))


def open_onnx(path: str, threads: int) -> Opened:
    """An ONNX file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    heads = [output.name for output in session.get_outputs()]
    axes = session.get_inputs()[0].shape
    channels_first = axes[1] in MODES and axes[3] not in MODES

    def given(images: np.ndarray) -> np.ndarray:
        ordered = images.transpose(0, 3, 1, 2) if channels_first else images
        return np.ascontiguousarray(ordered, np.float32)

    def run(images: np.ndarray) -> dict[str, Any]:
        return dict(zip(heads, session.run(heads, {"image": images}), strict=True))

    return Opened(
        given, run, _image_shape([axes[axis] for axis in (0, 2, 3, 1)] if channels_first else axes)
    )


def open_saved_model(path: str, threads: int) -> Opened:
    """A SavedModel or a version of a bundle in TensorFlow."""
    import tensorflow as tf

    return of_saved_model(tf.saved_model.load(path))


def of_saved_model(loaded: Any) -> Opened:
    """A SavedModel that is loaded already."""
    import tensorflow as tf

    serve = loaded.signatures["serving_default"]

    def run(images: Any) -> dict[str, Any]:
        outputs = loaded.signatures["serving_default"](image=images)
        return {head: values.numpy() for head, values in outputs.items()}

    shape = serve.structured_input_signature[1]["image"].shape
    return Opened(lambda images: tf.constant(images, tf.float32), run, _image_shape(shape))


def open_keras(path: str, threads: int) -> Opened:
    """A Keras file in Keras."""
    import keras

    return of_keras(keras.saving.load_model(path, compile=False))


def of_keras(model: Any) -> Opened:
    """A Keras model that is loaded already."""
    import tensorflow as tf

    # Photographs of many sizes share the second graph that is made of it.
    serve = tf.function(lambda image: model(image, training=False), reduce_retracing=True)

    def run(images: Any) -> dict[str, Any]:
        outputs = serve(images)
        named = outputs if isinstance(outputs, dict) else {"": outputs}
        return {head: np.asarray(values, np.float32) for head, values in named.items()}

    shape = model.inputs[0].shape
    return Opened(lambda images: tf.constant(images, tf.float32), run, _image_shape(shape))


def _image_shape(axes: Any) -> tuple[int | None, int | None, int]:
    """Height, width and channels of `(batch, height, width, channels)`; open ones are names."""
    height, width = (
        None if isinstance(axis, str) or axis is None else int(axis) for axis in axes[1:3]
    )
    return height, width, int(axes[3])


def open_signatures(path: str) -> Callable[[bytes, np.ndarray], dict[str, Any]]:
    """A bundle's other signatures in TensorFlow: of a JPEG or PNG file and its pixels as shown."""
    import tensorflow as tf

    loaded: Any = tf.saved_model.load(path)

    def run(content: bytes, image: np.ndarray) -> dict[str, Any]:
        file = tf.constant([content])
        given = {"uint8": tf.constant(image[np.newaxis]), "encoded": file, "classify": file}
        return {
            # Texts of fixed width can be saved without pickling.
            f"{name}/{key}": values.numpy().astype("S" if values.dtype == tf.string else "f4")
            for name, tensor in given.items()
            for key, values in loaded.signatures[name](image=tensor).items()
        }

    return run


OPENERS = {
    "tflite": open_tflite,
    "onnx": open_onnx,
    "saved_model": open_saved_model,
    "serving": open_saved_model,
    "keras": open_keras,
}


def import_runtime(kind: str, threads: int) -> None:
    """Imports what runs the artifact, so that its own memory can be told apart."""
    if kind == "tflite":
        import ai_edge_litert.interpreter  # noqa: F401
    elif kind == "onnx":
        import onnxruntime  # noqa: F401
    else:
        # Left out for their time, a third of all: Keras wants the first two for wrappers and
        # galleries, and TensorFlow wants Keras for an alias.
        unused = ("matplotlib", "sklearn") if kind == "keras" else ("keras",)
        modules: dict[str, Any] = sys.modules
        modules.update(dict.fromkeys(unused))
        if kind == "keras":
            import keras  # noqa: F401
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.constant(0.0)


def peak_bytes() -> int:
    """Largest memory of this process so far; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            lines = [line for line in status if line.startswith("VmHWM:")]
        return int(lines[0].split()[1]) * 1024
    except (OSError, IndexError):
        return 0


def milliseconds(opened: Opened, image: np.ndarray, repeats: int) -> list[float]:
    """Wall time of each of some calls with one image, after some that do not count."""
    given = opened.given(image)
    for _ in range(min(WARM_UP, repeats)):
        opened.run(given)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        opened.run(given)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main(job: dict[str, Any]) -> None:
    """Runs a job and writes its answers.

    Args:
        job: `artifact`, `format`, `images`, `decoder`, a module's file, `size` or null,
            `channels`, `covers`, `threads`, `repeats`, `outputs`, the .npz to write or null, and
            `measured`, the .json to write.
    """
    with zipfile.ZipFile(job["images"]) as archive:
        contents = [archive.read(name) for name in sorted(archive.namelist())]
    import_runtime(job["format"], job["threads"])
    pixels_of = decoder(job["decoder"])
    wanted = job["size"], job["channels"], job["covers"]
    first = shown(pixels_of(contents[0]), *wanted)[np.newaxis]
    before = peak_bytes()
    opened = OPENERS[job["format"]](job["artifact"], job["threads"])
    opened(first)
    memory = peak_bytes() - before
    # Whoever started this lets it go on, when nothing else runs beside it.
    print(LOADED, flush=True)
    sys.stdin.readline()
    times = milliseconds(opened, first, job["repeats"])
    measured = {
        "memory_bytes": memory,
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
        "imported": sorted({name.split(".")[0] for name, module in sys.modules.items() if module}),
    }
    if job["outputs"]:
        others = open_signatures(job["artifact"]) if job["format"] == "serving" else None
        rows = []
        for content in contents:
            image = shown(pixels_of(content), *wanted)
            more = others(content, image) if others else {}
            rows.append(opened(image[np.newaxis]) | more)
        heads: Any = {head: np.concatenate([row[head] for row in rows]) for head in rows[0]}
        np.savez(job["outputs"], **heads)
    with open(job["measured"], "w") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with open(sys.argv[1]) as stream:
        main(json.load(stream))
