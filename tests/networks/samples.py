"""The labelled ImageNet images that a package carries, and how many a network gets right."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_amalgam import Preprocessing
from tests.networks.catalogue import Network
from tests.networks.packages import package_folder
from tests.networks.sources import Source

_PACKAGE = "foolbox==3.3.4"  # MIT


def top1(
    network: Network, model: keras.Model, source: Source, folder: Path
) -> tuple[int, int, int]:
    """Right answers of the converted model, right answers of the source, and images.

    Each from image files on, the source through Pillow and NumPy, ours through `Preprocessing`.
    """
    settings = dict(network.preprocessing or {})
    images, labels = labelled(folder)
    prepared = np.stack([_as_its_authors(image, settings) for image in images])
    theirs = source.run(prepared)[0].argmax(-1) - network.first_class
    raw = keras.Input((None, None, 3), name="raw")
    whole = keras.Model(raw, model(Preprocessing(**settings).build(raw, 3), training=False))
    batches = [image[None].astype("float32") for image in images]
    ours = np.array([np.asarray(whole(batch)).argmax() for batch in batches])
    right = (ours - network.first_class == labels).sum()
    return int(right), int((theirs == labels).sum()), len(labels)


def labelled(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The photographs, uint8, and their classes among ImageNet's thousand."""
    paths = sorted((package_folder(_PACKAGE, folder) / "foolbox/data").glob("imagenet_*.jpg"))
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return images, np.array([int(path.stem.rsplit("_", 1)[1]) for path in paths])


def _as_its_authors(image: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Resize, crop and normalise with Pillow and NumPy; all images but one are square.

    Pillow resizes each channel in float32, as torchvision resizes tensors. Rounded to whole grey
    levels, as Pillow does with RGB images, one answer in twenty changes in a tie.
    """
    height, width = settings["size"]
    side = round(height / settings.get("crop_fraction", 1))
    ways = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    way = ways[settings.get("interpolation", "bilinear")]
    channels = [Image.fromarray(channel) for channel in np.moveaxis(image, -1, 0).astype("float32")]
    resized = np.stack([np.asarray(one.resize((side, side), way)) for one in channels], -1)
    top, left = (side - height) // 2, (side - width) // 2
    pixels = resized[top : top + height, left : left + width]
    if settings.get("channels") == "bgr":
        pixels = pixels[..., ::-1]
    scaled = pixels * settings.get("scale", 1 / 255) - np.float32(settings["mean"])
    return (scaled / np.float32(settings.get("std", 1))).astype(np.float32)
