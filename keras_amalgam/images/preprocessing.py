"""What a network's authors did to an image before it went in."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.images.resizing import Resize
from keras_amalgam.keras_settings import keras_defaults

Channels = Literal["rgb", "bgr", "grey"]
INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")

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
            or `"lanczos5"`.
        antialias: Whether shrinking is antialiased, as in Pillow, torchvision and OpenCV's area
            mode; `False` as in `keras.layers.Resizing` and `tf.image.resize` unless they are told
            otherwise. Nearest never is. Without it only bilinear and nearest run under XLA, and
            export to TFLite.
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
    antialias: bool = True
    crop_fraction: float = 1.0
    channels: Channels | None = None
    crop_to_aspect_ratio: bool = False

    def __post_init__(self) -> None:
        """Normalise sequences to tuples, so that equal settings compare equal, and validate."""
        for field in ("size", "scale", "mean", "std", "crop_fraction"):
            object.__setattr__(self, field, _plain(getattr(self, field)))
        _check_numbers(self)
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
        self._check_channels(images, channels)
        x = images if self.size is None else self._to_size(images, self.size)
        x = self._to_channels(x, channels)
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

    def _check_channels(self, images: keras.KerasTensor, channels: int) -> None:
        given, needed = images.shape[-1], 1 if self._order(channels) == "grey" else 3
        per_channel = {len(_as_tuple(v)) for v in (self.mean, self.std)} - {1}
        if given not in (1, 3) or channels != needed or per_channel - {channels}:
            raise ValueError(
                "Images and network disagree about channels. Received: images with "
                f"{given} channel(s), a network that takes {channels}, "
                f"channels={self._order(channels)!r}, mean={self.mean}, std={self.std}. Images "
                "must have 1 or 3 channels, an 'rgb' or 'bgr' network takes 3 and a 'grey' one "
                "takes 1, and `mean` and `std` have one value or one per channel."
            )

    def _order(self, channels: int) -> Channels:
        return self.channels or ("grey" if channels == 1 else "rgb")

    def _to_channels(self, images: keras.KerasTensor, channels: int) -> keras.KerasTensor:
        given, order = images.shape[-1], self._order(channels)
        if given == 1 and channels == 3:
            return keras.layers.Concatenate(dtype="float32")([images] * 3)
        if given == 3 and channels == 1:
            return ops.image.rgb_to_grayscale(images, data_format="channels_last")
        return ops.flip(images, axis=-1) if order == "bgr" else images

    @property
    def size_before_crop(self) -> tuple[int, int] | None:
        """`(height, width)` that images are resized to, of which `size` is the centre."""
        if self.size is None:
            return None
        height, width = (round(side / self.crop_fraction) for side in self.size)
        return height, width

    def resized(self, images: Any) -> Any:
        """Images as the preprocessing resizes and crops them, computed outside of any model.

        The backend's own resize: much faster on photographs of many megapixels than the one that
        every exported graph can hold, and equal to it.

        Args:
            images: Shape `(batch, height, width, channels)`, float32; sizes may be open.

        Returns:
            Shape `(batch, *size, channels)`; the images themselves where there is no `size`.
        """
        return images if self.size is None else self._at_once(images, self.size, self.antialias)

    def _to_size(self, images: keras.KerasTensor, size: tuple[int, int]) -> keras.KerasTensor:
        if self.antialias and self.interpolation != "nearest":
            covers, interpolation = self.crop_to_aspect_ratio, self.interpolation
            return Resize(size, self.size_before_crop, covers, interpolation)(images)
        # Not the layer Resizing: its call() defaults to training=True, which Keras then hands to
        # every layer behind it, so that calling the model plainly would train its batch norms.
        return self._at_once(images, size, antialias=False)

    def _at_once(self, images: Any, size: tuple[int, int], antialias: bool) -> Any:
        height, width = self.size_before_crop or size
        x = ops.image.resize(
            images,
            (height, width),
            interpolation=self.interpolation,
            antialias=antialias and self.interpolation != "nearest",
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            data_format="channels_last",
        )
        if (height, width) != size:
            top, left = (height - size[0]) // 2, (width - size[1]) // 2
            x = x[:, top : top + size[0], left : left + size[1]]
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


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, which a card can hold, and lists as tuples."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _check_numbers(settings: Preprocessing) -> None:
    for field in ("scale", "mean", "std", "crop_fraction"):
        value = getattr(settings, field)
        per_channel = field in ("mean", "std")
        numbers = _as_tuple(value) if per_channel else (value,)
        if not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
            wanted = "a number, or one per channel" if per_channel else "a number"
            raise TypeError(f"`{field}` must be {wanted}. Received: {value!r}.")


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
