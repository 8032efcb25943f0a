"""The layers between models' features: the common space, and maps to a teacher's channels."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.layers.adapter import Adapter as Adapter
from keras_amalgam.layers.autoencoder import Autoencoder as Autoencoder
from keras_amalgam.layers.common_space import CommonExtractor as CommonExtractor
from keras_amalgam.layers.common_space import FeatureDecoder as FeatureDecoder
from keras_amalgam.layers.moments import Moments as Moments
from keras_amalgam.layers.orthogonal_linear import OrthogonalLinear as OrthogonalLinear
from keras_amalgam.layers.subspace import PrincipalSubspace as PrincipalSubspace
from keras_amalgam.layers.variant_b import AdapterB as AdapterB
from keras_amalgam.layers.variant_b import CommonExtractorB as CommonExtractorB
from keras_amalgam.layers.variant_b import FeatureDecoderB as FeatureDecoderB
from keras_amalgam.layers.variants import CommonSpace as CommonSpace
from keras_amalgam.layers.variants import VariantA as VariantA
from keras_amalgam.layers.variants import VariantB as VariantB
from keras_amalgam.layers.variants import common_space_variant as common_space_variant
