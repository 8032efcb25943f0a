"""The normalisation inside files: as they are converted, as they run, and as `inspect` says it."""

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.cli.main import main
from keras_amalgam.images.built_in import SeveralWays
from keras_amalgam.images.measuring import built_in_normalisation

MEAN = np.float32([123.675, 116.28, 103.53])
STD = np.float32([58.395, 57.12, 57.375])
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 8)).astype(np.float32)
STANDARDISED = (IMAGES - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(), [output], name=f"/{output}", **attributes)


def vector(values):
    return np.float32(values).reshape(1, 3, 1, 1)


STATISTICS = {"one": np.ones(3, "float32"), "zero": np.zeros(3, "float32")}
# Nodes from x to p, their constants, and what NumPy makes of the images, channels first.
FORMS = {
    "Sub and Div": (
        [node("Sub", "x m", "c"), node("Div", "c s", "p")],
        {"m": vector(MEAN), "s": vector(STD)},
        STANDARDISED,
    ),
    "Mul and Add": (
        [node("Mul", "f x", "c"), node("Add", "o c", "p")],
        {"f": vector(1 / STD), "o": vector(-MEAN / STD)},
        STANDARDISED,
    ),
    "BatchNormalization": (
        [node("BatchNormalization", "x one zero m v", "p", epsilon=0.0)],
        {**STATISTICS, "m": MEAN, "v": STD**2},
        STANDARDISED,
    ),
    "Gather": (
        [node("Gather", "x i", "c", axis=1), node("Sub", "c m", "p")],
        {"i": np.int64([2, 1, 0]), "m": vector(MEAN[::-1])},
        (IMAGES - MEAN.reshape(3, 1, 1))[:, ::-1],
    ),
    "Slice and Concat": (
        [
            *(node("Slice", f"x b{c} b{c + 1} axis", f"c{c}") for c in range(3)),
            node("Concat", "c2 c1 c0", "c", axis=1),
            node("Div", "c s", "p"),
        ],
        {**{f"b{c}": np.int64([c]) for c in range(4)}, "axis": np.int64([1]),
         "s": np.float32(255)},
        IMAGES[:, ::-1] / 255,
    ),
    "Constant nodes and a Cast": (
        [
            node("Cast", "x", "c", to=TensorProto.FLOAT),
            node("Constant", "", "s", value=onnx.numpy_helper.from_array(np.float32(127.5))),
            node("Div", "c s", "d"),
            node("Sub", "d n", "p"),
        ],
        {"n": np.float32(1)},
        IMAGES / 127.5 - 1,
    ),
}  # fmt: skip
LAST = [
    node("Conv", "p k", "m1"),
    node("GlobalAveragePool", "m1", "g"),
    node("Flatten", "g", "y"),
]
KERNEL = {"k": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype("float32")}


def applied(built_in, images=IMAGES):
    scale, offset = (np.float32(v).reshape(3, 1, 1) for v in (built_in.scale, built_in.offset))
    return (images * scale + offset)[:, list(built_in.order)]


@pytest.fixture
def save(build, tmp_path):
    def run(form, last=LAST, **options):
        nodes, constants, _ = FORMS[form]
        path = tmp_path / "n.onnx"
        model = build([*nodes, *last], (3, 9, 8), {**constants, **KERNEL}, **options)
        onnx.save(model, path)
        return path

    return run


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("form", FORMS)
def test_onnx_file_says_what_numpy_computes_converted_and_in_its_runtime(save, form, opset):
    path, expected = save(form, opset=opset), FORMS[form][2]
    for built_in in (
        built_in_normalisation(teachers.from_onnx(path, verify=False)),
        teachers.open_runtime(path).built_in,
        teachers.inspect(path).built_in,
    ):
        np.testing.assert_allclose(applied(built_in), expected, atol=1e-3)
        assert built_in.expects == "0..255"
        assert built_in.learned == (form == "BatchNormalization")


@pytest.mark.parametrize("form", FORMS)
def test_onnx_file_that_cannot_be_converted_is_measured_all_the_same(save, form):
    path = save(form)
    model = onnx.load(path)
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Strange", "com.corp"
    model.opset_import.append(helper.make_opsetid("com.corp", 1))
    onnx.save(model, path)
    found = teachers.inspect(path)
    assert "Strange" in found.obstacle
    np.testing.assert_allclose(applied(found.built_in), FORMS[form][2], atol=1e-3)


def images_last(dtype):
    """A file of channels-last images, as TensorFlow's exporters write it."""
    nodes = [
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("Sub", "f m", "c"),
        node("Div", "c s", "d"),
        node("Transpose", "d", "p", perm=[0, 3, 1, 2]),
        *LAST,
    ]
    constants = {"m": MEAN, "s": STD, **KERNEL}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, ["batch", 9, 8, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.FLOAT])
def test_channels_last_file_is_measured(tmp_path, dtype):
    path = tmp_path / "n.onnx"
    onnx.save(images_last(dtype), path)
    for built_in in (
        built_in_normalisation(teachers.from_onnx(path, verify=False)),
        teachers.open_runtime(path).built_in,
    ):
        np.testing.assert_allclose(built_in.mean, MEAN, rtol=1e-4)
        np.testing.assert_allclose(built_in.std, STD, rtol=1e-4)


def test_network_without_a_normalisation_has_none(network, tmp_path):
    onnx.save(network, tmp_path / "n.onnx")
    found = teachers.inspect(tmp_path / "n.onnx")
    assert found.built_in is None and found.shows_built_in
    assert teachers.open_runtime(tmp_path / "n.onnx").built_in is None


def test_learned_batch_norm_in_front_is_none(save, monkeypatch):
    nodes, constants, expected = FORMS["BatchNormalization"]
    learned = {**constants, "one": np.float32([1.1, 0.9, 1.0])}
    monkeypatch.setitem(FORMS, "learned", (nodes, learned, expected))
    path = save("learned")
    assert built_in_normalisation(teachers.from_onnx(path, verify=False)) is None
    assert teachers.open_runtime(path).built_in is None


@pytest.mark.parametrize("is_converted", [True, False])
def test_second_normalisation_of_an_onnx_teacher_is_refused(save, is_converted):
    path = save("Sub and Div")

    def teacher(preprocessing):
        if is_converted:
            model = teachers.from_onnx(path, verify=False)
            return ka.Teacher(model, "n", list("abcd"), preprocessing=preprocessing)
        return teachers.runtime_teacher(path, "n", list("abcd"), preprocessing=preprocessing)

    with pytest.raises(ValueError, match="'n' would have its images rescaled twice"):
        teacher(ka.Preprocessing())
    raw = ka.Preprocessing(size=(9, 8), scale=1.0)
    assert teacher(raw).preprocessing == raw
    assert teacher(None).preprocessing == raw


def grey_to_colours():
    """A file of grey images, each of which becomes three channels that are standardised apart."""
    nodes = [node("Expand", "x shape", "e"), node("Sub", "e m", "c"), node("Div", "c s", "p")]
    constants = {"shape": np.int64([1, 3, 1, 1]), "m": vector(MEAN), "s": vector(STD), **KERNEL}
    return [*nodes, *LAST], (1, 9, 8), constants


def test_grey_file_that_normalises_each_of_three_channels_apart_is_not_normalised_again(
    build, tmp_path
):
    path = tmp_path / "n.onnx"
    onnx.save(build(*grey_to_colours()), path)
    for found in (
        built_in_normalisation(teachers.from_onnx(path, verify=False)),
        teachers.open_runtime(path).built_in,
        teachers.inspect(path).built_in,
    ):
        assert isinstance(found, SeveralWays)
        np.testing.assert_allclose([way.mean[0] for way in found.ways], MEAN, rtol=1e-4)
    raw = ka.Preprocessing(size=(9, 8), scale=1.0)
    model = teachers.from_onnx(path, verify=False)
    for make in (
        lambda preprocessing: ka.Teacher(model, "n", list("abcd"), preprocessing=preprocessing),
        lambda preprocessing: teachers.runtime_teacher(
            path, "n", list("abcd"), preprocessing=preprocessing
        ),
    ):
        assert make(None).preprocessing == make(raw).preprocessing == raw
        with pytest.raises(ValueError, match="'n' would have its images normalised twice.*differ"):
            make(ka.Preprocessing(size=(9, 8), mean=0.45, std=0.22))


def small_model():
    inputs = keras.Input((16, 16, 3))
    x = keras.applications.resnet50.preprocess_input(inputs)
    x = keras.layers.Conv2D(4, 3)(x)
    return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalMaxPooling2D()(x)))


def quantised(model, path, taken="float32"):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 16, 16, 3)).astype("float32")
    converter.representative_dataset = lambda: ([image] for image in images)
    converter.inference_input_type = tf.as_dtype(taken)
    path.write_bytes(converter.convert())


@pytest.mark.matrix
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_tflite_file_is_measured_in_litert(tmp_path, kind):
    path = tmp_path / "n.tflite"
    if kind == "int8":
        quantised(small_model(), path)
    else:
        small_model().export(path, format="litert", verbose=False)
    for built_in in (teachers.inspect(path).built_in, teachers.open_runtime(path).built_in):
        assert (built_in.order, built_in.takes_bgr) == ((2, 1, 0), False)
        atol = 0.1 if kind == "float32" else 2.0  # Levels; of 256 in all when they are quantised.
        np.testing.assert_allclose(built_in.mean, [123.68, 116.779, 103.939], atol=atol)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_quantized_input_tells_its_range_and_refuses_images_outside_of_it(tmp_path, capsys):
    path = tmp_path / "n.tflite"
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    quantised(keras.Model(inputs, keras.layers.Dense(4)(x)), path, "uint8")
    found = teachers.inspect(path)
    for covers in (found.covers, teachers.open_runtime(path).covers):
        np.testing.assert_allclose(covers, (0, 255), atol=0.1)
    assert main(["inspect", str(path)]) == 0
    page = capsys.readouterr().out
    assert "  preprocessing  cannot tell: a converter may have multiplied it into" in page
    assert "  input covers   0 to 255\n" in page and "--classes FILE --scale 1 --runtime" in page
    raw = ka.Preprocessing(size=(16, 16), scale=1.0)
    assert teachers.runtime_teacher(path, "n", list("abcd"), preprocessing=raw).preprocessing == raw
    with pytest.raises(ValueError, match="'n' would see next to nothing of its images"):
        teachers.runtime_teacher(path, "n", list("abcd"), preprocessing=ka.Preprocessing())


@pytest.mark.parametrize("is_padded", [False, True])
def test_float_tflite_file_that_begins_with_a_convolution_cannot_tell(tmp_path, is_padded):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.ZeroPadding2D(1)(inputs) if is_padded else inputs
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(x))
    keras.Model(inputs, x).export(tmp_path / "n.tflite", format="litert", verbose=False)
    found = teachers.inspect(tmp_path / "n.tflite")
    assert found.built_in is None and found.may_hide_built_in and found.covers is None


def test_saved_model_is_measured_by_its_converted_form(tmp_path):
    small_model().export(tmp_path / "sm", verbose=False)
    built_in = teachers.inspect(tmp_path / "sm").built_in
    assert str(built_in) == "BGR: pixels - (103.939, 116.779, 123.68)"


def test_file_that_standardises_images_in_0_to_1_gets_them(save, monkeypatch):
    """As torchvision's transforms are exported into the network."""
    nodes, constants, _ = FORMS["Sub and Div"]
    smaller = {name: value / 255 for name, value in constants.items()}
    monkeypatch.setitem(FORMS, "0..1", (nodes, smaller, None))
    model = teachers.from_onnx(save("0..1"), verify=False)
    teacher = ka.Teacher(model, "n", list("abcd"))
    assert teacher.preprocessing == ka.Preprocessing(size=(9, 8), scale=1 / 255)
    for wrong in (ka.Preprocessing(scale=1.0), ka.Preprocessing(mean=0.45, std=0.22)):
        with pytest.raises(ValueError, match="'n' would have its images"):
            ka.Teacher(model, "n", list("abcd"), preprocessing=wrong)
