"""One training stream from one or several unlabelled sources."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from keras_amalgam.data.augmentation import Augmentation, augment_by_source
from keras_amalgam.data.epochs import Epoch, EpochNumber
from keras_amalgam.data.memory import Footprint, free_memory
from keras_amalgam.data.mixing import mix_cached, mix_uncached
from keras_amalgam.data.prefetch import prefetched
from keras_amalgam.images.canvas import Canvas, CanvasSpec, check_unlabelled

_DEFAULT_EPOCH = Epoch()


def stream(
    sources: Mapping[str, tf.data.Dataset] | tf.data.Dataset,
    *,
    batch_size: int,
    canvas: CanvasSpec | None = None,
    proportions: Mapping[str, float] | None = None,
    augmentation: Augmentation | Mapping[str, Augmentation] | None = None,
    seed: int = 0,
    epoch: Epoch = _DEFAULT_EPOCH,
) -> tf.data.Dataset:
    """A shuffled, batched, endlessly repeatable stream of unlabelled images for `Amalgamator.fit`.

    One pass through the data set is one epoch. Without `proportions` it holds every image of every
    source once (but for a last batch that is not full, see `Epoch`), in a new order each time. With
    them it has the same length, or `Epoch.steps` batches, and each source its share, exact to one
    image: a source with too few images is passed through again, of one with too many each epoch
    takes others. The augmentation is drawn here, once, so teachers and student see the same views.

    Args:
        sources: Name -> unbatched images, each `(height, width, 1 or 3)`, in 0..255, from
            `from_tfds`, `from_folder`, `from_arrays` or your own; or one such data set.
        batch_size: Images per batch.
        canvas: `(height, width, channels)`, or with a method of `canvas` as fourth, that all
            images are brought to; `canvas_for` says which is right for the teachers. None if they
            have one shape already.
        proportions: Name -> relative weight (they need not sum to 1).
        augmentation: For all images, or name -> for the images of that source.
        seed: The order and the augmentation of an epoch's images depend on it and on the epoch's
            number alone. `Amalgamator.fit` sets the number; by hand, each pass is the next epoch.
        epoch: Length, shuffling, remainder and caching. Without a word about caching, images of
            more than a quarter of the free memory are read anew in each epoch, with a warning.

    Returns:
        A finite data set of known cardinality. From a mapping, batches `{"image": (batch, height,
        width, channels), "source": (batch,) int32}`, source k being the k-th of the mapping, whose
        names are the attribute `source_names`; from one data set, images only. `uint8` if all
        sources are, else `float32`.

    Raises:
        TypeError: If a source is no data set, bears labels or is of another type.
        ValueError: If a source is empty, endless, unreadable or outside 0..255, shapes differ
            without a canvas, or names do not fit.

    Example:
        >>> images = stream({"digits": digits, "fashion": fashion}, batch_size=64,
        ...                 augmentation={"fashion": Augmentation(translation=2, flip=True)})
    """
    named = sources if isinstance(sources, Mapping) else {"images": sources}
    placed = placed_sources(named, None if canvas is None else Canvas.parse(canvas))
    augmentations = augmentations_of(augmentation, list(named))
    augment = None if augmentation is None else _augment(list(augmentations.values()))
    number = EpochNumber()
    batches = _mixed(placed, batch_size, proportions, seed, epoch, number)

    def finish(images: tf.Tensor, source: tf.Tensor, seeds: tf.Tensor):
        images = images if augment is None else augment(images, source, seeds[0])
        return {"image": images, "source": source} if isinstance(sources, Mapping) else images

    mixed = prefetched(batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE))
    mixed.epoch_number = number  # pyright: ignore[reportAttributeAccessIssue]
    mixed.augmentations = augmentations  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(sources, Mapping):
        mixed.source_names = tuple(sources)  # pyright: ignore[reportAttributeAccessIssue]
    return mixed


def _mixed(
    placed: Mapping[str, tf.data.Dataset],
    batch_size: int,
    proportions: Mapping[str, float] | None,
    seed: int,
    epoch: Epoch,
    number: EpochNumber,
) -> tf.data.Dataset:
    """Batches from memory, or read anew in each epoch where that is wanted or memory is short."""
    footprint = Footprint.of(placed.values(), free_memory())
    if footprint.fits if epoch.cache is None else epoch.cache:
        return mix_cached(placed, batch_size, proportions, seed, epoch, number)
    if epoch.cache is None:
        warnings.warn(
            f"{footprint.sentence} Say Epoch(cache=False) if that is right, or Epoch(cache=True) "
            "to keep them nevertheless.",
            stacklevel=3,
        )
    window = footprint.window(epoch.window, len(placed))
    epoch = dataclasses.replace(epoch, window=window)
    return mix_uncached(placed, batch_size, proportions, seed, epoch, number)


def placed_sources(
    named: Mapping[str, tf.data.Dataset], place: Canvas | None
) -> dict[str, tf.data.Dataset]:
    """Sources of one shape and type, checked as far as that needs no reading."""
    if not named:
        raise ValueError("A stream needs at least one source. Received: an empty mapping. Add one.")
    placed = {}
    for name, dataset in named.items():
        check_unlabelled(dataset, f"Source '{name}'")
        size = int(dataset.cardinality())
        if size in (0, tf.data.INFINITE_CARDINALITY):
            raise ValueError(
                f"Source '{name}' must have a finite number of images, at least one. Received: "
                f"{'none' if size == 0 else 'an endless data set'}. "
                f"{'Give images.' if size == 0 else 'Cut it with `.take(number)`.'}"
            )
        if place is not None:
            dataset = dataset.map(place, num_parallel_calls=tf.data.AUTOTUNE)
        placed[name] = dataset
    shapes = {name: dataset.element_spec.shape for name, dataset in placed.items()}
    first = next(iter(shapes.values()))
    if not all(shape.is_fully_defined() and shape == first for shape in shapes.values()):
        received = {name: tuple(shape) for name, shape in shapes.items()}
        raise ValueError(
            f"Images of a stream must have one known shape. Received: {received}. Bring them to "
            "one with `canvas=(height, width, channels)`."
        )
    if any(dataset.element_spec.dtype != tf.uint8 for dataset in placed.values()):
        return {n: d.map(lambda image: tf.cast(image, tf.float32)) for n, d in placed.items()}
    return placed


def augmentations_of(
    augmentation: Augmentation | Mapping[str, Augmentation] | None, names: Sequence[str]
) -> dict[str, Augmentation]:
    """Of each source its own, from what the user gave."""
    if augmentation is None:
        augmentation = {}
    by_name = (
        augmentation if isinstance(augmentation, Mapping) else dict.fromkeys(names, augmentation)
    )
    for name, value in by_name.items():
        if name not in names:
            raise ValueError(
                f"Augmentation for a source that is not there. Received: '{name}'. Choose one of "
                f"{list(names)}."
            )
        if not isinstance(value, Augmentation):
            raise TypeError(
                f"A stream needs an Augmentation, or a mapping from names to them. Received: "
                f"{value!r}. Give for example data.Augmentation(translation=2)."
            )
    return {name: by_name.get(name, Augmentation()) for name in names}


def _augment(
    augmentations: Sequence[Augmentation],
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """One function of images, sources and seed."""
    return lambda images, source, seed: augment_by_source(images, augmentations, source, seed)
