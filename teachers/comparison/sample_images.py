"""Encoded images to compare on where the user gives none: always the same bytes."""

import io

import numpy as np
from PIL import Image

_OPEN_SIZE = 96


def sample_images(
    input_shape: tuple[int | None, ...], size: tuple[int, int] | None
) -> dict[str, bytes]:
    """Generated JPEG and PNG files: larger and smaller, colour and grey, wide and tall.

    Args:
        input_shape: The network's, `(batch, height, width, channels)`.
        size: That images are resized to, if they are; else all have the network's own.

    Returns:
        Content by name.
    """
    height, width = (side or _OPEN_SIZE for side in size or input_shape[1:3])
    grey_network = input_shape[-1] == 1
    files = {}
    for number, (name, rows, columns, grey) in enumerate(
        [
            ("wide.png", 1.3, 1.7, grey_network),
            ("tall.jpg", 2.1, 1.2, grey_network),
            ("small.png", 0.6, 0.7, grey_network),
            ("same.jpg", 1.0, 1.0, grey_network),
            ("other.png", 1.1, 1.6, not grey_network),
        ]
    ):
        shape = (height, width)
        if size is not None:
            shape = (max(8, round(height * rows)), max(8, round(width * columns)))
        pixels = _picture(*shape, np.random.default_rng(number))
        files[name] = _encoded(pixels[..., 0] if grey else pixels, name)
    return files


def _picture(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Waves, hard edges and a little noise, different in each channel; uint8."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    channels = []
    for _ in range(3):
        picture = generator.normal(128, 4, (height, width))
        for _ in range(3):
            down, right, phase = generator.uniform(1, 9, 3)
            picture += generator.uniform(15, 40) * np.sin(
                6.3 * (down * rows + right * columns) + phase
            )
        blocks = generator.uniform(-50, 50, (5, 5))
        picture += blocks[np.arange(height) * 5 // height][:, np.arange(width) * 5 // width]
        channels.append(picture)
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def _encoded(pixels: np.ndarray, name: str) -> bytes:
    buffer = io.BytesIO()
    kind = {"format": "PNG"} if name.endswith(".png") else {"format": "JPEG", "quality": 92}
    Image.fromarray(pixels).save(buffer, **kind)
    return buffer.getvalue()
