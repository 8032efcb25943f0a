"""The addends of the objective."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.terms.common_features import CommonFeatures as CommonFeatures
from keras_amalgam.terms.soft_targets import SoftTargets as SoftTargets
from keras_amalgam.terms.term import AmalgamationTerm as AmalgamationTerm
from keras_amalgam.terms.term import ModelSpec as ModelSpec
