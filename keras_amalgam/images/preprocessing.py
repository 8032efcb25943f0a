"""What a network's authors did to an image before it went in."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.keras_settings import keras_defaults

Channels = Literal["rgb", "bgr", "grey"]
INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")

# The usual factors on 0..255 pixels are 1/255, 1/127.5 and one over a standard deviation near 60;
# those on 0..1 are above one.
MAX_PIXEL_SCALE = 1 / 16

# Behind these, the axes are no longer those of the image that entered.
_TURNING = ("Permute", "Reshape", "Transpose", "Moveaxis", "Swapaxes", "Einsum")


@dataclass(frozen=True)
class Preprocessing:
    """One network's own way from a raw image to its input, built into the graph.

    Raw images are RGB or grey in 0..255. Grey images are repeated to three channels for an RGB
    network and RGB images become grey for a grey one, so one canvas serves every teacher. The
    result is `(pixel * scale - mean) / std`, per channel in the order that `channels` names.

    Only stock Keras layers and operations are used: a saved model loads without this package.

    Args:
        size: `(height, width)` the network takes, in pixels; `None` leaves the size as it is.
        scale: Factor on the 0..255 pixels.
        mean: Subtracted after scaling: one number or one per channel.
        std: Divisor after subtracting, positive: one number or one per channel.
        interpolation: Of the resizing: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"`
            or `"lanczos5"`. Only the first two run under XLA; bicubic does not export to TFLite.
        antialias: Whether shrinking is antialiased, as Pillow does; not possible under XLA.
        crop_fraction: Side of the central crop over the side resized to, in (0, 1]: 0.875 is
            the usual 256 → 224.
        channels: What the network takes: `"rgb"`, `"bgr"` or `"grey"`; `None` means `"grey"`
            for a network with one input channel and `"rgb"` otherwise.
        crop_to_aspect_ratio: Whether an image of another shape is cut to the shape of `size` about
            its centre before it is resized, rather than squeezed.

    Example:
    ```python
    imagenet = Preprocessing(
        size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    ```

    Raises:
        ValueError: If a value is out of its range.
    """

    size: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    interpolation: str = "bilinear"
    antialias: bool = False
    crop_fraction: float = 1.0
    channels: Channels | None = None
    crop_to_aspect_ratio: bool = False

    def __post_init__(self) -> None:
        """Normalise sequences to tuples, so that equal settings compare equal, and validate."""
        for field in ("size", "mean", "std"):
            value = getattr(self, field)
            if isinstance(value, (list, tuple)):
                object.__setattr__(self, field, tuple(value))
        _check_resizing(self)
        _check_normalisation(self)
        if self.channels not in (None, "rgb", "bgr", "grey"):
            raise ValueError(
                f"`channels` must be 'rgb', 'bgr' or 'grey'. Received: {self.channels!r}."
            )

    @keras_defaults()
    def build(self, images: keras.KerasTensor, channels: int) -> keras.KerasTensor:
        """Add the preprocessing to a functional graph.

        Args:
            images: Raw images in 0..255, shape `(batch, height, width, 1 or 3)`.
            channels: The network's number of input channels.

        Returns:
            The network's input, shape `(batch, *size, channels)`, float32.

        Raises:
            ValueError: If the channel counts cannot be brought together.
        """
        x = self._to_channels(images, channels)
        if self.size is not None:
            x = self._to_size(x)
        scale, offset = self.scale_and_offset()
        if isinstance(scale, list):
            # Rescaling would ask at every call which axis is the channels', by the user's setting.
            x = ops.cast(x, "float32") * np.array(scale, np.float32) + np.array(offset, np.float32)
        elif scale != 1.0 or offset != 0.0:
            x = keras.layers.Rescaling(scale, offset, dtype="float32")(x)
        return x

    def scale_and_offset(self) -> tuple[Any, Any]:
        """The normalisation as `pixel * scale + offset`, numbers or one list per channel."""
        mean, std = _as_tuple(self.mean), _as_tuple(self.std)
        width = max(len(mean), len(std))
        mean, std = mean * (width // len(mean)), std * (width // len(std))
        scale = [self.scale / s for s in std]
        offset = [0.0 - m / s for m, s in zip(mean, std, strict=True)]
        return (scale[0], offset[0]) if width == 1 else (scale, offset)

    def _to_channels(self, images: keras.KerasTensor, channels: int) -> keras.KerasTensor:
        given = images.shape[-1]
        wanted = self.channels or ("grey" if channels == 1 else "rgb")
        needed = 1 if wanted == "grey" else 3
        per_channel = {len(_as_tuple(v)) for v in (self.mean, self.std)} - {1}
        if given not in (1, 3) or channels != needed or per_channel - {channels}:
            raise ValueError(
                "Images and network disagree about channels. Received: images with "
                f"{given} channel(s), a network that takes {channels}, channels={wanted!r}, "
                f"mean={self.mean}, std={self.std}. Images must have 1 or 3 channels, an 'rgb' or "
                "'bgr' network takes 3 and a 'grey' one takes 1, and `mean` and `std` have one "
                "value or one per channel."
            )
        if given == 1 and needed == 3:
            return keras.layers.Concatenate(dtype="float32")([images] * 3)
        if given == 3 and needed == 1:
            return ops.image.rgb_to_grayscale(images, data_format="channels_last")
        return ops.flip(images, axis=-1) if wanted == "bgr" else images

    def _to_size(self, x: keras.KerasTensor) -> keras.KerasTensor:
        if self.size is None:
            return x
        height, width = (round(side / self.crop_fraction) for side in self.size)
        # Not the layer Resizing: its call() defaults to training=True, which Keras then hands to
        # every layer behind it, so that calling the model plainly would train its batch norms.
        x = ops.image.resize(
            x,
            (height, width),
            interpolation=self.interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            data_format="channels_last",
        )
        if (height, width) != self.size:
            top, left = (height - self.size[0]) // 2, (width - self.size[1]) // 2
            x = x[:, top : top + self.size[0], left : left + self.size[1]]
        return x

    def to_config(self) -> dict[str, Any]:
        """The settings as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_config`."""
        return cls(**config)


def as_input_of(x: Any, dtype: str) -> Any:
    """Preprocessed images as a network of some type takes them, rounded where it takes integers.

    Keras would cut the decimals off and let what is past the type's limits wrap around.

    Args:
        x: Images, symbolic or not, float32.
        dtype: Of the network's input.
    """
    if "int" not in dtype:
        return x
    limits = np.iinfo(dtype)
    return ops.cast(ops.clip(ops.round(x), int(limits.min), int(limits.max)), dtype)


def _check_resizing(settings: Preprocessing) -> None:
    size, fraction = settings.size, settings.crop_fraction
    if size is not None and not (
        isinstance(size, tuple)
        and len(size) == 2
        and all(isinstance(side, int) and side >= 1 for side in size)
    ):
        raise ValueError(
            f"`size` must be (height, width) in whole pixels, each at least 1. Received: {size}."
        )
    if settings.interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {INTERPOLATIONS}. "
            f"Received: {settings.interpolation!r}."
        )
    if not 0 < fraction <= 1:
        raise ValueError(f"`crop_fraction` must lie in (0, 1]. Received: {fraction}.")
    if size is None and (fraction < 1 or settings.crop_to_aspect_ratio):
        raise ValueError(
            "Cropping needs `size`, the size after the crop. Received: crop_fraction="
            f"{fraction}, crop_to_aspect_ratio={settings.crop_to_aspect_ratio}, size=None."
        )


def _check_normalisation(settings: Preprocessing) -> None:
    mean, std = _as_tuple(settings.mean), _as_tuple(settings.std)
    lengths = {len(mean), len(std)} - {1}
    received = f"Received: scale={settings.scale}, mean={settings.mean}, std={settings.std}."
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"`mean` and `std` must have one value, or one value per channel. {received}"
        )
    if not all(math.isfinite(value) for value in (settings.scale, *mean, *std)):
        raise ValueError(f"`scale`, `mean` and `std` must be finite. {received}")
    if min(settings.scale, *std) <= 0:
        raise ValueError(f"`scale` and `std` must be positive. {received}")


def _as_tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def check_takes_images(model: keras.Model, owner: str) -> None:
    """Refuse a model that does not take one batch of channels-last images.

    Args:
        model: A functional or sequential model.
        owner: Whom to name in the error, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If its input is no such batch.
    """
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            f"{owner} must take one batch of images (batch, height, width, channels). Received: "
            f"a model of input shape {shape}."
        )
    if shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise ValueError(
            f"{owner} takes its images channels-first. Received: a model of input shape {shape}. "
            "Expected: (batch, height, width, channels). Export it to ONNX and convert that with "
            "keras_amalgam.teachers.from_onnx, which makes it channels-last, or build it again "
            "with data_format='channels_last'."
        )
    if layer := _convolution_over_rows(model):
        raise ValueError(
            f"{owner} takes its images channels-last, but its layer {layer!r} is channels-first. "
            "That comes of keras.config.set_image_data_format('channels_first'), or of a keras.json"
            " that says so. Set it to 'channels_last' before you build the model."
        )


def _convolution_over_rows(model: keras.Model) -> str | None:
    """The first convolution that takes the rows of a channels-last image for its channels."""
    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.Model):
            if layer := _convolution_over_rows(operation):
                return layer
        elif type(operation).__name__ in _TURNING:
            return None
        elif hasattr(operation, "kernel_size"):
            first = operation.data_format == "channels_first"
            return operation.name if first else None
    return None


def has_built_in_rescaling(model: keras.Model) -> bool:
    """Whether the model itself takes 0..255 images.

    True if a `Rescaling` or `Normalization` layer stands before the first layer with weights,
    as in `keras.applications`' MobileNetV3 and EfficientNet.

    Args:
        model: A functional or sequential model with one input.
    """
    return _built_in_rescaling(model) is not None


def check_rescaled_once(model: keras.Model, preprocessing: Preprocessing, owner: str) -> None:
    """Refuse a preprocessing that shrinks pixels which the model shrinks itself.

    Args:
        model: A functional or sequential model with one input.
        preprocessing: What goes before it.
        owner: Whom to name in the error, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If both bring 0..255 to about 0..1 or -1..1.
    """
    layer = _built_in_rescaling(model)
    scale, _ = preprocessing.scale_and_offset()
    if layer is not None and np.max(scale) <= MAX_PIXEL_SCALE and _takes_pixels(layer):
        raise ValueError(
            f"{owner} would have its images rescaled twice. Received: preprocessing with "
            f"scale={preprocessing.scale:.4g}, std={preprocessing.std}, and a model whose layer "
            f"{layer.name!r} takes 0..255. Pass Preprocessing(…, scale=1.0), or leave it out."
        )


def _built_in_rescaling(model: keras.Model) -> keras.layers.Layer | None:
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            return layer
        if isinstance(layer, keras.Model) and (inner := _built_in_rescaling(layer)):
            return inner
        if layer.weights:
            return None
    return None


def _takes_pixels(layer: keras.layers.Layer) -> bool:
    """Whether the layer's numbers are made for 0..255: it divides by the order of a hundred."""
    if isinstance(layer, keras.layers.Rescaling):
        return bool(np.max(np.abs(layer.scale)) <= MAX_PIXEL_SCALE)
    deviation = np.sqrt(ops.convert_to_numpy(layer.variance))
    return bool(np.max(deviation) >= 1 / MAX_PIXEL_SCALE)
