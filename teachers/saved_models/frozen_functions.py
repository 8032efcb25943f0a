"""The serving functions of a SavedModel without the objects around them."""

import tempfile
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_amalgam.quiet import quiet_loggers


def load_frozen(directory: Path) -> Any:
    """Load a SavedModel as TensorFlow 1 did: graphs and variables, which become constants.

    Args:
        directory: With `saved_model.pb`.

    Returns:
        What `tf.saved_model.load` returns, without objects.

    Raises:
        OSError: If it is damaged; TensorFlow's own errors, too.
    """
    import tensorflow as tf

    # TensorFlow 1's loader says at every use that there is a newer one.
    with quiet_loggers("tensorflow"):
        meta_graph = _frozen(directory)
    with tempfile.TemporaryDirectory() as place:
        frozen = SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])
        Path(place, "saved_model.pb").write_bytes(frozen.SerializeToString())
        return tf.saved_model.load(place)


def _frozen(directory: Path) -> MetaGraphDef:
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        served = {
            name: definition
            for name, definition in loaded.signature_def.items()
            if definition.inputs and definition.outputs
        }
        ports = [
            info.name.split(":")[0]
            for definition in served.values()
            for info in (*definition.inputs.values(), *definition.outputs.values())
        ]
        constant = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), sorted(set(ports))
        )
    # Neither the objects nor what restores variables goes along.
    return MetaGraphDef(
        meta_info_def=loaded.meta_info_def, graph_def=constant, signature_def=served
    )
