"""One network, written one way: everything that is claimed of its conversion, measured."""

import dataclasses
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from keras_amalgam import teachers
from tests.networks import afterlife, samples, transposes
from tests.networks.catalogue import Network
from tests.networks.marks import recipe
from tests.networks.sources import Source, open_source

TOLERANCE = 1e-4
BATCHES = (1, 3)


@dataclasses.dataclass
class Row:
    """What was found.

    Args:
        network: Its name.
        written: How the file was written.
        operators: Number of distinct operators in the file.
        nodes: Number of nodes in the file.
        parameters: Of the Keras model.
        errors: Largest error at an output as a fraction of that output's range, by what was run:
            `"1"` and `"3"` images, and another size.
        inside: The largest error at any tensor inside, as a fraction of its range or of 1.
        transposes: Between convolutions.
        seconds: To convert, without the comparison.
        top1: Right answers on the labelled images, ours and the source's.
        done: What was done with the model afterwards, and agreed.
        failures: What went wrong, the first first.
    """

    network: str
    written: str
    operators: int = 0
    nodes: int = 0
    parameters: int = 0
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    inside: float | None = None
    transposes: int | None = None
    seconds: float | None = None
    top1: tuple[int, int, int] | None = None
    done: list[str] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)

    @contextmanager
    def step(self, name: str, fatal: bool = False) -> Iterator[None]:
        """Note what fails inside instead of raising it, unless nothing can follow."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failures.append(f"{name}: {type(error).__name__}: {error}")
            if fatal:
                raise Ended from error


class Ended(Exception):
    """A step failed that all later ones need."""


def measure(network: Network, written: str, folder: Path, scratch: Path) -> Row:
    """Convert one file of a network and measure what came of it.

    Args:
        network: From the catalogue.
        written: One of its writers.
        folder: Where packages and written files are kept.
        scratch: An empty folder.
    """
    row = Row(network.name, written)
    try:
        with row.step("write the source", fatal=True):
            path = written_file(network, written, folder)
        with row.step("read the source", fatal=True):
            source = open_source(path)
            row.nodes, row.operators = source.nodes, source.operators
        with row.step("convert", fatal=True):
            started = time.perf_counter()
            model = _converted(path, network, "open" in written)
            row.seconds = time.perf_counter() - started
            row.parameters = model.count_params()
        compare(row, network, model, source, "open" in written)
    except Ended:
        return row
    with row.step("compare inside"):
        report = teachers.check_parity(model, path, tolerance=TOLERANCE, batch_sizes=(3,))
        relative = [e["max_abs_error"] / max(1, e["range"]) for e in report["taps"].values()]
        row.inside = max(relative, default=None)
    if network.preprocessing:
        with row.step("labelled images"):
            row.top1 = samples.top1(network, model, source, folder)
            if row.top1[0] != row.top1[1]:
                raise ValueError(f"Top-1 differs: {row.top1}")
    if not network.is_used_afterwards(written):
        return row
    images = patterns(network, network.size, BATCHES[-1])
    for name, do in afterlife.STEPS.items():
        with row.step(name):
            do(model, images, scratch)
            row.done.append(name)
    return row


def patterns(network: Network, size: tuple[int, int], number: int) -> np.ndarray:
    """Seeded images with coarse and fine structure, channels last.

    Args:
        network: Whose range of pixels they keep to.
        size: Height and width.
        number: How many.
    """
    generator = np.random.default_rng(number)
    coarse = generator.uniform(-1, 1, (number, 4, 4, network.channels))
    rows, columns = (np.arange(side) * 4 // side for side in size)
    fine = generator.uniform(-1, 1, (number, *size, network.channels))
    images = (coarse[:, rows][:, :, columns] + fine + 2) / 4
    if network.text:
        images = 0.1 * images + 0.9 * drawn(network.text, size)
    return (images * (network.high - network.low) + network.low).astype(np.float32)


def written_file(network: Network, written: str, folder: Path) -> Path:
    """The file, written if it is not there or its recipe changed."""
    where = folder / "written" / f"{network.name} {written}".replace(" ", "_").replace(",", "")
    done = where / f".{recipe(network, written)}"
    if not done.exists():
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        (folder / "packages").mkdir(exist_ok=True)
        (where / "packages").symlink_to(folder / "packages")
        done.write_text(str(network.writers[written](where)))
    return Path(done.read_text())


def _converted(path: Path, network: Network, is_open: bool) -> keras.Model:
    if path.suffix == ".keras":
        return teachers.from_keras(path, verify=False)
    if path.is_dir():
        return teachers.from_saved_model(path, verify=False)
    try:
        return teachers.from_onnx(path, verify=False)
    except (ValueError, NotImplementedError) as error:
        if is_open or "input_shape" not in str(error):
            raise
        shape = (*network.size, network.channels)
        return teachers.from_onnx(path, input_shape=shape, verify=False)


def compare(row: Row, network: Network, model: keras.Model, source: Source, is_open: bool) -> None:
    """Outputs against the source's own runtime, and transpositions in the graph."""
    function = tf.function(lambda images: model(images, training=False))
    with row.step("trace", fatal=True):
        spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        traced = function.get_concrete_function(spec)
        row.transposes = transposes.between_convolutions(traced.graph, traced.inputs[0])
    sizes = {f"{batch}": (batch, network.size) for batch in BATCHES}
    if None in model.input_shape[1:3] and network.other_size:
        height, width = network.other_size
        sizes[f"{height}×{width}"] = (1, network.other_size)
    elif is_open:
        row.failures.append("the converted model does not leave its size open")
    for name, (batch, size) in sizes.items():
        with row.step(f"compare on {name}"):
            images = patterns(network, size, batch)
            row.errors[name] = largest_error(source.run(images), traced(tf.constant(images)))
            if not row.errors[name] <= TOLERANCE:
                raise ValueError(f"error {row.errors[name]:.2g} of the output's range")


def largest_error(expected: list[np.ndarray], received: Any) -> float:
    """The largest error at any output as a fraction of that output's range.

    Args:
        expected: The source's outputs, channels last.
        received: The model's: one tensor or a dictionary.
    """
    outputs = list(received.values()) if isinstance(received, dict) else [received]
    errors = []
    for theirs, output in zip(expected, outputs, strict=True):
        ours = np.asarray(output)
        if ours.shape != theirs.shape:
            raise ValueError(f"shape {ours.shape}, the source gives {theirs.shape}")
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            return float("inf")
        spread = float(theirs.max() - theirs.min())
        errors.append(float(np.abs(ours - theirs).max()) / spread if spread else float("inf"))
    return max(errors)


def drawn(text: str, size: tuple[int, int]) -> np.ndarray:
    """Black text on white that fills the width, as 0..1, shape `(height, width, 1)`."""
    height, width = size
    picture = Image.new("L", (width, height), 255)
    font = ImageFont.load_default(1.6 * width / len(text))
    ImageDraw.Draw(picture).text((width / 2, height / 2), text, 0, font, anchor="mm")
    return np.asarray(picture, np.float64)[..., None] / 255
