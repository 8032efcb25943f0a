"""What a teacher knows, and so what the student learns from it."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.tasks.classification import Classification as Classification
from keras_amalgam.tasks.task import Task as Task
