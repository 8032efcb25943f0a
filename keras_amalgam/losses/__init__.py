"""The mathematics of imitation: pure functions in `keras.ops`, and the bandwidths, in NumPy."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.losses.feature import cosine_distance as cosine_distance
from keras_amalgam.losses.feature import smooth_l1 as smooth_l1
from keras_amalgam.losses.feature import squared_error as squared_error
from keras_amalgam.losses.mmd import median_bandwidth as median_bandwidth
from keras_amalgam.losses.mmd import mmd_squared as mmd_squared
from keras_amalgam.losses.relational import pearson_distance as pearson_distance
from keras_amalgam.losses.relational import relational_losses as relational_losses
from keras_amalgam.losses.soft_target import soft_target_loss as soft_target_loss
from keras_amalgam.losses.soft_target import standardized_logits as standardized_logits
