"""Each runtime against its direct use, and the fall-back for what cannot be converted."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnx import helper
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import keras_amalgam as ka
from keras_amalgam import teachers

CLASSES = ["a", "b", "c", "d", "e"]
NORMAL = ka.Preprocessing(mean=0.4, std=0.3)


def assert_close(a, b):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, atol=1e-5)


def direct_onnx(path, images, *tensors):
    """Tensors of an ONNX file as onnxruntime gives them, without optimisations."""
    model = onnx.load(path)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})


def test_onnx_answers_and_taps_are_those_of_onnxruntime(network, random, tmp_path):
    onnx.save(network, tmp_path / "n.onnx")
    taps = ["body", "/stem/relu/Relu", "a1", "f1"]
    runtime = teachers.open_runtime(tmp_path / "n.onnx", taps=taps)
    assert runtime.image_shape == (9, 8, 3)
    for size in (1, 4):
        images = random(size, 9, 8, 3, seed=size)
        y, r2, r1, a1, f1 = direct_onnx(
            tmp_path / "n.onnx", images.transpose(0, 3, 1, 2), "r2", "r1", "a1", "f1"
        )
        got = runtime.run(images)
        assert_close(got["y"], y)
        for tap, value in zip(taps[:3], (r2, r1, a1), strict=True):
            assert_close(got[tap], value.transpose(0, 2, 3, 1))
        assert_close(got["f1"], f1)  # Flattened channels first, as the source does.


def test_onnx_names_are_those_after_conversion(network, random, tmp_path):
    onnx.save(network, tmp_path / "n.onnx")
    model = teachers.from_onnx(tmp_path / "n.onnx", verify=False)
    images = random(2, 9, 8, 3)
    for name in ("stem", "body", "body.relu", "/body/Add", "r2"):
        layer = model.get_layer(model.provenance.names[name])
        runtime = teachers.open_runtime(tmp_path / "n.onnx", taps=[name])
        assert_close(runtime.run(images)[name], keras.Model(model.input, layer.output)(images))


def test_onnx_of_a_fixed_batch_takes_any(network, random, tmp_path):
    onnx.save(network, tmp_path / "n.onnx")
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(network, tmp_path / "two.onnx")
    images = random(5, 9, 8, 3)
    free, fixed = (
        teachers.open_runtime(tmp_path / f"{n}.onnx", taps=["body"]) for n in ("n", "two")
    )
    for key, value in free.run(images).items():
        assert_close(fixed.run(images)[key], value)


def test_maps_of_a_channels_last_file_are_turned_where_they_have_to(build, random, tmp_path):
    """As tf2onnx writes: channels last outside, first between two transpositions."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["first"]),
        helper.make_node("Transpose", ["first"], ["u"], perm=[0, 2, 3, 1]),
        helper.make_node("Abs", ["u"], ["last"]),
        helper.make_node("ReduceMean", ["last"], ["y"], axes=[1, 2], keepdims=0),
    ]
    model = build(nodes, (9, 7, 3), {"w": random(4, 3, 3, 3)})
    onnx.save(model, tmp_path / "n.onnx")
    runtime = teachers.open_runtime(tmp_path / "n.onnx", taps=["first", "last"])
    got = runtime.run(random(2, 9, 7, 3))
    assert got["first"].shape == (2, 7, 5, 4)
    assert_close(got["first"], got["last"])


def test_operator_that_is_not_known_teaches_in_its_runtime(network, tmp_path):
    network.graph.node[2].op_type = "Binarizer"
    network.graph.node[2].domain = "ai.onnx.ml"
    network.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(network, tmp_path / "n.onnx")
    with pytest.raises(NotImplementedError, match="Binarizer"):
        teachers.from_onnx(tmp_path / "n.onnx")
    teacher = teachers.runtime_teacher(
        tmp_path / "n.onnx", "letters", CLASSES, tap="stem", preprocessing=NORMAL
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3)).astype("uint8")
    fed = ((images / 255 - 0.4) / 0.3).astype("float32").transpose(0, 3, 1, 2)
    y, r1 = direct_onnx(tmp_path / "n.onnx", fed, "r1")
    signals = teacher.signals(3)(images)
    assert_close(signals["answers"][teacher.name], y)
    assert_close(signals["features"]["features"], r1.transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def keras_network():
    """A small Keras classifier that ends in a softmax."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 10, 3), name="image")
    x = keras.layers.Conv2D(6, 3, strides=2, name="stem")(inputs)
    x = keras.layers.LeakyReLU(name="leaky")(x)
    x = keras.layers.Conv2D(4, 3, name="body")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))


@pytest.fixture(scope="module")
def tflite(keras_network, tmp_path_factory):
    """Files of an open batch with a signature, of a batch of one without, and quantized."""
    folder = tmp_path_factory.mktemp("tflite")
    keras_network.export(folder / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "open.tflite").write_bytes(converter.convert())
    spec = tf.TensorSpec((1, 12, 10, 3), name="image")
    function = tf.function(lambda image: keras_network(image, training=False))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(spec))
    one = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    (folder / "one.tflite").write_bytes(one.convert())
    images = np.random.default_rng(1).uniform(-1.4, 2, (16, 12, 10, 3)).astype("float32")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([images[i : i + 1]] for i in range(16))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (folder / "int8.tflite").write_bytes(converter.convert())
    return {kind: folder / f"{kind}.tflite" for kind in ("open", "one", "int8")}


def direct_tflite(path, images):
    """One image after the other through LiteRT's interpreter."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for one in images:
        interpreter.set_tensor(image["index"], one[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(answer["index"])[0])
    return np.stack(answers)


@pytest.mark.parametrize("kind", ["open", "one"])
def test_tflite_answers_are_those_of_litert(kind, tflite, keras_network, random):
    runtime = teachers.open_runtime(tflite[kind])
    assert runtime.image_shape == (12, 10, 3)
    for size in (1, 3):
        images = random(size, 12, 10, 3, seed=size)
        got = runtime.run(images)[runtime.output]
        assert_close(got, direct_tflite(tflite[kind], images))
        assert_close(got, keras_network(images))


def test_tflite_is_read_inside_where_a_tensor_is_tapped(tflite, keras_network, random):
    body = next(n for n in inside(tflite["open"]) if "body" in n and "convolution" in n)
    images = random(3, 12, 10, 3)
    expected = keras.Model(keras_network.input, keras_network.get_layer("body").output)(images)
    for kind in ("open", "one"):
        runtime = teachers.open_runtime(tflite[kind], taps=[body])
        assert_close(runtime.run(images)[body], expected)
        assert_close(runtime.run(images)[runtime.output], keras_network(images))


def inside(path):
    try:
        teachers.open_runtime(path, taps=["nothing"])
    except ValueError as error:
        return str(error).split("names: ")[1].strip("[].").replace("'", "").split(", ")


def test_quantized_tflite_takes_and_gives_real_numbers(tflite, keras_network, random):
    runtime = teachers.open_runtime(tflite["int8"])
    images = random(4, 12, 10, 3)
    got = runtime.run(images)[runtime.output]
    assert np.abs(got - keras_network(images)).max() < 0.05
    interpreter = Interpreter(str(tflite["int8"]))
    scale, zero = interpreter.get_input_details()[0]["quantization"]
    raw = np.clip(np.rint(images / scale + zero), 0, 255).astype("uint8")
    out_scale, out_zero = interpreter.get_output_details()[0]["quantization"]
    expected = (direct_tflite(tflite["int8"], raw).astype("float32") - out_zero) * out_scale
    assert_close(got, expected)


def test_probabilities_of_a_runtime_become_logits(tflite, keras_network):
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3)).astype("uint8")
    expected = ka.Teacher(keras_network, "letters", CLASSES, preprocessing=NORMAL)
    expected = keras.ops.log_softmax(expected.answers(3)(images)[expected.name])
    for path, outputs, error in (("open", "auto", 1e-4), ("int8", "probabilities", 0.2)):
        teacher = teachers.runtime_teacher(
            tflite[path], "letters", CLASSES, preprocessing=NORMAL, outputs=outputs
        )
        got = teacher.answers(3)(images)[teacher.name]
        assert np.abs(np.asarray(got) - np.asarray(expected)).max() < error
        assert 300 < teacher.count_params() < 450


class Inverting(tf.Module):
    """A serving function with an operation that ONNX does not have, on what it is given."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.random.stateless_normal((3, 3), (1, 2)) + 3 * tf.eye(3))

    @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 3), tf.float32, name="image")])
    def serve(self, image):
        """Inverts a matrix for each image."""
        squares = tf.reduce_mean(image, (1, 2)) ** 2
        inverse = tf.linalg.inv(self.weights + tf.linalg.diag(squares))
        maps = tf.einsum("bhwc,bcd->bhwd", image, inverse)
        return {"logits": tf.reduce_mean(maps, (1, 2)), "maps": maps}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A module and the SavedModel that holds it."""
    folder, module = tmp_path_factory.mktemp("saved") / "inverting", Inverting()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return module, folder


def test_saved_model_that_cannot_be_converted_teaches_in_tensorflow(saved_model, random, tmp_path):
    module, folder = saved_model
    with pytest.raises(
        NotImplementedError, match=r"SavedModel can teach.*teachers.runtime_teacher\("
    ):
        teachers.from_saved_model(folder)
    teacher = teachers.runtime_teacher(
        folder, "colours", list("rgb"), tap="maps", preprocessing=NORMAL, output_name="logits"
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3)).astype("uint8")
    expected = module.serve(tf.constant((images / 255 - 0.4) / 0.3, tf.float32))
    teacher.save(tmp_path / "t")
    for one in (teacher, teachers.load(tmp_path / "t")):
        signals = one.signals(3)(images)
        assert_close(signals["answers"][one.name], expected["logits"])
        assert_close(signals["features"]["features"], expected["maps"])
        assert one.count_params() == 9
    file = next((tmp_path / "t/network/inverting/variables").iterdir())
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ValueError, match="not that of its card"):
        teachers.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("path", "options", "error", "says"),
    [
        ("gone.onnx", {}, FileNotFoundError, "no file"),
        (3, {}, TypeError, "must be a path"),
        ("n.keras", {}, ValueError, "No runtime is known for 'n.keras'.*from_keras"),
        ("cut.onnx", {}, ValueError, "'cut.onnx'"),
        ("cut.tflite", {}, ValueError, "'cut.tflite' is cut off or is no TFLite"),
        ("empty", {}, FileNotFoundError, "no saved_model.pb"),
        ("n.onnx", {"taps": ["nowhere"]}, ValueError, r"goes by \['nowhere'\]"),
        ("n.onnx", {"taps": "body"}, TypeError, "list of names"),
        ("n.onnx", {"output_name": "z"}, ValueError, r"'z'. Pass one of \['y'\]"),
        ("n.onnx", {"data_format": "channels_last"}, ValueError, "where its 1 or 3 channels"),
        ("n.onnx", {"data_format": "last"}, ValueError, "where its 1 or 3 channels"),
    ],
)
def test_what_cannot_be_opened_is_refused(path, options, error, says, network, tflite, tmp_path):
    onnx.save(network, tmp_path / "n.onnx")
    (tmp_path / "n.keras").write_text("x")
    (tmp_path / "empty").mkdir()
    for file in (tmp_path / "n.onnx", tflite["one"]):
        (tmp_path / f"cut{file.suffix}").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(error, match=says):
        teachers.open_runtime(path if path == 3 else tmp_path / path, **options)


def test_network_of_two_images_is_refused(network, tmp_path):
    second = helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, ["n", 3, 9, 8])
    network.graph.input.append(second)
    onnx.save(network, tmp_path / "n.onnx")
    with pytest.raises(ValueError, match=r"with 2 inputs, \['x', 'second'\]"):
        teachers.open_runtime(tmp_path / "n.onnx")


def test_runtime_that_refuses_an_operator_says_so(network, tmp_path):
    network.graph.node[2].op_type = "Unheard"
    network.graph.node[2].domain = "nowhere"
    network.opset_import.append(helper.make_opsetid("nowhere", 1))
    onnx.save(network, tmp_path / "n.onnx")
    with pytest.raises(RuntimeError, match="Teacher 'letters' failed.*Unheard"):
        teachers.runtime_teacher(tmp_path / "n.onnx", "letters", CLASSES, preprocessing=NORMAL)
