"""A method: how a student is trained, as successive stages."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.training.method import Beyond as Beyond
from keras_amalgam.training.method import Method as Method
from keras_amalgam.training.method import Stage as Stage
from keras_amalgam.training.method import UpTo as UpTo
from keras_amalgam.training.method import cosine_adamw as cosine_adamw
from keras_amalgam.training.stages import Amalgamation as Amalgamation
from keras_amalgam.training.stages import train as train
