"""TF Serving's own message definitions, which come in a package of their own."""

import importlib
import types


def serving_protos() -> types.SimpleNamespace:
    """The modules `predict_pb2`, `prediction_log_pb2` and `model_server_config_pb2`.

    Raises:
        ImportError: If `tensorflow-serving-api` is not installed.
    """
    try:
        return types.SimpleNamespace(
            predict_pb2=importlib.import_module("tensorflow_serving.apis.predict_pb2"),
            prediction_log_pb2=importlib.import_module(
                "tensorflow_serving.apis.prediction_log_pb2"
            ),
            model_server_config_pb2=importlib.import_module(
                "tensorflow_serving.config.model_server_config_pb2"
            ),
        )
    except ImportError as error:
        raise ImportError(
            "A TF Serving bundle is written with TF Serving's own message definitions. Received: "
            f"{error}. Expected: the package tensorflow-serving-api. Run "
            "`pip install 'keras-amalgam[serving]'`."
        ) from error
