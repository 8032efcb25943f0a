"""A method: how a student is trained, as successive stages."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.training.choosing import Agreement as Agreement
from keras_amalgam.training.choosing import Choice as Choice
from keras_amalgam.training.choosing import Trial as Trial
from keras_amalgam.training.choosing import agreement as agreement
from keras_amalgam.training.choosing import choose as choose
from keras_amalgam.training.interruption import Interrupted as Interrupted
from keras_amalgam.training.keeping import Keeping as Keeping
from keras_amalgam.training.method import Beyond as Beyond
from keras_amalgam.training.method import Method as Method
from keras_amalgam.training.method import Stage as Stage
from keras_amalgam.training.method import UpTo as UpTo
from keras_amalgam.training.method import cosine_adamw as cosine_adamw
from keras_amalgam.training.stages import Amalgamation as Amalgamation
from keras_amalgam.training.stages import train as train
