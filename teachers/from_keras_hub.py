"""KerasHub's image models as teachers' models, with their own preprocessing."""

# KerasHub is an extra, which need not be there.
# pyright: reportMissingImports=false

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from keras_amalgam.files.keras_bounds import check_file
from keras_amalgam.files.keras_code import refuse_code
from keras_amalgam.files.provenance import Provenance
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.teachers.comparison.parity import check_parity
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.from_keras import check_form, reload_parity, weights_sha256
from keras_amalgam.teachers.runtimes.source_runtimes import KerasRuntime
from keras_amalgam.version import __version__

_SAY_IT = (
    "Leave it out, with classifier.preprocessor = None, and say how images are prepared with "
    "Preprocessing(…)."
)


@keras_defaults()
def from_keras_hub(
    source: str | Path | keras.Model, *, verify: bool = True, tolerance: float = 1e-4
) -> keras.Model:
    """An image classifier of KerasHub as a Keras model, with its own preprocessing.

    `model.preprocessing` is what the preset's image converter does, to be given to the teacher:
    `Teacher(model, …, preprocessing=model.preprocessing)`. It is `None` where the preset has no
    converter.

    A network whose layers are all Keras' own (ResNet, VGG, DenseNet, EfficientNet, Xception)
    becomes a functional model without any class of KerasHub, which loads without it. Any other
    (ViT, Swin, MobileNet, …) stays as KerasHub made it, and KerasHub must be installed wherever
    it is loaded.

    Args:
        source: A preset's name, which KerasHub downloads, or its directory; or an `ImageClassifier`
            or `Backbone` in memory.
        verify: Whether the model is compared with KerasHub's own, and with itself after it was
            saved and read again.
        tolerance: Largest error allowed then, as a fraction of an output's range, or of 1.

    Returns:
        The model, over the same weights, with `model.preprocessing` and `model.provenance`.

    Raises:
        ImportError: If KerasHub is not installed.
        TypeError: If `source` is neither a preset nor a model of KerasHub.
        ValueError: If the preset cannot be loaded, is damaged or holds code; if its preprocessing
            cannot be expressed; or if the result differs from KerasHub's.

    Example:
    ```python
    model = from_keras_hub("resnet_50_imagenet")
    teacher = Teacher(model, name="imagenet", class_names=NAMES,
                      preprocessing=model.preprocessing)
    ```
    """
    check_tolerance(tolerance)
    hub = _imported_hub()
    known = (hub.models.ImageClassifier, hub.models.Backbone)
    if not isinstance(source, (str, Path, *known)):
        raise TypeError(
            "`source` must be a preset's name or directory, or an ImageClassifier or Backbone of "
            f"KerasHub. Received: {type(source).__name__}."
        )
    in_memory = isinstance(source, known)
    network: Any = source if in_memory else _from_preset(hub, source)
    preprocessing = _preprocessing(hub, network)
    check_form(network)
    model = _of_stock_layers(network) or network
    parity = {}
    if verify:
        check_parity(model, KerasRuntime(network), tolerance=tolerance)
        parity = reload_parity(model, None, True, tolerance)
    model.provenance = Provenance(
        source=f"{network.name} (in memory)" if in_memory else Path(source).name,
        sha256=weights_sha256(model),
        framework=f"keras-hub {hub.__version__}, keras {keras.__version__}",
        converter=f"keras-amalgam {__version__}",
        parity=parity,
    )
    model.preprocessing = preprocessing
    return model


def _imported_hub() -> ModuleType:
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            "from_keras_hub needs KerasHub. Install it with: pip install 'keras-amalgam[hub]'"
        ) from error
    return keras_hub


def _from_preset(hub: ModuleType, preset: str | Path) -> keras.Model:
    if Path(preset).is_dir():
        _check_directory(Path(preset))
    try:
        return hub.models.ImageClassifier.from_preset(str(preset))
    except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"KerasHub cannot load {str(preset)!r} as an image classifier: {reason} Check the name "
            "or directory; for a preset without a head, pass "
            "keras_hub.models.Backbone.from_preset(…)."
        ) from error


def _check_directory(directory: Path) -> None:
    """Refuse a preset that holds code, or weights that unfold to too much."""
    for path in sorted(directory.glob("*.json")):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"The preset {directory.name!r} is damaged. Received: {path.name} that is no JSON "
                f"({error}). Copy or download it again."
            ) from error
        refuse_code(config, f"{directory.name}/{path.name}")
    for path in sorted(directory.glob("*.h5")):
        check_file(path)


def _of_stock_layers(network: keras.Model) -> keras.Model | None:
    """The network as one flat graph over the same layers, if all of them are Keras' own."""
    backbone: Any = getattr(network, "backbone", None)

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        # A classifier takes its backbone's own input, so that its output is there already.
        if operation is backbone and args[0] is network.input:
            return backbone.output
        return operation(*args, **kwargs)

    plain = keras.Model(network.input, network.output, name=network.name)
    flat = keras.models.clone_model(
        plain, input_tensors=plain.input, clone_function=lambda op: op, call_function=call
    )
    layers = flat._flatten_layers(include_self=False)
    return flat if all(type(x).__module__.startswith("keras.") for x in layers) else None


def _preprocessing(hub: ModuleType, network: keras.Model) -> Preprocessing | None:
    """What the network's image converter does, `None` without one.

    A converter's `pixel * scale + offset` is `(pixel - mean) / std` here.
    """
    preprocessor = getattr(network, "preprocessor", None)
    converter = getattr(preprocessor, "image_converter", None)
    if converter is None:
        return None
    name = type(converter).__name__
    if type(converter).call is not hub.layers.ImageConverter.call:
        raise ValueError(f"The {name} prepares images in a way of its own. {_SAY_IT}")
    if converter.pad_to_aspect_ratio or converter.data_format != "channels_last":
        raise ValueError(
            f"The {name} prepares images as Preprocessing cannot. Received: pad_to_aspect_ratio="
            f"{converter.pad_to_aspect_ratio}, data_format={converter.data_format!r}. {_SAY_IT}"
        )
    scale, offset = _per_channel(converter.scale, 1.0), _per_channel(converter.offset, 0.0)
    width = max(len(scale), len(offset))
    scale, offset = scale * (width // len(scale)), offset * (width // len(offset))
    if min(scale) <= 0:
        raise ValueError(f"The {name} turns or drops colours, by scale={scale}. {_SAY_IT}")
    mean = tuple(0.0 - o / s for o, s in zip(offset, scale, strict=True))
    std = tuple(1.0 / s for s in scale)
    return Preprocessing(
        size=converter.image_size,
        scale=1.0,
        mean=mean if width > 1 else mean[0],
        std=std if width > 1 else std[0],
        interpolation=converter.interpolation,
        antialias=converter.antialias,
        crop_to_aspect_ratio=bool(converter.crop_to_aspect_ratio and converter.image_size),
    )


def _per_channel(value: Any, default: float) -> tuple[float, ...]:
    if value is None:
        return (default,)
    return tuple(float(v) for v in value) if hasattr(value, "__len__") else (float(value),)
