"""How photographs enter a student: what brings one to the size that the student computes at.

Data sets bring photographs to their canvas antialiased, so that is what a student was trained and
evaluated on. One that shrinks plainly by itself sees something else in a photograph, sensor noise
first of all; where we bring photographs to it, they are antialiased.
"""

import dataclasses
from collections.abc import Generator
from typing import Any

import keras

from keras_amalgam.export.signatures import Signature, describe, outputs_of
from keras_amalgam.images.resizing import Resize, first_resize, fitted, uses_of

# Keras' layer, and the class behind `keras.ops.image.resize`.
_RESIZES = {"Resizing", "Resize"}

# The antialiased filter for each of Keras' interpolations. Nearest pixels have none of their own
# and get that of the data sets' canvas.
_KERNELS = {
    "nearest": "bilinear",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos3": "lanczos3",
    "lanczos5": "lanczos5",
}

# Layers and operations that, applied to one tensor, work on each pixel by itself.
_PER_PIXEL = {
    "Rescaling",
    "Normalization",
    "BatchNormalization",
    "Identity",
    "Cast",
    "Add",
    "Subtract",
    "Multiply",
    "Divide",
    "TrueDivide",
    "Negative",
    "Clip",
}


@dataclasses.dataclass(frozen=True)
class Entrance:
    """A student in two parts.

    Attributes:
        resize: What brings a photograph of any size to the student's own.
        rest: The model behind that, which shares its layers with the student.
    """

    resize: Resize
    rest: keras.Model

    def joined(self) -> keras.Model:
        """The student for photographs of any size, antialiased even where it is not by itself."""
        image = keras.Input((None, None, self.rest.inputs[0].shape[-1]), dtype="float32")
        resized = keras.ops.cast(self.resize(image), self.rest.inputs[0].dtype)
        return keras.Model(image, self.rest(resized), name=self.rest.name)


def entrance_of(
    model: keras.Model,
    size: tuple[int, int] | None = None,
    signature: Signature | None = None,
) -> Entrance | None:
    """Finds how photographs enter a student.

    Args:
        model: A model that `describe` accepts.
        size: `(height, width)` that photographs are brought to before a student that takes any
            size and does not begin with a resize.
        signature: The model's, where it was described already.

    Returns:
        The two parts; `None` for a student that begins otherwise, where `size` is not given.
    """
    height, width, _ = (signature or describe(model)).image_shape
    if height is not None and width is not None:
        return Entrance(Resize((height, width)), model)
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], outputs_of(model), name=model.name)
    if (found := first_resize(model)) is not None and found[1] is not model.output:
        resize, resized = found
        return Entrance(resize, keras.Model(resized, model.output, name=model.name))
    # Of images that have its size already, a plain resize makes the same.
    resize = _plain_resize(model) or (None if size is None else Resize(size))
    return None if resize is None else Entrance(resize, model)


def _plain_resize(model: keras.Model) -> Resize | None:
    """The size that one of Keras' own resizes brings images to, first or behind steps per pixel."""
    for node in _line(model):
        if _kind(node) in _RESIZES:
            return _antialiased(node.operation)
        if not _acts_per_pixel(node):
            return None
    return None


def _antialiased(resizing: Any) -> Resize | None:
    """The same resize, antialiased; `None` if it pads or has a filter that ours does not have."""
    kernel = _KERNELS.get(resizing.interpolation)
    if kernel is None or resizing.pad_to_aspect_ratio:
        return None
    height, width = getattr(resizing, "size", None) or (resizing.height, resizing.width)
    covers = bool(resizing.crop_to_aspect_ratio)
    return Resize((int(height), int(width)), covers=covers, interpolation=kernel)


def _line(model: keras.Model) -> Generator[Any, None, bool]:
    """The nodes that images go through one after another, those of nested models among them.

    Returns:
        Whether the line leads to the model's output, rather than to a fork or a model without a
        graph.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, outputs_of(model))
    if not hasattr(model, "_nodes_by_depth"):
        return False
    tensor = model.inputs[0]
    while len(uses := uses_of(model, tensor)) == 1:
        node = uses[0]
        if len(node.arguments.keras_tensors) != 1 or len(node.outputs) != 1:
            return False
        if not isinstance(node.operation, keras.Model):
            yield node
        elif not (yield from _line(node.operation)):
            return False
        tensor = node.outputs[0]
    return not uses and tensor is model.outputs[0]


def _acts_per_pixel(node: Any) -> bool:
    """Whether each pixel of a step's result depends on that pixel alone, wherever it lies."""
    kind = _kind(node)
    # A constant that differs from place to place would have fixed the size.
    keeps_places = node.outputs[0].shape[1:3] == (None, None)
    return keeps_places and (kind in _PER_PIXEL or (kind == "GetItem" and _of_channels(node)))


def _of_channels(node: Any) -> bool:
    """Whether an index takes channels only, as `images[..., ::-1]`."""
    key = node.arguments.args[1]
    places = key[:-1] if isinstance(key, tuple | list) else ()
    if len(places) != 3 and not any(part is Ellipsis for part in places):
        return False
    return all(
        part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in places
    )


def _kind(node: Any) -> str:
    """The name of an operation's class if that is Keras' own: others may do anything."""
    kind = type(node.operation)
    return kind.__name__ if kind.__module__.startswith("keras.") else ""


def fitted_to_itself(model: keras.Model, signature: Signature) -> keras.Model:
    """A model of images of one size without the resize that it does not need for them."""
    height, width, _ = signature.image_shape
    return model if height is None or width is None else fitted(model, (height, width))
