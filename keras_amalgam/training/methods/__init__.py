"""Ways of training a student that are known from papers, as methods of stages.

Each is a function that makes a `Method`, and refuses teachers that it cannot serve before anything
runs.
"""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.training.methods.layerwise import layerwise as layerwise
from keras_amalgam.training.methods.matching import matching as matching
from keras_amalgam.training.methods.paper import paper as paper
from keras_amalgam.training.methods.progressive import progressive as progressive
from keras_amalgam.training.methods.proxy import proxy as proxy
from keras_amalgam.training.methods.reused_heads import reused_heads as reused_heads
from keras_amalgam.training.methods.standardized import standardized as standardized
