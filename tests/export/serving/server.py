"""A server that serves a bundle as TF Serving does, on its own protocol definitions.

It reads `models.config`, loads each version by the tag `serve`, replays the warm-up file, and
answers TF Serving's gRPC service and the REST form that its documentation describes. It is not TF
Serving: it proves that the bundle's files mean to TF Serving's own messages what they should.
"""

import base64
import concurrent.futures
import http.server
import json
import threading
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2


class Refused(Exception):
    """A request that gets a status instead of an answer."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


FLAG = "--allow_version_labels_for_unavailable_models"


class Bundle:
    """The loaded versions of a bundle, started by the command of its README."""

    def __init__(self, directory):
        self.directory = directory
        self.flags = (directory / "README.md").read_text().split("```")[1].split()
        self.entries, self.labels, self.loaded, self.warmed = {}, {}, {}, {}
        self.read_configuration()

    def read_configuration(self):
        """As TF Serving does: first the labels, refused as a whole, and then the versions."""
        text = (self.directory / "models.config").read_text()
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        entries = {entry.name: entry for entry in config.model_config_list.config}
        labels = {
            (name, label): version
            for name, entry in entries.items()
            for label, version in entry.version_labels.items()
        }
        for (name, label), version in labels.items():
            moves = self.labels.get((name, label), version) != version
            if (name, version) not in self.loaded and (moves or FLAG not in self.flags):
                raise Refused("FAILED_PRECONDITION", f"version {version} of {name} is not loaded")
        self.entries, self.labels = entries, labels
        self.look_for_versions()

    def look_for_versions(self):
        """As TF Serving does every second, whether or not the configuration is read again."""
        for name, entry in self.entries.items():
            assert entry.model_platform == "tensorflow"
            # The bundle is mounted at /models, which is where the configuration says it is.
            base = self.directory / Path(entry.base_path).relative_to("/models")
            there = sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal())
            policy = entry.model_version_policy
            if policy.WhichOneof("policy_choice") == "specific":
                wanted = set(there) & set(policy.specific.versions)
            else:
                wanted = set(there[-(policy.latest.num_versions or 1) :])
            for version in [v for n, v in self.loaded if n == name and v not in wanted]:
                del self.loaded[name, version]
            for version in wanted - {v for n, v in self.loaded if n == name}:
                folder = base / str(version)
                self.loaded[name, version] = tf.saved_model.load(str(folder), tags="serve")
                self.warmed[name, version] = self._warm_up(folder, name, version)

    def _warm_up(self, folder, name, version):
        """The signatures and batch sizes of the warm-up file, each of which gave an answer."""
        path = folder / "assets.extra" / "tf_serving_warmup_requests"
        seen = []
        for record in tf.data.TFRecordDataset(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            assert request.model_spec.name == name
            request.model_spec.version.value = version
            self.predict(request)
            shape = request.inputs["image"].tensor_shape
            seen.append((request.model_spec.signature_name, shape.dim[0].size))
        return seen

    def predict(self, request):
        spec = request.model_spec
        name, version = self._servable(spec)
        signatures = self.loaded[name, version].signatures
        signature = spec.signature_name or "serving_default"
        if signature not in signatures:
            raise Refused("INVALID_ARGUMENT", f"no signature {signature}")
        function = signatures[signature]
        wanted = function.structured_input_signature[1]
        if set(request.inputs) != set(wanted):
            raise Refused("INVALID_ARGUMENT", f"inputs {sorted(wanted)} are expected")
        tensors = {key: tf.constant(tf.make_ndarray(t)) for key, t in request.inputs.items()}
        for key, tensor in tensors.items():
            if tensor.dtype != wanted[key].dtype or not wanted[key].shape.is_compatible_with(
                tensor.shape
            ):
                raise Refused("INVALID_ARGUMENT", f"{key} has to be {wanted[key]}")
        try:
            outputs = function(**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise Refused("INVALID_ARGUMENT", error.message) from error
        response = predict_pb2.PredictResponse()
        response.model_spec.name = name
        response.model_spec.version.value = version
        response.model_spec.signature_name = signature
        for key, tensor in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(tensor))
        return response

    def _servable(self, spec):
        if spec.name not in self.entries:
            raise Refused("NOT_FOUND", f"no model {spec.name}")
        there = [version for name, version in self.loaded if name == spec.name]
        version = spec.version.value or max(there)
        if spec.version_label:
            version = self.labels.get((spec.name, spec.version_label), -1)
        if version not in there:
            raise Refused("NOT_FOUND", f"no version {version}")
        return spec.name, version


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TF Serving's gRPC service over a bundle."""

    def __init__(self, bundle):
        self.bundle = bundle

    def Predict(self, request, context):
        try:
            return self.bundle.predict(request)
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], str(error))


def rest(bundle, path, body):
    """`POST /v1/models/NAME[/versions/N|/labels/L]:predict`: the answer as JSON-ready values."""
    where, _, verb = path.removeprefix("/v1/models/").partition(":")
    assert verb == "predict"
    name, *choice = where.split("/")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = body.get("signature_name", "")
    if choice[:1] == ["labels"]:
        request.model_spec.version_label = choice[1]
    elif choice[:1] == ["versions"]:
        request.model_spec.version.value = int(choice[1])
    loaded = bundle.loaded[bundle._servable(request.model_spec)]
    signature = loaded.signatures[request.model_spec.signature_name or "serving_default"]
    ((key, spec),) = signature.structured_input_signature[1].items()
    if "instances" in body:
        rows = [row[key] if set(row) == {key} else row for row in map(_named, body["instances"])]
    else:
        rows = body["inputs"]
    values = np.array([_decoded(row) for row in rows], object if spec.dtype == tf.string else None)
    request.inputs[key].CopyFrom(tf.make_tensor_proto(values, spec.dtype))
    outputs = {
        name: [_encoded(row) for row in tf.make_ndarray(tensor).tolist()]
        for name, tensor in bundle.predict(request).outputs.items()
    }
    if "inputs" in body:
        return {"outputs": outputs}
    return {
        "predictions": [
            dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)
        ]
    }


def _named(row):
    return row if isinstance(row, dict) and "b64" not in row else {"image": row}


def _decoded(value):
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def _encoded(value):
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


class Serving:
    """Both servers on free ports of this machine, until `close`."""

    def __init__(self, directory):
        self.bundle = bundle = Bundle(directory)
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            Servicer(bundle), self._grpc
        )
        self.grpc_address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    status, answer = 200, rest(bundle, self.path, body)
                except Refused as error:
                    status, answer = 400, {"error": str(error)}
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                """Keeps the tests' output clean."""

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.rest_address = f"http://127.0.0.1:{self._http.server_port}/v1/models"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()
