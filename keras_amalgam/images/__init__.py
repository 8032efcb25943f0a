"""What an image is, decided once: checks, files, canvas, resize, preprocessing."""

import keras_amalgam.backend  # noqa: F401
