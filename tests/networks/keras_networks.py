"""Architectures of `keras.applications` with random weights, through tf2onnx."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.networks.catalogue import Network

_MODELS: dict[str, dict[str, Any]] = {
    "MobileNetV3Small": {"include_preprocessing": False},
    "EfficientNetV2B0": {"include_preprocessing": False},
    "DenseNet121": {},
    "NASNetMobile": {},
    "Xception": {},
}


def networks() -> Iterator[Network]:
    """See `catalogue.networks`."""
    for name, options in _MODELS.items():
        yield Network(
            name=f"keras_{name.lower()}",
            source=f"keras.applications {name}, random weights",
            licence="Apache-2.0",
            size=(224, 224),
            writers={"keras, tf2onnx 18": _writer(name, options)},
        )


def _writer(name: str, options: dict[str, Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import keras

        from tests.networks import keras_modules

        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(
            weights=None, input_shape=(224, 224, 3), classifier_activation=None, **options
        )
        keras_modules.as_trained(model)
        return keras_modules.as_onnx(model, folder / f"keras_{name.lower()}.onnx")

    return write
