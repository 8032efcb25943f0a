"""The layers of the common space."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.layers.adapter import Adapter as Adapter
from keras_amalgam.layers.common_space import CommonExtractor as CommonExtractor
from keras_amalgam.layers.common_space import FeatureDecoder as FeatureDecoder
