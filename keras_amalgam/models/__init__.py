"""Teachers and the student: what they return, where they are tapped, how they are stored."""

import keras_amalgam.backend  # noqa: F401
