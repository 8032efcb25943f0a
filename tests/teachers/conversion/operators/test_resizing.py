"""Resize and Upsample against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
SCALES = [(2, 3), (1.5, 0.7), (0.5, 2.3)]


def _by_scales(build, scales, image=(3, 5, 7), opset=13, **attributes):
    """A convolution-like operator behind says where the channels are."""
    inputs = {10: ["x", "scales"], 11: ["x", "roi", "scales"]}.get(opset, ["x", "", "scales"])
    nodes = [make_node("Resize", inputs, ["r"], name="made", **attributes), *_norm("r")]
    constants = {"scales": np.array([1, 1, *scales], np.float32)}
    if opset == 11:  # Where an empty input may not be left out.
        constants["roi"] = np.zeros(0, np.float32)
    return build(nodes, image, constants, opset=opset)


def _by_sizes(build, sizes, image=(3, 5, 7), opset=18, **attributes):
    node = make_node(
        "Resize", ["x", "", "", "sizes"], ["r"], name="made", axes=[2, 3], **attributes
    )
    return build([node, *_norm("r")], image, {"sizes": np.array(sizes)}, opset=opset)


def _norm(name):
    return [make_node("GlobalMaxPool", [name], ["g"]), make_node("Sub", [name, "g"], ["y"])]


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("coordinates", [*COORDINATES, "half_pixel_symmetric"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_smooth_resize_agrees(agrees, build, mode, coordinates, scales):
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    agrees(_by_scales(build, scales, opset=19, **attributes), sizes=(3,))


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_nearest_resize_agrees(agrees, build, coordinates, rounding, scales):
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    agrees(_by_scales(build, scales, **attributes), sizes=(3,))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_nearest_neighbours_of_older_tensorflow_agree(agrees, build, mode):
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    agrees(_by_scales(build, (1.5, 2), opset=11, nearest_mode="floor", **attributes))


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_opset_10_agrees(agrees, build, mode, scales):
    agrees(_by_scales(build, scales, opset=10, mode=mode))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_agrees(agrees, build, mode):
    node = make_node("Upsample", ["x", "s"], ["u"], mode=mode)
    constants = {"s": np.array([1, 1, 2, 1.5], np.float32)}
    agrees(build([node, *_norm("u")], (3, 5, 7), constants, opset=9))


@pytest.mark.parametrize("outside", [0, 1])
@pytest.mark.parametrize("coefficient", [-0.5, -0.75])
@pytest.mark.parametrize("antialias", [0, 1])
def test_cubic_filters_agree(agrees, build, coefficient, outside, antialias):
    attributes = {"cubic_coeff_a": coefficient, "exclude_outside": outside, "antialias": antialias}
    agrees(_by_sizes(build, (3, 12), mode="cubic", **attributes))


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_linear_antialias_agrees(agrees, build, coordinates):
    attributes = {"mode": "linear", "antialias": 1}
    agrees(_by_sizes(build, (2, 12), coordinate_transformation_mode=coordinates, **attributes))


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil"])
def test_half_a_pixel_is_not_lost_in_float32(agrees, build, rounding):
    """1 / float32(2 / 7) is a little below 3.5, yet counts as half way."""
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": rounding}
    agrees(_by_sizes(build, (2, 8), (3, 7, 13), **attributes))


@pytest.mark.parametrize("height", [1, 11, 13])
def test_middle_pixel_is_rounded_as_the_source_rounds_it(agrees, build, height):
    """It lies at 1, of which float64 leaves a little less."""
    attributes = {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": "floor"}
    agrees(_by_sizes(build, (height, 2), (3, 3, 11), opset=19, **attributes))


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_stated_sizes_agree_under_every_policy(agrees, build, mode, policy):
    agrees(_by_sizes(build, (8, 9), mode=mode, keep_aspect_ratio_policy=policy))


def test_resize_along_one_axis_agrees(agrees, build):
    node = make_node("Resize", ["x", "", "s"], ["y"], mode="linear")
    constants = {"s": np.array([1, 1, 1.6], np.float32)}
    agrees(build([node], (3, 7), constants))


def test_resize_of_the_last_axes_of_a_channels_last_network_agrees(agrees, build, random):
    """As tf2onnx writes it: the resizing stands between two transpositions."""
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        make_node("Conv", ["t", "w"], ["c"]),
        make_node("Resize", ["c", "", "s"], ["r"], mode="linear"),
        make_node("Transpose", ["r"], ["y"], perm=[0, 2, 3, 1]),
    ]
    constants = {"w": random(4, 3, 3, 3), "s": np.array([1, 1, 2, 2], np.float32)}
    agrees(build(nodes, (7, 6, 3), constants), maps=False)


@pytest.mark.parametrize(
    ("coordinates", "rounding"), [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")]
)
def test_whole_factors_repeat_pixels_for_any_image_size(agrees, build, coordinates, rounding):
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    source = _by_scales(build, (2, 3), (3, "h", "w"), **attributes)
    model = agrees(source, image=(3, 5, 7))
    assert isinstance(model.get_layer("made"), keras.layers.UpSampling2D)


@pytest.mark.parametrize("scales", [(2, 2), (3, 4), (1, 5), (8, 8)])
def test_whole_factors_interpolate_for_any_image_size(agrees, build, scales):
    source = _by_scales(build, scales, (3, "h", "w"), mode="linear")
    assert agrees(source, image=(3, 5, 7)).output_shape == (None, None, None, 3)


def test_whole_factors_interpolate_a_map_of_known_size_in_one_layer(agrees, build):
    model = agrees(_by_scales(build, (2, 3), mode="linear"))
    assert isinstance(model.get_layer("made"), keras.layers.UpSampling2D)


def test_stated_size_is_reached_from_any_image_size(agrees, build):
    source = _by_sizes(build, (9, 4), (3, "h", "w"), mode="linear")
    for image in ((3, 5, 7), (3, 8, 3)):
        assert agrees(source, image=image).output_shape == (None, 9, 4, 3)


def _twice(read, image=(3, "h", "w")):
    """What exporters write for twice the size of the map `read`."""
    return [
        make_node("Relu", ["x"], ["r"]),
        make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("Shape", [read], ["s"]),
        make_node("Slice", ["s", "two", "four"], ["space"]),
        make_node("Mul", ["space", "factor"], ["z"]),
        make_node("Slice", ["s", "zero", "two"], ["head"]),
        make_node("Concat", ["head", "z"], ["sizes"], axis=0),
        make_node("Resize", ["p", "", "", "sizes"], ["y"], name="made", mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    ]  # fmt: skip


NUMBERS = {"zero": np.array([0]), "two": np.array([2]), "four": np.array([4])}


def test_size_computed_from_the_map_itself_stays_open(agrees, build):
    source = build(_twice("p"), (3, "h", "w"), NUMBERS | {"factor": np.array([2, 2])})
    assert agrees(source, image=(3, 9, 6)).output_shape == (None, None, None, 3)


@pytest.mark.parametrize("factor", [1, 2])
def test_size_computed_from_another_open_map_asks_for_it(agrees, build, factor):
    """All open sizes look alike while converting, so the factor cannot be known."""
    source = build(_twice("r"), (3, "h", "w"), NUMBERS | {"factor": np.array([factor] * 2)})
    with pytest.raises(NotImplementedError, match=r"'made'.*input_shape"):
        agrees(source, image=(3, 9, 6))
    model = agrees(source, image=(3, 9, 6), input_shape=(9, 6, 3))
    assert model.output_shape == (None, 9 * factor, 6 * factor, 3)


@pytest.mark.parametrize(
    ("scales", "attributes"),
    [
        ((1.5, 2), {"mode": "linear"}),
        ((2, 2), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        ((2, 2), {"mode": "cubic"}),
        ((0.5, 0.5), {"mode": "nearest"}),
    ],
)
def test_pixels_that_need_the_size_ask_for_it(agrees, build, scales, attributes):
    source = _by_scales(build, scales, (3, "h", "w"), **attributes)
    with pytest.raises(NotImplementedError, match=r"'made'.*input_shape"):
        agrees(source, image=(3, 5, 7))


@pytest.mark.parametrize(
    ("mode", "option", "values"),
    [
        ("linear", "coordinate_transformation_mode", ("half_pixel", "align_corners")),
        ("linear", "coordinate_transformation_mode", ("half_pixel", "asymmetric")),
        ("nearest", "nearest_mode", ("floor", "ceil")),
        ("cubic", "cubic_coeff_a", (-0.5, -0.75)),
    ],
)
def test_another_rule_is_noticed(agrees, build, random, mode, option, values):
    models = [agrees(_by_scales(build, (2, 1.5), mode=mode, **{option: value})) for value in values]
    images = random(1, 5, 7, 3)
    assert np.abs(np.subtract(*(np.asarray(model(images)) for model in models))).max() > 0.01


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"coordinate_transformation_mode": "tf_crop_and_resize"}, "tf_crop_and_resize"),
        ({"mode": "lanczos"}, "lanczos"),
        ({"keep_aspect_ratio_policy": "sometimes"}, "sometimes"),
    ],
)
def test_unknown_form_of_resize_is_refused(agrees, build, attributes, reason):
    source = _by_sizes(build, (8, 9))
    source.graph.node[0].attribute.extend(make_node("N", [], [], **attributes).attribute)
    with pytest.raises(NotImplementedError, match=rf"'made'.*{reason}"):
        agrees(source)


def test_resize_of_the_batch_is_refused(agrees, build):
    source = _by_scales(build, (2, 2))
    source.graph.initializer[0].raw_data = np.array([2, 1, 2, 2], np.float32).tobytes()
    with pytest.raises(NotImplementedError, match="resizes the batch"):
        agrees(source)


def test_resize_to_nothing_that_is_stated_is_an_error(agrees, build):
    with pytest.raises(ValueError, match="'made'.*neither scales nor sizes"):
        agrees(build([make_node("Resize", ["x"], ["y"], name="made")], (3, 5, 7), opset=13))
