"""Out of Keras: a trained student becomes an artifact that is verified, labelled and measured.

Every exporter takes a model from raw images in 0..255 to one named tensor per head, writes the
artifact beside its target, runs it in its own runtime, compares it with the Keras model, and only
then moves it into place.
"""

if __name__ != "keras_amalgam.export":
    raise ImportError(
        f"This package was imported as '{__name__}'. It is a part of keras_amalgam and has no name "
        "of its own, so that it cannot collide with your modules. Use "
        "`from keras_amalgam import export`."
    )

import keras_amalgam.backend  # noqa: F401

# Each function is bound here at once: a later import of the module of the same name then finds it
# loaded and leaves the function in place. The modules load their heavy libraries when they run.
from keras_amalgam.export.artifact import Artifact as Artifact
from keras_amalgam.export.common_embedding import with_common_embedding as with_common_embedding
from keras_amalgam.export.labels import read_labels as read_labels
from keras_amalgam.export.latency import Latency as Latency
from keras_amalgam.export.latency import measure_latency as measure_latency
from keras_amalgam.export.package import package as package
from keras_amalgam.export.predict import predict as predict
from keras_amalgam.export.prediction.results import ClassScore as ClassScore
from keras_amalgam.export.prediction.results import ImagePrediction as ImagePrediction
from keras_amalgam.export.prediction.results import Predictions as Predictions
from keras_amalgam.export.to_keras import to_keras as to_keras
from keras_amalgam.export.to_onnx import to_onnx as to_onnx
from keras_amalgam.export.to_saved_model import to_saved_model as to_saved_model
from keras_amalgam.export.to_serving import to_serving as to_serving
from keras_amalgam.export.to_tflite import to_tflite as to_tflite
from keras_amalgam.export.verification.thresholds import Thresholds as Thresholds
from keras_amalgam.export.verification.verify import Verification as Verification
from keras_amalgam.export.verification.verify import verify as verify
