"""What every artifact has in common: one raw image tensor in, one named tensor per head out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_amalgam.images.preprocessing import check_takes_images
from keras_amalgam.images.resizing import resize_of

INPUT_NAME = "image"
"""Name of the image tensor in every artifact, whatever the Keras input layer is called."""

IMAGE_SHAPE = "`image_shape=(height, width)`"
"""The exporters' argument for the size of images, in the words of messages."""

_OTHER_PRECISION = frozenset({"mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"})


@dataclasses.dataclass(frozen=True)
class Signature:
    """A model's interface.

    Attributes:
        image_shape: `(height, width, channels)` of one image; height and width may be `None`.
        heads: Head's name to its shape without the batch axis, in the model's order.
    """

    image_shape: tuple[int | None, int | None, int]
    heads: dict[str, tuple[int | None, ...]]


def describe(model: keras.Model) -> Signature:
    """Reads a model's interface.

    A model with one unnamed output is one head named after the layer that gives it.

    Args:
        model: A functional or sequential model from an image tensor `(batch, height, width,
            channels)` to a dict of tensors, or to one tensor.

    Returns:
        The signature.

    Raises:
        TypeError: If `model` is not a Keras model, or is a subclassed one.
        ValueError: If it has several inputs, an input that is no image, or unnamed outputs.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Only a Keras model can be exported. Received: {model!r} of type "
            f"{type(model).__name__}. Expected: a functional `keras.Model`. For an amalgamator, "
            "pass its student: `amalgamator.student`."
        )
    # A subclassed model keeps no `inputs`; there is no graph to read shapes and names from.
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise TypeError(
            f"Model '{model.name}' has no fixed graph of layers. Received: a "
            f"{type(model).__name__} without symbolic inputs. Expected: a functional model. "
            "Wrap it: `keras.Model(inputs, wrapped(inputs))` with `inputs = keras.Input(...)`."
        )
    if len(inputs) != 1:
        raise ValueError(
            f"Model '{model.name}' takes several inputs. Received: {len(inputs)} inputs "
            f"{[tensor.name for tensor in inputs]}. Expected: one tensor of raw images. Build a "
            "model that derives the others from the image."
        )
    shape = tuple(inputs[0].shape)
    if len(shape) != 4 or shape[3] is None:
        raise ValueError(
            f"Model '{model.name}' does not take images. Received: input shape {shape}. "
            "Expected: (batch, height, width, channels) with known channels. Export the whole "
            "student, from raw images on."
        )
    check_takes_images(model, f"Model '{model.name}'")
    outputs = model.compute_output_spec(inputs[0], training=False)
    if isinstance(outputs, dict):
        heads = {str(name): tuple(tensor.shape[1:]) for name, tensor in outputs.items()}
    elif isinstance(outputs, keras.KerasTensor):
        heads = {_single_head_name(model): tuple(outputs.shape[1:])}
    else:
        raise ValueError(
            f"The outputs of model '{model.name}' have no names. Received: a "
            f"{type(outputs).__name__} of {len(outputs)} tensors. Expected: a dict of tensors. "
            "Build the student with `keras.Model(inputs, {'birds': ..., 'dogs': ...})`."
        )
    return Signature((shape[1], shape[2], shape[3]), heads)


def outputs_of(model: keras.Model) -> Any:
    """The model's symbolic outputs; a sequential one has `output` only once it was called."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def serving_function(model: keras.Model, signature: Signature) -> Callable[[Any], dict[str, Any]]:
    """The function an artifact holds: images to `{head: float32 tensor}`, in inference mode.

    `training=False` is said outright. Without it `keras.layers.Resizing`, whose `call` has the
    default `training=True`, puts every layer after it into training mode (Keras 3.15), and
    batch norms would use the batch's statistics.
    """
    dtype = model.inputs[0].dtype

    def serve(image: Any) -> dict[str, Any]:
        outputs = model(keras.ops.cast(image, dtype), training=False)
        if not isinstance(outputs, dict):
            outputs = dict.fromkeys(signature.heads, outputs)
        return {name: keras.ops.cast(outputs[name], "float32") for name in signature.heads}

    return serve


def float32_copy(model: keras.Model) -> keras.Model:
    """The model computing in float32: itself, or a copy where a layer computes in another type.

    Args:
        model: A built model; it is not changed.

    Returns:
        `model` if every layer computes in float32 already, else a copy with the same weights.
    """
    config: Any = keras.saving.serialize_keras_object(model)
    in_float32 = _in_float32(config)
    return model if in_float32 == config else _rebuild(in_float32, model)


def bare_copy(model: keras.Model) -> keras.Model:
    """A copy with the same weights and dtype policy, without optimizer, losses and metrics."""
    return _rebuild(keras.saving.serialize_keras_object(model), model)


def flat_operations(model: keras.Model, whole_resizes: bool = False) -> Iterator[Any]:
    """The model's layers and bare operations in order, those of nested models included.

    Args:
        model: The model.
        whole_resizes: Whether a resize that is a nested model comes as that model.
    """
    for operation in getattr(model, "operations", model.layers):
        if whole_resizes and resize_of(operation) is not None:
            yield operation
        elif isinstance(operation, keras.Model):
            yield from flat_operations(operation, whole_resizes)
        else:
            yield operation


def spatial_size(
    model: keras.Model,
    image_shape: Sequence[int] | None = None,
    remedy: str = IMAGE_SHAPE,
    signature: Signature | None = None,
) -> tuple[int, int]:
    """Height and width for an artifact or a sample of fixed size.

    Args:
        model: A model that `describe` accepts.
        image_shape: `(height, width)` or `(height, width, channels)`; by default the model's
            own input size, else the size that it first resizes images to.
        remedy: The caller's argument that tells the size where it cannot be inferred.
        signature: The model's, where it was described already.

    Returns:
        `(height, width)` in pixels.

    Raises:
        ValueError: If `image_shape` contradicts the model, or is missing and cannot be inferred.
    """
    height, width, channels = (signature or describe(model)).image_shape
    if image_shape is not None:
        asked = tuple(image_shape)
        own = (height, width, channels)[: len(asked)]
        fits = all(mine in (None, its) for mine, its in zip(own, asked, strict=True))
        if len(asked) not in (2, 3) or not fits:
            raise ValueError(
                f"The image size does not fit model '{model.name}'. Received: {asked}. Expected: "
                f"(height, width) or (height, width, channels) agreeing with the model's "
                f"{(height, width, channels)}. Leave it out to use the model's own size."
            )
        return int(asked[0]), int(asked[1])
    if height is not None and width is not None:
        return height, width
    for operation in flat_operations(model, whole_resizes=True):
        if (resize := resize_of(operation)) is not None:
            return resize.full_size
        if isinstance(operation, keras.layers.Resizing):
            return int(operation.height), int(operation.width)
        # The class behind `keras.ops.image.resize` is not public.
        if type(operation).__name__ == "Resize":
            return int(operation.size[0]), int(operation.size[1])
    raise ValueError(
        f"Model '{model.name}' takes images of any size, so their size here is unknown. "
        f"Received: input shape {(None, height, width, channels)} and no resizing to infer "
        f"it from. Expected: a fixed height and width. Pass {remedy} of the size you mean."
    )


def _single_head_name(model: keras.Model) -> str:
    if isinstance(model, keras.Sequential):
        return model.layers[-1].name
    return model.output_names[0]


def _rebuild(config: Any, model: keras.Model) -> keras.Model:
    config = {key: value for key, value in config.items() if key != "compile_config"}
    try:
        # It was made from a live model a moment ago, so its functions can be trusted.
        copy: Any = keras.saving.deserialize_keras_object(
            config, custom_objects=_own_objects(model), safe_mode=False
        )
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Model '{model.name}' cannot be copied. Received: layers that Keras cannot make from "
            f"their configuration ({str(error).splitlines()[0][:200]}). Expected: layers whose "
            "`get_config` has all arguments of their constructor. Add what is missing."
        ) from error
    copy.set_weights(model.get_weights())
    return copy


def _own_objects(model: keras.Model) -> dict[str, Any]:
    """The classes of a model's layers and their activations by name, registered or not."""
    found: dict[str, Any] = {}
    for operation in flat_operations(model):
        activation = getattr(operation, "activation", None)
        for one in (type(operation), activation):
            name, module = getattr(one, "__name__", None), str(getattr(one, "__module__", ""))
            if name is not None and module.split(".")[0] != "keras":
                found[name] = one
    return found


def _in_float32(config: Any) -> Any:
    """A serialized model with every dtype and policy of another precision replaced."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    key = "name" if config.keys() == {"name"} else "dtype"
    return {
        name: "float32" if name == key and _is_other(value) else _in_float32(value)
        for name, value in config.items()
    }


def _is_other(value: Any) -> bool:
    return isinstance(value, str) and value in _OTHER_PRECISION
