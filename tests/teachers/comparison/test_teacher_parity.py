"""Teachers against their sources from image bytes on, and the twins that must not pass."""

import io
import json

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_node
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.models.plausibility import TeacherWarning
from keras_amalgam.teachers.comparison.reference_preprocessing import reference_input
from keras_amalgam.teachers.comparison.sample_images import sample_images

CLASSES = ["a", "b", "c", "d", "e"]
SAID = {
    "size": (9, 8),
    "mean": (0.4, 0.5, 0.6),
    "std": (0.2, 0.3, 0.25),
    "crop_fraction": 0.8,
}


@pytest.fixture
def path(network, tmp_path):
    onnx.save(network, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def teacher_of(model, tap="body", **said):
    preprocessing = ka.Preprocessing(**SAID | said)
    return ka.Teacher(model, "cars", CLASSES, tap=tap, preprocessing=preprocessing)


def source_code(**other):
    """What the network's authors ran before it: bytes to channels first, a batch of one."""

    def run(content):
        array = reference_input(content, ka.Preprocessing(**SAID | other), 3)
        return array.transpose(2, 0, 1)[None]

    return run


def test_teacher_agrees_with_its_file_from_bytes_on(path):
    report = teachers.check_teacher(teacher_of(teachers.from_onnx(path)), path)
    assert report["passed"] and report["failure"] is None
    assert list(report["outputs"]) == ["y"] and list(report["taps"]) == ["r2"]
    for errors in (report["input"], report["outputs"]["y"], report["taps"]["r2"]):
        assert errors["max_abs_error"] < 1e-4
        assert errors["mean_abs_error"] <= errors["max_abs_error"]
        assert errors["cosine"] == pytest.approx(1, abs=1e-6)
        assert errors["argmax_agreement"] == 1
        assert errors["range"] > 1
    assert list(report["images"]) == list(sample_images((None, 9, 8, 3), (9, 8)))
    assert report["source"]["runtime"].startswith("onnxruntime 1.")
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_authors_own_code_may_be_the_reference(path):
    teacher = teacher_of(teachers.from_onnx(path))
    report = teachers.check_teacher(teacher, path, preprocess=source_code())
    assert report["source"]["preprocessing"] == "the caller's"


@pytest.mark.matrix
@pytest.mark.parametrize(
    "other",
    [
        {"mean": (0.4, 0.5, 0.61)},
        {"std": (0.2, 0.3, 0.26)},
        {"antialias": False},
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in (
                {"scale": 1 / 256},
                {"channels": "bgr"},
                {"interpolation": "bicubic"},
                {"crop_fraction": 1.0},
            )
        ),
    ],
)
@pytest.mark.slow
def test_another_preprocessing_than_the_authors_is_called_that(path, other):
    teacher = teacher_of(teachers.from_onnx(path))
    with pytest.raises(ValueError, match="'cars'.*error is in the preprocessing.*largest error"):
        teachers.check_teacher(teacher, path, preprocess=source_code(**other))
    report = teachers.check_teacher(
        teacher, path, preprocess=source_code(**other), allow_difference=True
    )
    assert not report["passed"] and "preprocessing" in report["failure"]
    assert report["input"]["max_abs_error"] > 1e-3


def test_one_corrupted_weight_is_found_at_its_node(path):
    model = teachers.from_onnx(path)
    layer = model.get_layer("body_conv_Conv")
    kernel, bias = layer.get_weights()
    kernel[0, 1, 2, 3] += 0.02
    layer.set_weights([kernel, bias])
    teacher = teacher_of(model)
    with pytest.raises(ValueError, match="'cars'.*appears first at node '/body/conv/Conv'"):
        teachers.check_teacher(teacher, path)
    report = teachers.check_teacher(teacher, path, allow_difference=True)
    assert not report["passed"] and report["input"]["max_abs_error"] < 1e-4
    assert teachers.check_teacher(teacher, path, tolerance=0.5)["passed"]


def test_a_wrong_preprocessing_in_the_graph_is_found_out_without_the_authors_code(
    path, monkeypatch
):
    teacher = teacher_of(teachers.from_onnx(path))
    build = ka.Preprocessing.build

    def wrong(self, images, channels):
        return build(self, images, channels) + 0.01

    monkeypatch.setattr(ka.Preprocessing, "build", wrong)
    with pytest.raises(ValueError, match="error is in the preprocessing"):
        teachers.check_teacher(teacher, path)


def test_images_of_ones_own_are_compared_and_named(path):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    teacher = teacher_of(teachers.from_onnx(path))
    report = teachers.check_teacher(teacher, path, images={"mine.png": buffer.getvalue()})
    assert list(report["images"]) == ["mine.png"] and report["passed"]
    with pytest.raises(ValueError, match="Received: 'his.png', 8 bytes.* Expected: JPEG or PNG"):
        damaged = {"mine.png": buffer.getvalue(), "his.png": b"no image"}
        teachers.check_teacher(teacher, path, images=damaged)
    with pytest.raises(ValueError, match="At least one image"):
        teachers.check_teacher(teacher, path, images={})


def photos(number, seed=0):
    """PNG files of different images."""
    contents = {}
    for index in range(number):
        pixels = np.random.default_rng(seed + index).integers(0, 256, (9, 8, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        contents[f"{index}.png"] = buffer.getvalue()
    return contents


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [False, True])
def test_images_that_contradict_logits_are_warned_of_and_few_or_none_say_nothing(
    network, tmp_path, runtime
):
    """A regression's answers: the same network's, lifted above zero."""
    network.graph.node[-1].output[0] = "numbers"
    network.graph.node.append(make_node("Add", ["numbers", "lift"], ["y"], name="/lift"))
    lift = np.float32([40, 41, 42, 43, 44])
    network.graph.initializer.append(onnx.numpy_helper.from_array(lift, "lift"))
    path = tmp_path / "n.onnx"
    onnx.save(network, path)
    if runtime:
        said = {"preprocessing": ka.Preprocessing(**SAID)}
        teacher = teachers.runtime_teacher(path, "cars", CLASSES, **said)
        vouched = teachers.runtime_teacher(path, "cars", CLASSES, outputs="logits", **said)
    else:
        teacher = teacher_of(teachers.from_onnx(path), tap=None)
        vouched = ka.Teacher(
            teacher.model, "cars", CLASSES, outputs="logits", preprocessing=teacher.preprocessing
        )
    with pytest.warns(TeacherWarning, match="'cars' may not return logits: all of its answers to"):
        report = teachers.check_teacher(teacher, path, images=photos(16))
    assert report["passed"] and "are positive, from" in report["warnings"][0]
    for one, images in ((teacher, photos(15)), (teacher, None), (vouched, photos(16))):
        assert teachers.check_teacher(one, path, images=images)["warnings"] == []


def test_what_does_not_fit_the_network_is_refused(path):
    teacher = teacher_of(teachers.from_onnx(path))
    with pytest.raises(ValueError, match=r"`preprocess` must return.*\(3, 4, 3\).*\(9, 8, 3\)"):
        teachers.check_teacher(teacher, path, preprocess=lambda content: np.zeros((3, 4, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "kind"), [("Softmax", "probabilities"), ("Sigmoid", "sigmoid"), ("Identity", "logits")]
)
def test_outputs_are_compared_as_the_source_gives_them(network, tmp_path, last, kind):
    network.graph.node[-1].output[0] = "logits"
    network.graph.node.append(make_node(last, ["logits"], ["y"], name="/last"))
    onnx.save(network, tmp_path / "n.onnx")
    preprocessing = ka.Preprocessing(**SAID)
    model = teachers.from_onnx(tmp_path / "n.onnx")
    teacher = ka.Teacher(model, "cars", CLASSES, outputs=kind, preprocessing=preprocessing)
    report = teachers.check_teacher(teacher, tmp_path / "n.onnx")
    assert report["taps"] == {}
    assert (report["outputs"]["y"]["range"] <= 1) == (kind != "logits")
    assert report["outputs"]["y"]["max_abs_error"] < 1e-4


@pytest.mark.slow
def test_keras_file_and_loaded_teacher_are_compared(path, tmp_path):
    model = teachers.from_onnx(path)
    model.save(tmp_path / "n.keras")
    teacher = teacher_of(teachers.from_keras(tmp_path / "n.keras"), tap="body_relu_Relu")
    assert teachers.check_teacher(teacher, tmp_path / "n.keras")["taps"]
    teacher_of(model).save(tmp_path / "t")
    loaded = ka.Teacher.load(tmp_path / "t")
    assert teachers.check_teacher(loaded, path)["taps"]


@pytest.mark.slow
def test_rebuilt_keras_network_is_paired_by_the_place_of_its_layers():
    def build():
        return keras.applications.MobileNetV3Small(
            weights=None, classes=5, input_shape=(32, 32, 3), minimalistic=True
        )

    model, again = build(), build()
    again.set_weights(model.get_weights())
    assert [x.name for x in model.layers] != [x.name for x in again.layers]
    preprocessing = ka.Preprocessing(scale=1.0)
    teacher = ka.Teacher(model, "cars", CLASSES, preprocessing=preprocessing)
    assert teachers.check_teacher(teacher, again)["passed"]
    again.layers[2].set_weights([w + 0.01 for w in again.layers[2].get_weights()])
    with pytest.raises(ValueError, match=f"first at layer {model.layers[2].name!r}"):
        teachers.check_teacher(teacher, again)


def test_runtime_teacher_is_compared_with_its_own_runtime(path):
    preprocessing = ka.Preprocessing(**SAID)
    teacher = teachers.runtime_teacher(
        path, "cars", CLASSES, tap="body", preprocessing=preprocessing
    )
    report = teachers.check_teacher(teacher)
    assert report["passed"] and list(report["taps"]) == ["body"]
    assert report["source"]["runtime"].startswith("onnxruntime 1.")
    with pytest.raises(ValueError, match="error is in the preprocessing"):
        teachers.check_teacher(teacher, preprocess=source_code(mean=0.4))
    with pytest.raises(ValueError, match="needs the source to be compared with"):
        teachers.check_teacher(teacher_of(teachers.from_onnx(path)))


@pytest.mark.parametrize("in_its_runtime", [False, True], ids=["converted", "runtime"])
def test_every_tap_is_compared_by_its_own_tensor(path, in_its_runtime):
    said = ka.Preprocessing(**SAID)
    if in_its_runtime:
        taps = {"early": "r1", "late": "r2"}
        teacher = teachers.runtime_teacher(path, "cars", CLASSES, preprocessing=said, taps=taps)
    else:
        taps = {"early": "stem_relu_Relu", "late": "body"}
        teacher = ka.Teacher(
            teachers.from_onnx(path), "cars", CLASSES, taps=taps, preprocessing=said
        )
    report = teachers.check_teacher(teacher, path)
    assert report["passed"] and set(report["taps"]) == {"r1", "r2"}
    assert all(errors["max_abs_error"] < 1e-4 for errors in report["taps"].values())
    assert report["taps"]["r1"]["range"] != report["taps"]["r2"]["range"]


def test_saved_runtime_teacher_keeps_its_taps(path, tmp_path):
    taps = {"early": "r1", "late": "r2"}
    said = ka.Preprocessing(**SAID)
    teacher = teachers.runtime_teacher(path, "cars", CLASSES, preprocessing=said, taps=taps)
    teacher.save(tmp_path / "saved")
    again = teachers.load(tmp_path / "saved")
    assert again.taps == {name: ka.Tap(layer) for name, layer in taps.items()}
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3)).astype("float32")
    mine, its = (one.signals(3)(images)["features"] for one in (teacher, again))
    for name in taps:
        np.testing.assert_array_equal(mine[name], its[name])


@pytest.mark.slow
@pytest.mark.parametrize("last", [None, "Softmax", "Sigmoid"])
@pytest.mark.parametrize("in_its_runtime", [False, True])
def test_answer_in_a_map_of_one_by_one_is_compared(build, random, tmp_path, last, in_its_runtime):
    nodes = [
        make_node("Conv", ["x", "w1"], ["c1"], name="/body/Conv"),
        make_node("GlobalAveragePool", ["c1"], ["p"], name="/pool"),
        make_node("Conv", ["p", "w2"], ["logits"], name="/head/Conv"),
    ]
    if last:
        nodes.append(
            make_node(last, ["logits"], ["y"], **({"axis": 1} if last == "Softmax" else {}))
        )
    constants = {"w1": random(4, 3, 3, 3, seed=1), "w2": random(5, 4, 1, 1, seed=2)}
    path = tmp_path / "network.onnx"
    onnx.save(build(nodes, (3, 9, 8), constants), path)
    said = {
        "tap": "body",
        "preprocessing": ka.Preprocessing(**SAID),
        "outputs": "sigmoid" if last == "Sigmoid" else "auto",
    }
    if in_its_runtime:
        report = teachers.check_teacher(teachers.runtime_teacher(path, "cars", CLASSES, **said))
        assert report["passed"] and list(report["taps"]) == ["body"]
        return
    teacher = ka.Teacher(teachers.from_onnx(path), "cars", CLASSES, **said)
    assert teacher.answers(3).output[teacher.name].shape == (None, 5)
    assert teachers.check_teacher(teacher, path)["passed"]
    kernel, *others = teacher.model.get_layer("head_Conv").get_weights()
    teacher.model.get_layer("head_Conv").set_weights([kernel[..., ::-1], *others])
    with pytest.raises(ValueError, match="differs from its source"):
        teachers.check_teacher(teacher, path)


def test_open_network_without_a_size_takes_images_as_they_are(build, random, tmp_path):
    source = build(
        [
            make_node("Conv", ["x", "w"], ["c"], name="conv"),
            make_node("GlobalAveragePool", ["c"], ["p"]),
            make_node("Flatten", ["p"], ["y"]),
        ],
        (1, "height", "width"),
        {"w": random(4, 1, 3, 3)},
    )
    onnx.save(source, tmp_path / "open.onnx")
    teacher = ka.Teacher(
        teachers.from_onnx(tmp_path / "open.onnx"),
        "marks",
        CLASSES[:4],
        tap="conv",
        preprocessing=ka.Preprocessing(mean=0.5, std=0.5),
    )
    report = teachers.check_teacher(teacher, tmp_path / "open.onnx")
    assert report["passed"] and list(report["taps"]) == ["c"]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["auto", "map", "pooled"])
def test_tokens_are_compared_as_the_teacher_reads_them(tmp_path, tokens):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Reshape((16, 4, 3))(inputs)
    x = keras.layers.Reshape((16, 12), name="tokens")(x)
    logits = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling1D()(x))
    keras.Model(inputs, logits).save(tmp_path / "n.keras")
    teacher = ka.Teacher(
        teachers.from_keras(tmp_path / "n.keras"),
        "cars",
        CLASSES,
        tap=ka.Tap("tokens", tokens=tokens),
        preprocessing=ka.Preprocessing(size=(8, 8)),
    )
    report = teachers.check_teacher(teacher, tmp_path / "n.keras")
    assert report["taps"]["tokens"]["max_abs_error"] < 1e-5


def test_sample_images_are_always_the_same():
    first, second = (sample_images((None, 32, 32, 3), (32, 32)) for _ in range(2))
    assert first == second and len(first) == 5
    modes = {Image.open(io.BytesIO(content)).mode for content in first.values()}
    assert modes == {"RGB", "L"}
    assert {c[:4] for c in first.values()} == {b"\x89PNG", b"\xff\xd8\xff\xe0"}
