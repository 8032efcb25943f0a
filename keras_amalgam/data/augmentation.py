"""Random changes of a batch of images, drawn once: teachers and student see the same view."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

FILLS = ("zero", "edge")
_OP_FILL = {"zero": "CONSTANT", "edge": "NEAREST"}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How images may be changed at random; every image of a batch is drawn for itself.

    In order: flip, rotation, zoom and translation in one step; contrast and brightness; mixup. The
    default changes nothing. Whole-pixel translations and flips copy pixels exactly; rotation and
    zoom interpolate bilinearly. Values stay in 0..255; `uint8` images stay `uint8`, rounded.

    Args:
        translation: Largest shift along each axis, in whole pixels; uniform in
            -translation..translation.
        flip: Whether images are mirrored left to right, half of them.
        rotation: Largest angle in degrees; uniform in -rotation..rotation.
        zoom: Largest relative change of size; the factor is uniform in 1 - zoom..1 + zoom.
        brightness: Largest shift of all values, as a part of 255.
        contrast: Largest relative change of the distance from the image's mean value.
        mixup: If positive, an image is blended with another of the same source: weight of itself
            max(w, 1 - w) with w from Beta(mixup, mixup).
        fill: What comes in from outside: `"zero"` or `"edge"` (the nearest pixel).

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        [Zhang et al., 2018](https://arxiv.org/abs/1710.09412) (mixup);
        [Beyer et al., 2022](https://arxiv.org/abs/2106.05237) (the same view for teacher and
        student)

    Example:
        >>> shift = Augmentation(translation=2)
        >>> views = shift(images, seed=(0, 1))
    """

    translation: int = 0
    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    fill: str = "zero"

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.fill not in FILLS:
            raise ValueError(
                f"Augmentation has no such fill. Received: fill={self.fill!r}. Choose one of "
                f"{FILLS}."
            )
        if int(self.translation) != self.translation:
            raise ValueError(
                f"Augmentation shifts by whole pixels. Received: translation={self.translation}. "
                "Give an integer."
            )
        limits = {
            "translation": float("inf"),
            "rotation": 180.0,
            "zoom": 0.9,
            "brightness": 1.0,
            "contrast": 1.0,
            "mixup": float("inf"),
        }
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0.0 <= value <= limit:
                raise ValueError(
                    f"Augmentation's {name} is out of range. Received: {name}={value}. Give a "
                    f"number in 0..{limit:g}."
                )

    def __call__(self, images: tf.Tensor, seed: tf.Tensor | tuple[int, int]) -> tf.Tensor:
        """Changes a batch; the same seed gives the same views.

        Args:
            images: `(batch, height, width, channels)`, `uint8` or `float32`, in 0..255.
            seed: Two integers.

        Returns:
            Images of the same shape and type.
        """
        images = tf.convert_to_tensor(images)
        return augment_by_source(images, [self], tf.zeros(tf.shape(images)[0], tf.int32), seed)


def augment_by_source(
    images: tf.Tensor,
    augmentations: Sequence[Augmentation],
    source: tf.Tensor,
    seed: tf.Tensor | tuple[int, int],
) -> tf.Tensor:
    """Changes each image of a batch as the augmentation of its source says.

    Args:
        images: `(batch, height, width, channels)`, `uint8` or `float32`, in 0..255.
        augmentations: One per source.
        source: Which augmentation is for which image, `(batch,)` int32.
        seed: Two integers.

    Returns:
        Images of the same shape and type.
    """
    draws = _Draws(augmentations, source, seed)
    result = images
    if draws.uses("translation", "flip", "rotation", "zoom"):
        result = _move(result, draws)
    if draws.uses("contrast", "brightness"):
        result = _light(tf.cast(result, tf.float32), draws)
    if draws.uses("mixup"):
        result = _mix(tf.cast(result, tf.float32), draws)
    if result.dtype != images.dtype:
        result = tf.clip_by_value(result, 0.0, 255.0)
        result = tf.cast(tf.round(result), tf.uint8) if images.dtype == tf.uint8 else result
    elif images.dtype != tf.uint8:
        result = tf.clip_by_value(result, 0.0, 255.0)
    return result


class _Draws:
    """Random numbers per image, within the limits of the image's source."""

    def __init__(self, augmentations, source, seed):
        self.augmentations, self.source, self.seed = augmentations, source, seed
        self.shape = tf.shape(source)

    def uses(self, *names: str) -> bool:
        return any(getattr(a, name) for a in self.augmentations for name in names)

    def limit(self, name: str) -> tf.Tensor:
        values = [float(getattr(a, name)) for a in self.augmentations]
        return tf.gather(tf.constant(values, tf.float32), self.source)

    def folded(self, stream: int) -> tf.Tensor:
        return tf.convert_to_tensor(tf.random.fold_in(self.seed, stream))

    def uniform(self, stream: int) -> tf.Tensor:
        """In 0..1, 1 excluded; each use has its own stream number."""
        return tf.random.stateless_uniform(self.shape, self.folded(stream))

    def symmetric(self, name: str, stream: int) -> tf.Tensor:
        if not self.uses(name):
            return tf.zeros(self.shape)
        return self.limit(name) * (2.0 * self.uniform(stream) - 1.0)

    def whole(self, name: str, stream: int) -> tf.Tensor:
        if not self.uses(name):
            return tf.zeros(self.shape)
        limit = self.limit(name)
        return tf.floor(self.uniform(stream) * (2.0 * limit + 1.0)) - limit


def _move(images: tf.Tensor, draws: _Draws) -> tf.Tensor:
    shift = (draws.whole("translation", 0), draws.whole("translation", 1))
    mirrored = draws.uniform(2) < 0.5 * draws.limit("flip")
    angle = draws.symmetric("rotation", 3) * (3.141592653589793 / 180.0)
    factor = 1.0 + draws.symmetric("zoom", 4)
    matrices = inverse_transforms(tf.shape(images)[1:3], shift, mirrored, angle, factor)
    between = draws.uses("rotation", "zoom")
    moved = tf.cast(images, tf.float32) if between else images
    fills = {a.fill for a in draws.augmentations}
    results = {fill: _transform(moved, matrices, fill, between) for fill in fills}
    if len(results) == 1:
        return next(iter(results.values()))
    is_zero = tf.constant([a.fill == "zero" for a in draws.augmentations])
    pick_zero = tf.gather(is_zero, draws.source)[:, None, None, None]
    return tf.where(pick_zero, results["zero"], results["edge"])


def inverse_transforms(
    size: tf.Tensor,
    shift: tuple[tf.Tensor, tf.Tensor],
    mirrored: tf.Tensor,
    angle: tf.Tensor,
    factor: tf.Tensor,
) -> tf.Tensor:
    """For each image the map from a place in the result to the place it is read from.

    With centre c, shift d, rotation R, zoom z and mirror F = diag(±1, 1):
    `place_in = F R (place_out - c - d) / z + c`.

    Args:
        size: Height and width in pixels.
        shift: Right and down, in pixels, each `(batch,)`.
        mirrored: Whether left and right are exchanged, `(batch,)` bool.
        angle: Counter-clockwise as seen, in radians, `(batch,)`.
        factor: Above 1 enlarges, `(batch,)`.

    Returns:
        Projective coefficients `(batch, 8)` as `ImageProjectiveTransformV3` takes them.
    """
    centre = (tf.cast(size, tf.float32) - 1.0) / 2.0
    y_centre, x_centre = centre[0], centre[1]
    sign = tf.where(mirrored, -1.0, 1.0)
    cosine, sine = tf.cos(angle) / factor, tf.sin(angle) / factor
    x_from, y_from = x_centre + shift[0], y_centre + shift[1]
    zero = tf.zeros_like(angle)
    rows = [
        sign * cosine,
        -sign * sine,
        x_centre - sign * (cosine * x_from - sine * y_from),
        sine,
        cosine,
        y_centre - (sine * x_from + cosine * y_from),
        zero,
        zero,
    ]
    return tf.stack(rows, axis=-1)


def _transform(images: tf.Tensor, matrices: tf.Tensor, fill: str, between: bool) -> tf.Tensor:
    result = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrices,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR" if between else "NEAREST",
        fill_mode=_OP_FILL[fill],
        fill_value=0.0,
    )
    return tf.ensure_shape(result, images.shape)


def _light(images: tf.Tensor, draws: _Draws) -> tf.Tensor:
    factor = 1.0 + draws.symmetric("contrast", 5)
    shift = 255.0 * draws.symmetric("brightness", 6)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * _per_image(factor) + mean + _per_image(shift)


def _mix(images: tf.Tensor, draws: _Draws) -> tf.Tensor:
    limit = draws.limit("mixup")
    shape = tf.maximum(limit, 1e-3)  # a gamma of shape zero does not exist
    first = tf.random.stateless_gamma(draws.shape, draws.folded(7), alpha=shape)
    second = tf.random.stateless_gamma(draws.shape, draws.folded(8), alpha=shape)
    own = tf.math.divide_no_nan(tf.maximum(first, second), first + second)
    # Sorted by source, at random within it, each image's partner is the next of its source.
    order = tf.argsort(tf.cast(draws.source, tf.float32) + draws.uniform(9))
    partner = tf.scatter_nd(order[:, None], tf.roll(order, -1, axis=0), tf.shape(order))
    same = tf.equal(tf.gather(draws.source, partner), draws.source)
    own = _per_image(tf.where(same & (limit > 0.0) & (own > 0.0), own, 1.0))
    return own * images + (1.0 - own) * tf.gather(images, partner)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]
