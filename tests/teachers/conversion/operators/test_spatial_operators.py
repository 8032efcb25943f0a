"""What every converted spatial operator owes: TFLite's own operators, reloading, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from onnx.helper import make_node
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def _resize(scales, **attributes):
    scales = np.array([1, 1, *scales], np.float32)
    return "Resize", ["h", "", "s"], attributes, {"s": scales}


def _pad(mode, pads=(0, 0, 1, 2, 0, 0, 2, 1)):
    return "Pad", ["h", "p"], {"mode": mode}, {"p": np.array(pads)}


def _pool(operator, **attributes):
    return operator, ["h"], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], **attributes}, {}


def _conv(operator, kernel, **attributes):
    weights = np.random.default_rng(7).uniform(-1, 1, kernel).astype(np.float32)
    return operator, ["h", "v"], attributes, {"v": weights}


CASES = {
    "conv_groups": _conv("Conv", (8, 2, 3, 3), group=2, strides=[2, 1]),
    "conv_strides_dilations": _conv("Conv", (3, 4, 3, 3), strides=[2, 2], dilations=[3, 2]),
    "depthwise_two_strides": _conv("Conv", (4, 1, 3, 3), group=4, strides=[2, 1]),
    "conv_transpose": _conv("ConvTranspose", (4, 3, 3, 3), strides=[2, 2], pads=[1, 1, 0, 1]),
    "conv_transpose_groups": _conv("ConvTranspose", (4, 1, 3, 3), group=4, strides=[2, 2]),
    "max_pool": _pool("MaxPool", ceil_mode=1, strides=[2, 2]),
    "max_pool_dilated": _pool("MaxPool", dilations=[2, 3]),
    "average_pool": _pool("AveragePool", strides=[2, 2]),
    "average_pool_dilated": _pool("AveragePool", dilations=[2, 3], strides=[2, 1]),
    "lp_pool": _pool("LpPool", p=2),
    "lp_pool_odd": _pool("LpPool", p=3),
    "global_lp_pool": ("GlobalLpPool", ["h"], {"p": 2}, {}),
    "pad_crop": _pad("constant", (0, 0, -1, 2, 0, 0, 2, -1)),
    "pad_reflect": _pad("reflect"),
    "pad_edge": _pad("edge"),
    "pad_wrap": _pad("wrap"),
    "resize_whole": _resize((2, 3), mode="nearest"),
    "resize_nearest": _resize((1.5, 0.7), mode="nearest"),
    "resize_whole_bilinear": _resize((2, 2), mode="linear"),
    "resize_bilinear": (
        "Resize", ["h", "", "", "z"], {"mode": "linear", "axes": [2, 3]}, {"z": np.array([13, 5])}
    ),
    "resize_align_corners": _resize(
        (2, 2), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "resize_cubic": _resize((1.5, 2), mode="cubic"),
    "depth_to_space": ("DepthToSpace", ["h"], {"blocksize": 2, "mode": "DCR"}, {}),
    "depth_to_space_crd": ("DepthToSpace", ["h"], {"blocksize": 2, "mode": "CRD"}, {}),
    "space_to_depth": ("SpaceToDepth", ["h"], {"blocksize": 2}, {}),
}  # fmt: skip


def _run(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def _as_tflite(model):
    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _run_tflite(content, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_spatial_operator_reloads_trains_and_becomes_tflite(agrees, build, random, tmp_path, case):
    operator, inputs, attributes, constants = CASES[case]
    wide = 4 if "crd" not in case else 8
    nodes = [
        make_node("Conv", ["x", "w"], ["h"], name="first"),
        make_node(operator, inputs, ["y"], name="made", **attributes),
    ]
    constants = constants | {"w": random(wide, 3, 1, 1)}
    model = agrees(build(nodes, (3, 8, 10), constants, opset=19))
    images = random(1, 8, 10, 3)
    expected = _run(model, images)

    np.testing.assert_allclose(_run_tflite(_as_tflite(model), images), expected, atol=1e-4)
    model.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(_run(again, images), expected)
    assert again.get_layer("made").output.shape == model.output.shape

    before = model.get_layer("first").get_weights()[0]
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    model.train_on_batch(images, expected + 1)
    after = model.get_layer("first").get_weights()[0]
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-6


def test_operator_that_tflite_lacks_is_noticed():
    image = keras.Input((8, 10, 3))
    enlarged = keras.ops.image.resize(image, (16, 20), interpolation="bicubic")
    with pytest.raises(Exception, match="ResizeBicubic"):
        _as_tflite(keras.Model(image, enlarged))


HUGE = 2**31 - 1


@pytest.mark.parametrize(
    "node",
    [
        make_node("Conv", ["x", "v"], ["y"], name="bomb", strides=[0, 1]),
        make_node("Conv", ["x", "v"], ["y"], name="bomb", pads=[0, 0, HUGE, 0]),
        make_node("Conv", ["x", "v"], ["y"], name="bomb", pads=[0, -1, 0, 0]),
        make_node("ConvTranspose", ["x", "v"], ["y"], name="bomb", output_shape=[HUGE, 9]),
        make_node("ConvTranspose", ["x", "v"], ["y"], name="bomb", output_padding=[HUGE, 0]),
        make_node("MaxPool", ["x"], ["y"], name="bomb", kernel_shape=[HUGE, 1]),
        make_node("AveragePool", ["x"], ["y"], name="bomb", kernel_shape=[2, 2], strides=[HUGE, 1]),
        make_node("Pad", ["x", "p"], ["y"], name="bomb", mode="edge"),
        make_node("Resize", ["x", "", "", "z"], ["y"], name="bomb", mode="cubic"),
        make_node("Resize", ["x", "", "s"], ["y"], name="bomb", mode="nearest"),
    ],
)
def test_amounts_that_no_memory_holds_are_an_error(agrees, build, random, node):
    constants = {
        "v": random(3, 3, 2, 2),
        "p": np.array([0, 0, 0, 0, 0, 0, HUGE, 0]),
        "z": np.array([1, 3, HUGE, 9]),
        "s": np.array([1, 1, np.nan, 1e9], np.float32),
    }
    source = build([make_node("Relu", ["x"], ["y"])], (3, 8, 9))
    whole = build([make_node("Identity", ["x"], ["y"])], (3, 8, 9), constants, opset=19)
    source.graph.node[0].CopyFrom(node)
    source.graph.initializer.extend(
        tensor for tensor in whole.graph.initializer if tensor.name in node.input
    )
    source.opset_import[0].version = 19
    with pytest.raises(ValueError, match="'bomb'"):
        agrees(source)
