"""A bundle on a server that speaks TF Serving's protocol, asked by TF Serving's own client."""

import base64
import json
import re
import shutil
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib

import grpc
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_amalgam import export

pytestmark = pytest.mark.slow

SIGNATURES = ("serving_default", "uint8", "encoded", "classify")


@pytest.fixture(scope="module")
def ask(serving):
    channel = grpc.insecure_channel(serving.grpc_address)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def predict(image, signature, name="student", label=""):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        if label:
            request.model_spec.version_label = label
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
        response = stub.Predict(request, timeout=30)
        return {key: tf.make_ndarray(tensor) for key, tensor in response.outputs.items()}

    yield predict
    channel.close()


@pytest.fixture(scope="module")
def post(serving):
    def predict(body, name="student"):
        request = urllib.request.Request(
            f"{serving.rest_address}/{name}:predict", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    return predict


def assert_near(outputs, logits, labels):
    """Logits by head, or their two likeliest classes, are those of the Keras student."""
    for head, values in logits.items():
        if head in outputs:
            np.testing.assert_allclose(outputs[head], values, atol=1e-4)
            continue
        order = np.argsort(-values, axis=-1)[:, :2]
        probabilities = scipy.special.softmax(values, axis=-1)
        np.testing.assert_allclose(
            outputs[f"{head}_scores"], np.take_along_axis(probabilities, order, -1), atol=1e-4
        )
        names = [[labels[head][index] for index in row] for row in order]
        said = outputs[f"{head}_classes"]
        assert [[getattr(n, "decode", lambda n=n: n)() for n in row] for row in said] == names


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_signature_answers_as_the_student_over_grpc(
    signature, batch, ask, photos, expected, class_names
):
    contents, decoded = photos[0][:batch], photos[1][:batch]
    image = {"serving_default": decoded.astype("float32"), "uint8": decoded}.get(
        signature, contents
    )
    outputs = ask(image, signature, label="stable")
    assert_near(outputs, expected(decoded), class_names)


@pytest.mark.parametrize("form", ["instances", "inputs"])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_signature_answers_as_the_student_over_rest(
    signature, form, post, photos, expected, class_names
):
    contents, decoded = photos[0][:3], photos[1][:3]
    rows = decoded.tolist()
    if signature in ("encoded", "classify"):
        rows = [{"b64": base64.b64encode(content).decode()} for content in contents]
    answer = post({"signature_name": signature, form: rows}, "student/labels/stable")
    outputs = answer.get("outputs") or {
        key: [row[key] for row in answer["predictions"]] for key in answer["predictions"][0]
    }
    assert_near(outputs, expected(decoded), class_names)


def test_photographs_of_several_sizes_stand_in_one_request_each_antialiased(
    ask, nested_student, expected
):
    """Its own resize is plain: what it would make of a photograph is not what it was trained on."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 1), np.uint8) for size in ((60, 50), (28, 28), (9, 90))]
    contents = [tf.io.encode_png(image).numpy() for image in images]
    outputs = ask(contents, "encoded", name="open-size")
    for head in ("wide", "narrow"):
        seen = [tf.image.resize(image, (28, 28), antialias=True)[None] for image in images]
        logits = [expected(image, nested_student)[head][0] for image in seen]
        np.testing.assert_allclose(outputs[head], logits, atol=1e-4)


def test_labels_lead_to_their_versions(ask, images, expected, make_student):
    stable, canary = expected(images), expected(images, make_student(mean=0.5))
    assert np.abs(stable["colour"] - canary["colour"]).max() > 0.1
    for label, logits in (("stable", stable), ("canary", canary)):
        outputs = ask(images, "uint8", label=label)
        np.testing.assert_allclose(outputs["colour"], logits["colour"], atol=1e-4)


def test_running_server_moves_a_label_to_a_version_it_has_loaded(
    server, student, make_student, images, tmp_path
):
    export.to_serving(student, tmp_path)
    running = server.Bundle(tmp_path)
    for mean in (0.4, 0.6):
        export.to_serving(make_student(mean=mean), tmp_path, keep=2)
        with pytest.raises(server.Refused, match="is not loaded"):
            running.read_configuration()
        before = running.labels["student", "stable"]
        running.look_for_versions()
        assert ("student", before) in running.loaded
        running.read_configuration()
        assert running.labels["student", "stable"] == before + 1
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "student", "stable"
    request.model_spec.signature_name = "uint8"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(images))
    said = tf.make_ndarray(running.predict(request).outputs["colour"])
    expected = make_student(mean=0.6)(images, training=False)["colour"]
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_server_without_the_flag_of_the_command_does_not_start(server, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    readme = (copy / "README.md").read_text()
    assert server.FLAG in readme
    (copy / "README.md").write_text(readme.replace(server.FLAG, ""))
    with pytest.raises(server.Refused, match="is not loaded"):
        server.Bundle(copy)


def test_warm_up_file_asks_every_signature(serving):
    for name, version in (("student", 1), ("student", 2), ("open-size", 7)):
        asked = serving.bundle.warmed[name, version]
        assert sorted(asked) == sorted((key, batch) for key in SIGNATURES for batch in (1, 2))


def png(width, height):
    """A PNG file of a few bytes that claims a size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("signature", ["encoded", "classify"])
def test_what_cannot_be_decoded_is_an_invalid_argument_and_the_server_lives(
    signature, ask, post, photos, expected, class_names
):
    contents, decoded = photos
    broken = {
        "cut": contents[1][:200],
        "garbled": contents[1][:200] + bytes(200) + contents[1][400:600],
        "text": b"GET / HTTP/1.1",
        "empty": b"",
        "start of a JPEG": b"\xff\xd8\xff",
        "start of a PNG": b"\x89PNG\r\n\x1a\n",
        "huge": png(100_000, 100_000),
        "larger than an integer": png(2**31, 2**31),
        "nothing to see": png(0, 5),
    }
    codes = {}
    for name, content in broken.items():
        with pytest.raises(grpc.RpcError) as caught:
            ask([contents[0], content], signature)
        codes[name] = caught.value.code()
    assert set(codes.values()) == {grpc.StatusCode.INVALID_ARGUMENT}, codes
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post({"signature_name": signature, "instances": [{"b64": "AAAA"}]})
    outputs = ask(contents[:1], signature, label="stable")
    assert_near(outputs, expected(decoded[:1]), class_names)


def test_image_of_another_type_or_shape_is_an_invalid_argument(ask, images):
    for image, signature in (
        (images.astype("float32"), "uint8"),
        (images, "serving_default"),
        (images[:, :20], "uint8"),
        (images, "nothing"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            ask(image, signature)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def readme_blocks(bundle, serving):
    """The README's commands for the first model, by language, with the test server's address."""
    text = (bundle / "README.md").read_text()
    section = text[text.index("\n## student\n") :]
    blocks = dict(reversed(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)))
    rest = serving.rest_address.removesuffix("/v1/models")
    return {
        language: block.replace("http://localhost:8501", rest).replace(
            "localhost:8500", serving.grpc_address
        )
        for language, block in blocks.items()
    }


@pytest.mark.parametrize("language", ["sh", "python"])
def test_readmes_commands_ask_the_server(
    language, readme_blocks, photos, expected, make_student, class_names, tmp_path
):
    contents, decoded = photos
    (tmp_path / "photo.jpg").write_bytes(contents[0])
    command = {"sh": ["bash", "-c"], "python": [sys.executable, "-c"]}[language]
    done = subprocess.run(
        [*command, readme_blocks[language]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Where no label is asked for, the newest version answers.
    logits = expected(decoded[:1], make_student(mean=0.5))["quadrant"][0]
    likeliest = class_names["quadrant"][logits.argmax()]
    said = re.search("upper left|upper right|lower left|lower right", done.stdout)
    assert said and said[0] == likeliest, done.stdout
