"""The layers of the common space."""

from keras_amalgam.layers.adapter import Adapter as Adapter
from keras_amalgam.layers.common_space import CommonExtractor as CommonExtractor
from keras_amalgam.layers.common_space import FeatureDecoder as FeatureDecoder
