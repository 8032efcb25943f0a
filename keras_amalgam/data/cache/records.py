"""One view of an image with the teachers' signals on it, as a record of a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_amalgam.models.signals import Signals

IMAGE, SOURCE, ID = "image", "source", "id"
_SIGNALS = "signals"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RecordSpec:
    """What every record of a cache holds.

    Args:
        image: `(height, width, channels)` of a view, and its type's name.
        signals: By name, as in `"digits/features/top"`, the shape without the batch axis and the
            name of the type it is stored in.
    """

    image: tuple[tuple[int, ...], str]
    signals: Mapping[str, tuple[tuple[int, ...], str]]

    @classmethod
    def of(cls, images: Any, signals: Mapping[str, Signals], features: str) -> "RecordSpec":
        """That of images and the signals on them, with or without their batch axis known.

        Args:
            images: Views `(batch, height, width, channels)`.
            signals: By teacher.
            features: The type in which features are stored; answers are stored in float32.
        """
        stored = {
            name: (tuple(value.shape[1:]), "float32" if _is_answer(name) else features)
            for name, value in flat(signals).items()
        }
        return cls((tuple(images.shape[1:]), tf.as_dtype(images.dtype).name), stored)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "RecordSpec":
        """What `to_config` wrote."""
        shape, kind = config["image"]
        signals = {name: (tuple(s), k) for name, (s, k) in config["signals"].items()}
        return cls((tuple(shape), kind), signals)

    def to_config(self) -> dict[str, Any]:
        """The specification as JSON-ready values."""
        signals = {name: [list(shape), kind] for name, (shape, kind) in self.signals.items()}
        return {"image": [list(self.image[0]), self.image[1]], "signals": signals}

    @property
    def bytes_per_record(self) -> int:
        """What the tensors of one record take."""
        tensors = [self.image, *self.signals.values()]
        return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in tensors)

    def written(self, views: np.ndarray, numbers: Mapping[str, np.ndarray], signals: Arrays) -> Any:
        """The records of a batch, serialized one after the other.

        Args:
            views: `(batch, height, width, channels)`.
            numbers: `SOURCE` and `ID` of each, `(batch,)`.
            signals: Flat, as `flat` makes them, `(batch, …)`.

        Raises:
            ValueError: If a signal is not finite, or too large for the type it is stored in.
        """
        stored = {
            name: _cast(name, signals[name], kind) for name, (_, kind) in self.signals.items()
        }
        columns = {
            IMAGE: views.astype(self.image[1]),
            **{f"{_SIGNALS}/{name}": values for name, values in stored.items()},
        }
        for row in range(len(views)):
            feature = {name: _bytes(column[row]) for name, column in columns.items()}
            feature |= {name: _integer(column[row]) for name, column in numbers.items()}
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            # In one order of the names, or every process would write other bytes.
            yield example.SerializeToString(deterministic=True)

    def error(self, signals: Arrays) -> float:
        """What storing costs: the largest error of a signal, as a part of its size, by its norm.

        Args:
            signals: Flat, as `flat` makes them, `(batch, …)`.
        """
        errors = [0.0]
        for name, (_, kind) in self.signals.items():
            values = signals[name].astype("float64")
            if size := np.linalg.norm(values):
                errors.append(float(np.linalg.norm(values - values.astype(kind)) / size))
        return max(errors)

    def parsed(self, records: tf.Tensor) -> dict[str, Any]:
        """A batch of records as they are stored.

        Args:
            records: Serialized, `(batch,)`.
        """
        tensors = {IMAGE: self.image} | {f"{_SIGNALS}/{n}": one for n, one in self.signals.items()}
        held = tf.io.parse_example(
            records,
            {name: tf.io.FixedLenFeature((), tf.string) for name in tensors}
            | {name: tf.io.FixedLenFeature((), tf.int64) for name in (SOURCE, ID)},
        )

        def tensor(name: str) -> tf.Tensor:
            shape, kind = tensors[name]
            values = tf.io.decode_raw(held[name], tf.as_dtype(kind))
            return tf.reshape(values, (-1, *shape))

        signals = {name: tensor(f"{_SIGNALS}/{name}") for name in self.signals}
        source = tf.cast(held[SOURCE], tf.int32)
        return {IMAGE: tensor(IMAGE), SOURCE: source, ID: held[ID], _SIGNALS: nested(signals)}

    def batch(self, parsed: Mapping[str, Any], with_source: bool) -> dict[str, Any]:
        """Parsed records in the form in which `Batch.of` takes them, signals in float32.

        Args:
            parsed: As `parsed` returns them.
            with_source: Whether it means anything which source an image is from.
        """
        left_out = () if with_source else (SOURCE,)
        known = {name: value for name, value in parsed.items() if name not in left_out}
        widened = tf.nest.map_structure(lambda one: tf.cast(one, tf.float32), known[_SIGNALS])
        return {**known, _SIGNALS: widened}

    def features(self) -> tfds.features.FeaturesDict:
        """How TFDS reads the records."""
        inside: dict[str, Any] = {}
        for name, (shape, kind) in self.signals.items():
            place = inside
            *above, last = name.split("/")
            for part in above:
                place = place.setdefault(part, {})
            place[last] = _tensor(shape, kind)
        numbers = {SOURCE: np.int64, ID: np.int64}
        return tfds.features.FeaturesDict(
            {IMAGE: _tensor(*self.image), **numbers, _SIGNALS: inside}
        )


def flat(signals: Mapping[str, Signals]) -> dict[str, Any]:
    """Signals by teacher as one mapping, by names such as `"digits/features/top"`."""
    return {
        f"{teacher}/{kind}/{name}": value
        for teacher, one in signals.items()
        for kind, values in one.as_dict().items()
        for name, value in values.items()
    }


def nested(signals: Mapping[str, Any]) -> dict[str, Any]:
    """Flat signals in the form in which a data set carries them."""
    found: dict[str, Any] = {}
    for name, value in signals.items():
        teacher, kind, inner = name.split("/", 2)
        found.setdefault(teacher, {}).setdefault(kind, {})[inner] = value
    return found


def _is_answer(name: str) -> bool:
    return name.split("/", 2)[1] == "answers"


def _tensor(shape: tuple[int, ...], kind: str) -> tfds.features.Tensor:
    return tfds.features.Tensor(
        shape=shape, dtype=np.dtype(kind).type, encoding=tfds.features.Encoding.BYTES
    )


def _cast(name: str, values: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # It is looked for here.
        cast = values.astype(kind)
    if not np.isfinite(cast).all():
        largest = np.abs(values).max()
        raise ValueError(
            f"Signals {name!r} cannot be stored in {kind}. Received: values up to {largest:.3g}. "
            + (
                "Give features='float32'."
                if np.isfinite(largest)
                else "Look at what the teacher answers on these images."
            )
        )
    return cast


def _bytes(value: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))


def _integer(value: Any) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
