"""The one resize: antialiased, with half-pixel centres, as two matrix products of stock operations.

Pillow and `tf.image.resize(antialias=True)` compute the same, but XLA, ONNX and TFLite have no form
of the latter, and a size that is open until a model runs has no constant matrix. So the matrix is
part of the graph, made of operations that all of them know.
"""

import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import keras
from keras import ops

Size = tuple[int, int]
_NAME = re.compile(
    r"(resize|cover)_(\d+)x(\d+)(?:_centre_(\d+)x(\d+))?(?:_(bicubic|lanczos[35]))?(?:_\d+)?"
)


@dataclass(frozen=True)
class Resize:
    """How images of any size are brought to one size.

    Args:
        size: `(height, width)` of the result, in pixels.
        before_crop: The size that is resized to, of which `size` is the centre; by default `size`.
        covers: Whether an image of another shape is cut to the shape of `before_crop` about its
            centre first, rather than squeezed.
        interpolation: `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
    """

    size: Size
    before_crop: Size | None = None
    covers: bool = False
    interpolation: str = "bilinear"

    @property
    def full_size(self) -> Size:
        """The size that is resized to."""
        return self.before_crop or self.size

    @property
    def name(self) -> str:
        """What the resize is called in a model, and known again by."""
        parts = [f"{'cover' if self.covers else 'resize'}_{_by(self.full_size)}"]
        if self.full_size != self.size:
            parts.append(f"centre_{_by(self.size)}")
        if self.interpolation != "bilinear":
            parts.append(self.interpolation)
        return "_".join(parts)

    def __call__(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Add the resize to a functional graph, as one nested model of stock operations.

        Args:
            images: Shape `(batch, height, width, channels)`; height and width may be open.

        Returns:
            Shape `(batch, *size, channels)`, float32.
        """
        # A model may resize twice, and the names of its operations must differ.
        number = keras.backend.get_uid(self.name) - 1
        name = f"{self.name}_{number}" if number else self.name
        return self.as_model(images.shape[-1], name)(images)

    def as_model(self, channels: int | None, name: str) -> keras.Model:
        """The resize of images of so many channels, by itself."""
        inputs = keras.Input((None, None, channels), name="any_size", dtype="float32")
        return keras.Model(inputs, self._graph(inputs), name=name)

    def leaves(self, size: Size) -> bool:
        """Whether images of a size pass unchanged."""
        return size == self.size == self.full_size

    def enlarges(self, size: Size) -> bool:
        """Whether images of a size are shrunk on neither axis: nothing is antialiased then."""
        return all(old <= new for old, new in zip(size, self.full_size, strict=True))

    def _graph(self, images: keras.KerasTensor) -> keras.KerasTensor:
        # One for every pixel along an axis, from the images themselves: their size may be open.
        # The mean rather than the first of the batch, as a replica's batch may be empty.
        rows, columns = (
            ops.expand_dims(ops.mean(ops.ones_like(line), axis=0), 0)
            for line in (images[:, :, 0, 0], images[:, 0, :, 0])
        )
        height, width = (ops.sum(line, axis=-1, keepdims=True) for line in (rows, columns))
        kept = (height, width)
        if self.covers:
            kept = kept_part(height, width, *self.full_size)
        by_row = self._weights(rows, height, kept[0], axis=0)
        by_column = self._weights(columns, width, kept[1], axis=1)
        # Channels wait in front, so that both products are over the last two axes.
        x = ops.transpose(images, (0, 3, 1, 2))
        x = ops.matmul(ops.matmul(by_row, x), ops.transpose(by_column))
        return ops.transpose(x, (0, 2, 3, 1))

    def _weights(self, line: Any, length: Any, kept: Any, axis: int) -> Any:
        """How much of each old pixel is in each new one, `(new, old)`; rows sum to one."""
        new, full = self.size[axis], self.full_size[axis]
        old_centres = ops.cumsum(line, axis=-1) - 0.5
        places = ops.cumsum(ops.tile(ops.ones_like(length), (new, 1)), axis=0) - 0.5
        step = kept / full
        start = ops.floor((length - kept) / 2)
        centres = start + (places + (full - new) // 2) * step
        kernel = _KERNELS[self.interpolation]
        weights = kernel((old_centres - centres) / ops.maximum(step, 1.0))
        if self.covers:
            after = ops.clip(old_centres + 0.5 - start, 0.0, 1.0)
            before = ops.clip(start + kept + 0.5 - old_centres, 0.0, 1.0)
            weights = weights * (after * before)
        return weights / ops.sum(weights, axis=-1, keepdims=True)


def resize_of(operation: Any) -> Resize | None:
    """The resize that a layer of a model is; `None` if it is none of ours.

    Anybody may call a model of theirs `resize_24x24`, so the name only says what to compare with:
    the layer is a resize if its graph is the one that is built for that name.
    """
    resize = _named(operation)
    if resize is None or not hasattr(operation, "_nodes_by_depth"):  # It has no graph.
        return None
    kind, steps = _built(resize, operation.inputs[0].shape[-1])
    return resize if type(operation) is kind and _steps(operation) == steps else None


def _named(operation: Any) -> Resize | None:
    match = _NAME.fullmatch(operation.name) if isinstance(operation, keras.Model) else None
    if match is None:
        return None
    kind, *numbers, interpolation = match.groups()
    height, width, *centre = (int(number) for number in numbers if number)
    full = (height, width)
    size = (centre[0], centre[1]) if centre else full
    before = full if centre else None
    return Resize(size, before, kind == "cover", interpolation or "bilinear")


@lru_cache(maxsize=64)
def _built(resize: Resize, channels: int | None) -> tuple[type, Any]:
    """The class and the steps of a resize as it is built here."""

    def build() -> tuple[type, Any]:
        model = resize.as_model(channels, resize.name)
        return type(model), _steps(model)

    # Keras counts names and keeps its dtype policy by thread. In one of its own, neither changes
    # what is built here, and looking at a model does not rename the layers made after it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(build).result()


def _steps(model: keras.Model) -> Any:
    """What a functional model computes: its configuration, with numbers for its layers' names."""
    config = model.get_config()
    numbers = {layer["name"]: number for number, layer in enumerate(config["layers"])}

    def unnamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unnamed(part) for key, part in value.items() if key != "name"}
        if isinstance(value, list | tuple):
            return [unnamed(part) for part in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    return unnamed([config[part] for part in ("layers", "input_layers", "output_layers")])


def uses_of(model: keras.Model, tensor: Any) -> list[Any]:
    """The nodes of a functional model's own graph that take a tensor of it."""
    nodes = chain.from_iterable(getattr(model, "_nodes_by_depth", {}).values())
    return [
        node for node in nodes if any(taken is tensor for taken in node.arguments.keras_tensors)
    ]


def first_resize(model: keras.Model) -> tuple[Resize, Any] | None:
    """The resize that a model does before all else, and what it makes of the images.

    Args:
        model: A functional model of one input.

    Returns:
        The resize and its symbolic result in the model; `None` if the model begins otherwise.
    """
    # A nested model's own `output` is the one inside of it; only its node knows the one here.
    nodes = uses_of(model, model.inputs[0])
    if len(nodes) != 1 or (resize := resize_of(nodes[0].operation)) is None:
        return None
    return resize, nodes[0].outputs[0]


def fitted(model: keras.Model, size: Size) -> keras.Model:
    """A model for images of one size, sharing its layers: the resize is left out where it can be.

    Images that have the right size already are not resized, and those that are only enlarged are
    resized plainly, which is the same and cheaper everywhere.

    Args:
        model: A functional model of images of any size.
        size: `(height, width)` of all images.

    Returns:
        The model for images `(batch, *size, channels)`; `model` itself if nothing can be left out.
    """
    found = first_resize(model)
    if found is None or not (found[0].leaves(size) or _is_plain(found[0], size)):
        return model
    resize, resized = found
    if resized is model.output:  # There is nothing else to share.
        return model
    rest = keras.Model(resized, model.output, name=model.name)
    if resize.leaves(size):
        return rest
    images = keras.Input((*size, model.input_shape[-1]), name="image", dtype="float32")
    enlarged = ops.image.resize(images, resize.size, data_format="channels_last")
    return keras.Model(images, rest(enlarged), name=model.name)


def _is_plain(resize: Resize, size: Size) -> bool:
    simple = resize.full_size == resize.size and not resize.covers
    return simple and resize.interpolation == "bilinear" and resize.enlarges(size)


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def kept_part(height: Any, width: Any, wanted_height: int, wanted_width: int) -> tuple[Any, Any]:
    """The sides of the largest part of the wanted shape, in whole pixels, at least one."""
    # The half keeps a quotient that is whole from being rounded to below it.
    rows = ops.floor((width * wanted_height + 0.5) / wanted_width)
    columns = ops.floor((height * wanted_width + 0.5) / wanted_height)
    return (
        ops.minimum(height, ops.maximum(rows, 1.0)),
        ops.minimum(width, ops.maximum(columns, 1.0)),
    )


def _triangle(x: Any) -> Any:
    return ops.relu(1.0 - ops.abs(x))


def _cubic(x: Any) -> Any:
    """Keys' cubic with a = -0.5, as Pillow and TensorFlow have it."""
    x = ops.minimum(ops.abs(x), 2.0)  # Where it is zero.
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return ops.where(x < 1.0, near, far)


def _lanczos(radius: int) -> Callable[[Any], Any]:
    def kernel(x: Any) -> Any:
        x = ops.minimum(ops.abs(x), float(radius))
        # sin(0) / 0 is one; a distance that small changes nothing else.
        angle = math.pi * ops.maximum(x, 1e-6)
        return radius * ops.sin(angle) * ops.sin(angle / radius) / (angle * angle)

    return kernel


_KERNELS: dict[str, Callable[[Any], Any]] = {
    "bilinear": _triangle,
    "bicubic": _cubic,
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
}
