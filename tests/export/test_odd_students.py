"""Students that are not like the demo's: each can be packaged, or is refused with the reason."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import export, teachers

DIGITS = Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"


def backbone(image, channels):
    x = keras.ops.image.resize(image, (16, 16), data_format="channels_last")
    x = keras.layers.Rescaling(1 / 64, -2.0)(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    return keras.layers.GlobalAveragePooling2D()(x)


def one_unnamed_head():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, keras.layers.Dense(3, name="only")(backbone(image, 3)))


def five_heads_out_of_order():
    image = keras.Input((16, 16, 3))
    x = backbone(image, 3)
    return keras.Model(
        image,
        {
            name: keras.layers.Dense(2 + n, name=name)(x)
            for n, name in enumerate(("e", "a", "d", "b", "c"))
        },
    )


def grey_of_any_size():
    image = keras.Input((None, None, 1))
    return keras.Model(image, {"a": keras.layers.Dense(3, name="a")(backbone(image, 1))})


def transformer():
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 64, -2.0)(image)
    x = keras.layers.Reshape((16, 8))(keras.layers.Conv2D(8, 4, strides=4)(x))
    for number in range(2):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(2, 4, name=f"attention_{number}")(y, y)
        y = keras.layers.Dense(16, activation="gelu")(keras.layers.LayerNormalization()(x))
        x = x + keras.layers.Dense(8)(y)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, {"a": keras.layers.Dense(3, name="a")(x)})


def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    image = keras.Input((16, 16, 3))
    x = backbone(image, 3)
    model = keras.Model(image, {"a": keras.layers.Dense(3, name="a", dtype="float32")(x)})
    keras.config.set_dtype_policy("float32")
    return model


def sequential():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3, name="a"),
        ]
    )


def sequential_of_any_size():
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Resizing(16, 16),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3, name="a"),
        ]
    )


def converted_backbone():
    """A network that came from PyTorch by ONNX, cut at a layer, with a head of its own."""
    digits = teachers.from_onnx(DIGITS, verify=False)
    tap = digits.get_layer(digits.provenance.names["layer2"]).output
    trunk = keras.Model(digits.inputs[0], tap, name="trunk")
    image = keras.Input((None, None, 1))
    x = ka.Preprocessing(size=(28, 28), mean=0.1307, std=0.3081).build(image, 1)
    x = keras.layers.GlobalAveragePooling2D()(trunk(x))
    return keras.Model(image, {"a": keras.layers.Dense(3, name="a")(x)})


STUDENTS = [
    one_unnamed_head,
    five_heads_out_of_order,
    grey_of_any_size,
    transformer,
    mixed_precision,
    sequential,
    sequential_of_any_size,
    converted_backbone,
]


@pytest.fixture
def built(request):
    keras.utils.set_random_seed(0)
    model = request.param()
    shapes = model.compute_output_shape((None, *model.input_shape[1:]))
    heads = shapes if isinstance(shapes, dict) else {model.layers[-1].name: shapes}
    names = {head: [f"{head}{n}" for n in range(shape[-1])] for head, shape in heads.items()}
    height, width, channels = model.input_shape[1:]
    size = (height or 28, width or 28)
    images = np.random.default_rng(0).integers(0, 256, (24, *size, channels), dtype=np.uint8)
    return model, names, images


@pytest.mark.slow
@pytest.mark.matrix(slow=3)
@pytest.mark.parametrize("built", STUDENTS, indirect=True, ids=lambda student: student.__name__)
def test_student_is_packaged_in_every_format(built, tmp_path):
    model, names, images = built
    arguments = {"class_names": names, "images": images}
    shape = images.shape[1:3]
    artifacts = [
        export.to_tflite(model, tmp_path / "a.tflite", image_shape=shape, **arguments),
        export.to_onnx(model, tmp_path / "a.onnx", **arguments),
        export.to_serving(model, tmp_path / "bundle", name="a", image_shape=shape, **arguments),
    ]
    for artifact in artifacts:
        assert artifact.heads == tuple(names)
        assert artifact.parity["max_abs_error"] <= 1e-4
    int8 = export.to_tflite(
        model,
        tmp_path / "i.tflite",
        "int8",
        images,
        image_shape=shape,
        min_agreement=0,
        **arguments,
    )
    assert int8.heads == tuple(names)
    if model.layers[1].compute_dtype == "float32":
        artifact = export.to_keras(model, tmp_path / "a.keras", class_names=names, images=images)
        assert artifact.parity["max_abs_error"] <= 1e-4


class Subclassed(keras.Model):
    """A model whose layers are called in Python code."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, image):
        return {"a": self.dense(keras.ops.mean(image, axis=(1, 2)))}


@pytest.mark.matrix
@pytest.mark.parametrize("exporter", ["to_tflite", "to_onnx", "to_serving", "to_saved_model"])
def test_subclassed_model_is_refused_with_what_to_do(exporter, tmp_path):
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), "float32"))
    names = {"a": ("x", "y")}
    suffix = {"to_tflite": ".tflite", "to_onnx": ".onnx"}.get(exporter, "")
    with pytest.raises(TypeError, match=r"no fixed graph of layers.*keras.Model\(inputs, wrapped"):
        getattr(export, exporter)(model, tmp_path / f"a{suffix}", class_names=names)
    assert list(tmp_path.iterdir()) == []
    # Wrapped as the message says, it is a student like any other.
    image = keras.Input((8, 8, 3))
    wrapped = keras.Model(image, model(image))
    getattr(export, exporter)(wrapped, tmp_path / f"a{suffix}", class_names=names)


def nested(model):
    image = keras.Input(model.input_shape[1:])
    return keras.Model(image, model(image))


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize("wrap", [lambda model: model, nested])
@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (lambda x: keras.layers.Dense(3, activation="softmax")(x), "probabilities"),
        (lambda x: keras.layers.Softmax()(keras.layers.Dense(3)(x)), "probabilities"),
        (lambda x: keras.ops.sigmoid(keras.layers.Dense(3)(x)), "sigmoid"),
    ],
)
def test_head_of_probabilities_is_refused(activation, kind, wrap, tmp_path):
    """`classify` and the joint prediction would take their softmax once more."""
    image = keras.Input((16, 16, 3))
    x = backbone(image, 3)
    student = wrap(keras.Model(image, {"b": keras.layers.Dense(2)(x), "a": activation(x)}))
    classes = {"a": ("x", "y", "z"), "b": ("p", "q")}
    with pytest.raises(ValueError, match=f"Head 'a' of model .* logits. Received: {kind}"):
        export.to_tflite(student, tmp_path / "a.tflite", class_names=classes)
    # Where nothing is decided, as in an embedding, any numbers are good.
    export.to_onnx(student, tmp_path / "a.onnx", class_names=classes | {"a": ()})


@pytest.mark.parametrize(
    "exporter", [export.to_keras, export.to_onnx, export.to_tflite, export.to_saved_model]
)
def test_name_without_a_place_in_a_graph_is_refused(exporter, tmp_path):
    image = keras.Input((4, 4, 3))
    heads = {"a": keras.layers.Dense(2)(keras.layers.Flatten()(image))}
    model = keras.Model(image, heads, name="my model")
    with pytest.raises(ValueError, match="Received: 'my model'. Expected: ASCII letters"):
        exporter(model, tmp_path / "a", class_names={"a": ("x", "y")})
