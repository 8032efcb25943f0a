"""Requests that a server replays before a version takes traffic: TF Serving's warm-up file."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.export.serving.endpoints import inputs_of
from keras_amalgam.export.serving.protos import serving_protos
from keras_amalgam.export.signatures import INPUT_NAME
from keras_amalgam.export.staging import system_error

FOLDER = "assets.extra"
FILE_NAME = "tf_serving_warmup_requests"
BATCHES = (1, 2)


def write(directory: Path, name: str, images: np.ndarray) -> None:
    """Writes one request for every signature and batch size of `BATCHES`.

    Args:
        directory: The SavedModel.
        name: The model's name on the server.
        images: uint8 images, shape `(count, height, width, channels)`; repeated where too few.

    Raises:
        OSError: If they cannot be written.
    """
    import tensorflow as tf

    (directory / FOLDER).mkdir(exist_ok=True)
    try:
        with tf.io.TFRecordWriter(str(directory / FOLDER / FILE_NAME)) as writer:
            for size in BATCHES:
                batch = images[np.arange(size) % len(images)]
                for signature, tensor in inputs_of(batch).items():
                    writer.write(_log(name, signature, tensor).SerializeToString())
    except tf.errors.OpError as error:
        raise system_error("The warm-up requests", error.message) from error


def read(directory: Path) -> list[tuple[str, int]]:
    """The signature and the batch size of every request.

    Args:
        directory: The SavedModel.

    Raises:
        ValueError: If there are none, or they cannot be read.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    apis, found = serving_protos(), []
    path = directory / FOLDER / FILE_NAME
    try:
        if not path.is_file():
            raise FileNotFoundError("there is none")
        # The size is the default; unsaid, TensorFlow remarks on it.
        records = tf.data.TFRecordDataset(str(path), buffer_size=2**18)
        for record in records.as_numpy_iterator():
            request = apis.prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            tensor = request.inputs[INPUT_NAME]
            found.append((request.model_spec.signature_name, tensor.tensor_shape.dim[0].size))
    except (OSError, tf.errors.OpError, DecodeError, IndexError) as error:
        raise ValueError(
            f"The warm-up requests cannot be read. Received: '{FOLDER}/{FILE_NAME}' "
            f"({str(error).splitlines()[0]}). Expected: TF Serving's records of requests."
        ) from error
    return found


def _log(name: str, signature: str, tensor: Any) -> Any:
    import tensorflow as tf

    apis = serving_protos()
    request = apis.predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.inputs[INPUT_NAME].CopyFrom(tf.make_tensor_proto(tensor))
    return apis.prediction_log_pb2.PredictionLog(
        predict_log=apis.prediction_log_pb2.PredictLog(request=request)
    )
