"""The published forms of the common space, each behind the same three methods."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import keras

from keras_amalgam.layers.adapter import Adapter, check_at_least_one
from keras_amalgam.layers.common_space import CommonExtractor, FeatureDecoder
from keras_amalgam.layers.variant_b import AdapterB, CommonExtractorB, FeatureDecoderB

VariantName = Literal["A", "B"]


class CommonSpace(Protocol):
    """What a common space is made of. Layers take their form, for maps or vectors, when built.

    Every layer can be called with `training=…`, whether it needs it or not. The extractor has
    `blocks`, whose `call`, like that of adapter and decoder, is made of stock layers alone.
    """

    @property
    def units(self) -> int:
        """Channels of the common space."""
        ...

    @property
    def adapted_units(self) -> int:
        """Channels of the adapted features, which the extractor is built on."""
        ...

    def mixes_batch(self, rank: int) -> bool:
        """Whether images of a batch see each other in training, by batch norm.

        If so, each model's features need calls of their own.

        Args:
            rank: Of the features with the batch axis: 4 for maps, 2 for vectors.
        """
        ...

    def adapter(self, **kwargs: Any) -> keras.layers.Layer:
        """A new layer from one model's features to `adapted_units` channels.

        Args:
            **kwargs: Of the layer.
        """
        ...

    def extractor(self, **kwargs: Any) -> Any:
        """A new layer from adapted to common features, to be shared by all models.

        Args:
            **kwargs: Of the layer.
        """
        ...

    def decoder(self, channels: int, **kwargs: Any) -> keras.layers.Layer:
        """A new layer from common features back to a teacher's.

        Args:
            channels: Of the teacher's features.
            **kwargs: Of the layer.
        """
        ...


@dataclass(frozen=True)
class VariantA:
    """The published release: convolutions without bias or batch norm, three residual blocks.

    On vectors each convolution is a dense layer. The release has `units=128`.

    Args:
        units: Channels h of the common space; the adapted features have 2h.

    Raises:
        ValueError: If `units` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)

    Example:
    ```python
    space = VariantA(128)
    adapted = space.adapter()(features)
    common = space.extractor()(adapted)
    reconstruction = space.decoder(features.shape[-1])(common)
    ```
    """

    units: int

    def __post_init__(self) -> None:
        """Check the channels."""
        check_at_least_one(units=self.units)

    @property
    def adapted_units(self) -> int:
        """Twice the channels of the common space."""
        return 2 * self.units

    def mixes_batch(self, rank: int) -> bool:
        """Never: there is no batch norm."""
        return False

    def adapter(self, **kwargs: Any) -> keras.layers.Layer:
        """A new `Adapter`."""
        return Adapter(self.adapted_units, **kwargs)

    def extractor(self, **kwargs: Any) -> Any:
        """A new `CommonExtractor`."""
        return CommonExtractor(self.units, **kwargs)

    def decoder(self, channels: int, **kwargs: Any) -> keras.layers.Layer:
        """A new `FeatureDecoder`."""
        return FeatureDecoder(channels, **kwargs)


@dataclass(frozen=True)
class VariantB:
    """The authors' later engine: two residual blocks with batch norm on maps, dense on vectors.

    The engine has a quarter of the student's channels as `units`.

    Args:
        units: Channels h of the common space and of the adapted features.

    Raises:
        ValueError: If `units` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546), as implemented later by the same group
        in [KamalEngine](https://github.com/zju-vipa/KamalEngine)

    Example:
    ```python
    space = VariantB(128)
    adapted = space.adapter()(features, training=True)
    common = space.extractor()(adapted, training=True)
    reconstruction = space.decoder(features.shape[-1])(common, training=True)
    ```
    """

    units: int

    def __post_init__(self) -> None:
        """Check the channels."""
        check_at_least_one(units=self.units)

    @property
    def adapted_units(self) -> int:
        """The channels of the common space."""
        return self.units

    def mixes_batch(self, rank: int) -> bool:
        """On maps, whose layers have batch norm."""
        return rank == 4

    def adapter(self, **kwargs: Any) -> keras.layers.Layer:
        """A new `AdapterB`."""
        return AdapterB(self.units, **kwargs)

    def extractor(self, **kwargs: Any) -> Any:
        """A new `CommonExtractorB`."""
        return CommonExtractorB(self.units, **kwargs)

    def decoder(self, channels: int, **kwargs: Any) -> keras.layers.Layer:
        """A new `FeatureDecoderB`."""
        return FeatureDecoderB(channels, **kwargs)


VARIANTS: dict[str, type[VariantA] | type[VariantB]] = {"A": VariantA, "B": VariantB}


def common_space_variant(name: VariantName, units: int) -> CommonSpace:
    """The variant of a name.

    Args:
        name: `"A"`, the published release, or `"B"`, the authors' later engine.
        units: Channels of the common space, at least 1.

    Raises:
        ValueError: If there is no such variant or `units` is below 1.

    Example:
    ```python
    space = common_space_variant("B", units=128)
    ```
    """
    if name not in VARIANTS:
        raise ValueError(f"`name` must be one of {sorted(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name](units)
