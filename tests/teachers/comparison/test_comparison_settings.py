"""What a comparison may be asked for, and on how many and which images it runs."""

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.teachers.comparison.pairing import pair
from keras_amalgam.teachers.comparison.parity import compare

CLASSES = ["a", "b", "c", "d", "e"]
NORMAL = ka.Preprocessing(mean=0.5, std=0.5)


@pytest.fixture
def path(network, tmp_path):
    onnx.save(network, tmp_path / "n.onnx")
    return tmp_path / "n.onnx"


@pytest.fixture
def model(path):
    return teachers.from_onnx(path, verify=False)


@pytest.mark.parametrize("tolerance", [float("nan"), float("inf"), -1e-4])
def test_tolerance_that_is_no_bound_is_refused_everywhere(tolerance, path, model):
    teacher = ka.Teacher(model, "t", CLASSES, preprocessing=NORMAL)
    calls = [
        lambda: teachers.check_parity(model, path, tolerance=tolerance),
        lambda: teachers.check_teacher(teacher, path, tolerance=tolerance),
        lambda: teachers.from_onnx(path, tolerance=tolerance, verify=False),
        lambda: teachers.from_keras(model, tolerance=tolerance),
        lambda: teachers.from_saved_model("nowhere", tolerance=tolerance),
        lambda: teachers.from_torch(None, (1, 3, 9, 8), tolerance=tolerance),
        lambda: teachers.from_keras_hub("nothing", tolerance=tolerance),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="`tolerance` must be finite and not negative"):
            call()


def test_tolerance_that_is_no_number_is_refused(path):
    with pytest.raises(TypeError, match="`tolerance` must be a number. Received: '1e-4'"):
        teachers.from_onnx(path, tolerance="1e-4")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"batch_sizes": ()}, ValueError, r"`batch_sizes` must be .* Received: \(\)"),
        ({"batch_sizes": (0,)}, ValueError, r"`batch_sizes` must be .* Received: \(0,\)"),
        ({"taps": "r2"}, TypeError, r"Received: 'r2'. Use \['r2'\]"),
        ({"images": np.zeros((0, 9, 8, 3), "float32")}, ValueError, "At least one image"),
    ],
)
def test_comparison_of_nothing_is_refused(options, kind, message, path, model):
    with pytest.raises(kind, match=message):
        teachers.check_parity(model, path, **options)


def test_input_shape_that_is_no_shape_is_refused(path):
    with pytest.raises(TypeError, match=r"`input_shape` must be a tuple.* Received: 8"):
        teachers.from_onnx(path, input_shape=8)


def test_fewer_images_than_a_batch_are_repeated(path, model):
    given = np.random.default_rng(0).uniform(-2, 2, (2, 9, 8, 3)).astype("float32")
    seen = []
    pairing = pair(model, path)
    run = pairing.runtime.run
    pairing.runtime.run = lambda images, tensors: seen.append(images) or run(images, tensors)
    compare(pairing, model, [], 1e-4, (1, 3), given)
    np.testing.assert_array_equal(seen[-1], given[[0, 1, 0]])


def test_teacher_of_a_fixed_batch_with_tokens_in_front_is_compared(build, random, tmp_path):
    """Of eight images, with the batch second: no part of five images can be cut off there."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1] * 4),
        helper.make_node("Reshape", ["c", "s"], ["r1"]),
        helper.make_node("Transpose", ["r1"], ["t1"], perm=[2, 0, 1]),
        helper.make_node("Relu", ["t1"], ["tokens"]),
        helper.make_node("ReduceMean", ["tokens"], ["m"], axes=[0], keepdims=0),
        helper.make_node("MatMul", ["m", "d"], ["y"]),
    ]
    shape = np.array([8, 16, 64], np.int64)
    constants = {"k": random(16, 3, 3, 3), "s": shape, "d": random(16, 5)}
    path = tmp_path / "eight.onnx"
    onnx.save(build(nodes, (3, 8, 8), constants, batch=8), path)
    model = teachers.from_onnx(path)
    teacher = ka.Teacher(model, "t", CLASSES, tap="tokens", preprocessing=NORMAL)
    report = teachers.check_teacher(teacher, path)
    assert report["passed"] and list(report["taps"]) == ["tokens"]
    kernel = model.layers[1]
    kernel.set_weights([w[..., ::-1] for w in kernel.get_weights()])
    with pytest.raises(ValueError, match="error appears first at"):
        teachers.check_teacher(teacher, path)


@pytest.fixture
def of_bytes(build, random, tmp_path):
    """A network that takes uint8."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["f", "k"], ["c"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["v"]),
        helper.make_node("MatMul", ["v", "d"], ["y"]),
    ]
    model = build(nodes, (3, 16, 16), {"k": random(8, 3, 3, 3) / 255, "d": random(8, 5)})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, tmp_path / "u8.onnx")
    return tmp_path / "u8.onnx"


@pytest.mark.matrix
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])  # The second leaves 0..255.
def test_network_of_integers_is_fed_rounded_images(interpolation, of_bytes):
    images = np.zeros((1, 7, 7, 3), "float32")
    images[:, 2:5, 2:5] = 255
    said = ka.Preprocessing(size=(16, 16), scale=1.0, interpolation=interpolation)
    model = teachers.from_onnx(of_bytes)
    teacher = ka.Teacher(model, "t", CLASSES, preprocessing=said, outputs="logits")
    resized = keras.ops.image.resize(images, (16, 16), interpolation=interpolation)
    fed = np.clip(np.rint(np.asarray(resized)), 0, 255).astype("uint8")
    expected = np.asarray(model(fed))
    received = np.asarray(teacher.answers(3)(images)[teacher.name])
    np.testing.assert_allclose(received, expected, atol=1e-6)
    runtime = teachers.runtime_teacher(of_bytes, "t", CLASSES, preprocessing=said, outputs="logits")
    np.testing.assert_allclose(runtime.answers(3)(images)[runtime.name], expected, atol=1e-5)
    assert teachers.check_teacher(teacher, of_bytes)["passed"]


def test_runtime_teacher_is_compared_with_no_other_file(path, network, tmp_path):
    network.graph.initializer[0].raw_data = bytes(len(network.graph.initializer[0].raw_data))
    onnx.save(network, tmp_path / "other.onnx")
    teacher = teachers.runtime_teacher(path, "t", CLASSES, preprocessing=NORMAL)
    with pytest.raises(ValueError, match=r"runs 'n.onnx' itself.*other.onnx' as the source"):
        teachers.check_teacher(teacher, tmp_path / "other.onnx")
    teacher.save(tmp_path / "saved")
    assert teachers.check_teacher(teachers.load(tmp_path / "saved"), path)["passed"]
