"""How the networks of `keras.applications` want their images."""

from collections.abc import Callable
from typing import Any

import keras

from keras_amalgam.images.preprocessing import Preprocessing

_MINUS_ONE_TO_ONE = Preprocessing(scale=1 / 127.5, mean=1.0)
_STANDARDISED = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_BGR_MINUS_MEAN = Preprocessing(scale=1.0, mean=(103.939, 116.779, 123.68), channels="bgr")
_RAW = Preprocessing(scale=1.0)

# Beginnings of the networks' names, so that a longer one stands before a shorter.
_FAMILIES = {
    "ConvNeXt": _RAW,
    "DenseNet": _STANDARDISED,
    "EfficientNet": _RAW,
    "Inception": _MINUS_ONE_TO_ONE,
    "MobileNetV3": _RAW,
    "MobileNet": _MINUS_ONE_TO_ONE,
    "NASNet": _MINUS_ONE_TO_ONE,
    "ResNet": _BGR_MINUS_MEAN,
    "VGG": _BGR_MINUS_MEAN,
    "Xception": _MINUS_ONE_TO_ONE,
}
# With include_preprocessing=False; the other families have no such argument.
_BARE_FAMILIES = {
    "ConvNeXt": _STANDARDISED,
    "EfficientNetV2B": _STANDARDISED,
    "EfficientNetV2": Preprocessing(scale=1 / 128, mean=1.0),
    "MobileNetV3": _MINUS_ONE_TO_ONE,
}


def preprocessing_of(
    application: str | Callable[..., keras.Model], *, include_preprocessing: bool = True
) -> Preprocessing:
    """The preprocessing that a network of `keras.applications` was trained with.

    It does what the `preprocess_input` of the network's module does. The size is left open:
    `Teacher` takes the model's own.

    Args:
        application: The function that builds the network, or its name, as `"MobileNetV2"`.
        include_preprocessing: As it was given to that function: `False` for a ConvNeXt,
            EfficientNetV2 or MobileNetV3 built without the rescaling inside.

    Returns:
        How 0..255 images become the network's input.

    Raises:
        ValueError: If there is no such network, or it has no `include_preprocessing`.

    Example:
    ```python
    model = from_keras(keras.applications.ResNet50(weights="resnet50.weights.h5"))
    teacher = Teacher(model, name="imagenet", class_names=NAMES,
                      preprocessing=preprocessing_of("ResNet50"))
    ```
    """
    name = application if isinstance(application, str) else getattr(application, "__name__", "")
    builder_of(name)
    if name.startswith("ResNet") and name.endswith("V2"):
        return _MINUS_ONE_TO_ONE
    families = _FAMILIES if include_preprocessing else _BARE_FAMILIES
    for beginning, preprocessing in families.items():
        if name.startswith(beginning):
            return preprocessing
    if include_preprocessing:
        raise ValueError(
            f"How keras.applications.{name} wants its images is not known here. Say it with "
            "Preprocessing(…)."
        )
    raise ValueError(
        f"keras.applications.{name} has no include_preprocessing. Received: "
        "include_preprocessing=False. Leave it out."
    )


def builder_of(name: str) -> Callable[..., keras.Model]:
    """The function of `keras.applications` that builds a network.

    Args:
        name: As `"MobileNetV2"`.

    Raises:
        ValueError: If there is none.
    """
    builder: Any = getattr(keras.applications, name, None) if name[:1].isupper() else None
    if not callable(builder):
        known = [n for n in dir(keras.applications) if n[:1].isupper()]
        raise ValueError(f"keras.applications has no network {name!r}. It has {', '.join(known)}.")
    return builder
