"""How photographs enter a student: what brings one to the size that the student computes at.

Data sets bring photographs to their canvas antialiased, so that is what a student was trained and
evaluated on. One that shrinks plainly by itself sees something else in a photograph, sensor noise
first of all; where we bring photographs to it, they are antialiased.
"""

import dataclasses
from typing import Any

import keras

from keras_amalgam.export.signatures import describe, outputs_of
from keras_amalgam.images.resizing import Resize, first_resize, fitted


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


def entrance_of(model: keras.Model, size: tuple[int, int] | None = None) -> Entrance | None:
    """Finds how photographs enter a student.

    Args:
        model: A model that `describe` accepts.
        size: `(height, width)` that photographs are brought to before a student that takes any
            size and does not begin with a resize.

    Returns:
        The two parts; `None` for a student that begins otherwise, where `size` is not given.
    """
    height, width, _ = describe(model).image_shape
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
    """To what a model brings images before all else, with one of Keras' own operations."""
    consumers = [
        operation
        for operation in model.operations
        for node in operation._inbound_nodes
        if any(tensor is model.inputs[0] for tensor in node.arguments.keras_tensors)
    ]
    if len(consumers) != 1:
        return None
    first: Any = consumers[0]
    if isinstance(first, keras.layers.Resizing):
        size = (int(first.height), int(first.width))
    elif type(first).__name__ == "Resize":  # The class behind `keras.ops.image.resize`.
        size = (int(first.size[0]), int(first.size[1]))
    else:
        return None
    if first.pad_to_aspect_ratio:
        return None
    return Resize(size, covers=bool(first.crop_to_aspect_ratio))


def fitted_to_itself(model: keras.Model) -> keras.Model:
    """A model of images of one size without the resize that it does not need for them."""
    height, width, _ = describe(model).image_shape
    return model if height is None or width is None else fitted(model, (height, width))
