"""The addends of the objective."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.terms.common_features import CommonFeatures as CommonFeatures
from keras_amalgam.terms.features import FeatureTerm as FeatureTerm
from keras_amalgam.terms.hints import Hints as Hints
from keras_amalgam.terms.layerwise_codes import LayerwiseCodes as LayerwiseCodes
from keras_amalgam.terms.logit_regression import LogitRegression as LogitRegression
from keras_amalgam.terms.orthogonal_projection import OrthogonalProjection as OrthogonalProjection
from keras_amalgam.terms.rebuilt_features import RebuiltFeatures as RebuiltFeatures
from keras_amalgam.terms.relational_targets import RelationalTargets as RelationalTargets
from keras_amalgam.terms.soft_targets import SoftTargets as SoftTargets
from keras_amalgam.terms.standardized_heads import StandardizedHeads as StandardizedHeads
from keras_amalgam.terms.term import AmalgamationTerm as AmalgamationTerm
from keras_amalgam.terms.term import ModelSpec as ModelSpec
from keras_amalgam.terms.term import Observation as Observation
from keras_amalgam.terms.term import TapSpec as TapSpec
