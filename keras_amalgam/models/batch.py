"""A batch of a training, parsed once where it comes in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_amalgam.models.signals import Signals

KEYS = ("image", "source", "signals", "id")


@dataclass(frozen=True)
class Batch:
    """Unlabelled images, and what is known of them.

    `images` may also be a `tf.TensorSpec`: parsing reads the structure alone.

    Args:
        images: Raw images in 0..255, shape `(batch, height, width, channels)`.
        source: Which teacher's collection each image is from, integers `(batch,)`, -1 for unknown;
            `None` if nothing is known of any.
        signals: Teachers' signals that came with the images, by teacher.
        ids: An integer per image `(batch,)` that is its own, such as its place in the collection;
            `None` without any.
    """

    images: Any
    source: Any | None = None
    signals: Mapping[str, Signals] = field(default_factory=dict)
    ids: Any | None = None

    @classmethod
    def of(cls, data: Any) -> "Batch":
        """Parse what a data set yields, or what is given to `fit`.

        Args:
            data: Images, or `{"image": images, "source": …, "signals": …, "id": …}` of which all
                but the images may be missing, or a tuple of one of these, as Keras makes it.

        Raises:
            ValueError: If there are labels or weights, or a dict has other keys.
        """
        if isinstance(data, cls):
            return data
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None:
            raise labels_refused("a data set of (images, labels)")
        if sample_weight is not None:
            raise ValueError(
                "Sample weights are not supported. Received: a data set with weights. Leave them "
                "out; keras_amalgam.data.stream(…, proportions=…) shows some images more often."
            )
        if not isinstance(x, Mapping):
            return cls(x)
        if "image" not in x or set(x) - set(KEYS):
            raise ValueError(
                "A batch must be images or {'image': images, 'source': numbers}, with 'signals' "
                f"and 'id' where there are any. Received: keys {sorted(x)}. Rename or leave out "
                "the others."
            )
        signals = {name: Signals.of(value) for name, value in x.get("signals", {}).items()}
        return cls(x["image"], x.get("source"), signals, x.get("id"))

    def as_element(self) -> Any:
        """The batch as a data set carries it: images alone, or a dict with what is known."""
        known = {
            "source": self.source,
            "signals": {name: one.as_dict() for name, one in self.signals.items()} or None,
            "id": self.ids,
        }
        known = {key: value for key, value in known.items() if value is not None}
        return {"image": self.images, **known} if known else self.images


def labels_refused(what: str) -> ValueError:
    """The error of a training that was given labels."""
    return ValueError(
        f"Amalgamation learns from images alone, without labels. Received: {what}. Pass only the "
        "images, or dataset.map(lambda image, label: image)."
    )
