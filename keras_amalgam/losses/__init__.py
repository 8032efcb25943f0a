"""The mathematics of imitation: pure functions in `keras.ops`."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.losses.feature import squared_error as squared_error
from keras_amalgam.losses.mmd import mmd_squared as mmd_squared
from keras_amalgam.losses.soft_target import soft_target_loss as soft_target_loss
