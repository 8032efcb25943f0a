"""SavedModels become Keras networks with real weights and no transpositions."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import teachers


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A Keras network, exported by Keras, and the directory."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 24, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(inputs)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Activation("hard_silu")(x)
    y = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = keras.layers.Conv2D(8, 1, activation="hard_sigmoid", name="gate")(y)
    x = keras.layers.Multiply(name="gated")([x, y])
    x = keras.layers.Concatenate()([keras.layers.MaxPooling2D(3, 2, padding="same")(x)] * 2)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax", name="head")(x))
    directory = tmp_path_factory.mktemp("saved") / "flowers"
    model.export(directory, verbose=False)
    return model, directory


@pytest.fixture(scope="module")
def converted(exported):
    """The SavedModel, converted."""
    return teachers.from_saved_model(exported[1])


def test_converted_network_agrees_with_the_original(exported, converted, transposes):
    images = np.random.default_rng(0).uniform(-2, 2, (3, 32, 24, 3)).astype(np.float32)
    for batch in (images[:1], images):
        np.testing.assert_allclose(converted(batch), exported[0](batch), atol=1e-5)
    assert converted.input_shape == (None, 32, 24, 3)
    assert transposes(converted) == 0


def test_weights_are_real_and_train(converted):
    layers = {type(layer) for layer in converted.layers}
    assert {keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense} <= layers
    assert converted.count_params() > 8 * 27


def test_tap_goes_by_the_keras_layers_name(converted):
    names = converted.provenance.names
    path = next(name for name in names if name.endswith("/gated_1") or name.endswith("/gated"))
    assert converted.get_layer(names[path]).output.shape == (None, 8, 6, 8)


def test_provenance_has_the_hash_of_the_directory_and_the_parity(exported, converted):
    provenance = converted.provenance
    assert provenance.source == "flowers"
    assert provenance.framework.startswith("tensorflow 2.")
    assert provenance.parity["outputs"]["output_0"]["max_abs_error"] <= 1e-4
    again = teachers.from_saved_model(exported[1], verify=False).provenance
    assert (again.sha256, again.parity) == (provenance.sha256, {})


def test_corrupted_weight_is_found_out_against_the_serving_function(exported):
    model = teachers.from_saved_model(exported[1])
    layer = next(x for x in model.layers if isinstance(x, keras.layers.Dense))
    kernel = layer.get_weights()[0]
    kernel[7, 2] += 0.5
    layer.set_weights([kernel, *layer.get_weights()[1:]])
    with pytest.raises(ValueError, match="differs from its source"):
        teachers.check_parity(model, exported[1])


class Serving(tf.Module):
    """Serving functions that cannot become a teacher."""

    @tf.function(input_signature=[tf.TensorSpec((None, 4)), tf.TensorSpec((None, 4))])
    def pair(self, a, b):
        """Two inputs."""
        return {"y": a + b}

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4))])
    def inverse(self, x):
        """An operation that ONNX does not have."""
        return {"y": tf.linalg.inv(x)}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A SavedModel of `Serving`."""
    directory = tmp_path_factory.mktemp("saved") / "odd"
    module = Serving()
    functions = {"pair": module.pair, "inverse": module.inverse}
    tf.saved_model.save(module, str(directory), signatures=functions)
    return directory


@pytest.mark.parametrize(
    ("signature", "error", "message"),
    [
        ("serving_default", ValueError, r"no serving function.*\['inverse', 'pair'\]"),
        ("pair", ValueError, r"with 2 arguments, \['a', 'b'\]"),
        ("inverse", NotImplementedError, r"MatrixInverse"),
    ],
)
def test_serving_function_that_cannot_teach_is_refused(odd, signature, error, message):
    with pytest.raises(error, match=message):
        teachers.from_saved_model(odd, signature=signature)


def test_directory_without_a_saved_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no saved_model.pb in it"):
        teachers.from_saved_model(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.99])
def test_cut_off_saved_model_is_refused(exported, tmp_path, fraction):
    import shutil

    shutil.copytree(exported[1], tmp_path / "cut")
    file = tmp_path / "cut" / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match="'cut' cannot be loaded"):
        teachers.from_saved_model(tmp_path / "cut")


def test_what_is_no_path_is_refused():
    with pytest.raises(TypeError, match="directory of a SavedModel"):
        teachers.from_saved_model(3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-4), ("float16", 1e-2)])
def test_function_of_another_float_type_is_fed_that_type(dtype, tolerance, tmp_path):
    class Linear(tf.Module):
        def __init__(self):
            kernel = np.random.default_rng(0).normal(size=(192, 5))
            self.kernel = tf.Variable(kernel.astype(dtype))

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), dtype, name="x")])
        def serve(self, x):
            return {"y": tf.cast(tf.reshape(x, (-1, 192)) @ self.kernel, tf.float32)}

    network = Linear()
    tf.saved_model.save(network, str(tmp_path / "saved"), signatures=network.serve)
    model = teachers.from_saved_model(tmp_path / "saved", tolerance=tolerance)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 3)).astype("float32")
    expected = network.serve(tf.constant(images.astype(dtype)))["y"]
    np.testing.assert_allclose(model(images), expected, atol=tolerance * 20)


@pytest.fixture(params=["2.9.3", "2.15.1"])
def trained(request, tmp_path):
    """A SavedModel of Keras 2 with the state of its optimizer; images and what it gave."""
    archive = Path(__file__).parent / "keras_files" / "keras_2" / f"trained_{request.param}.zip"
    with zipfile.ZipFile(archive) as members:
        members.extractall(tmp_path)
    expected = np.load(tmp_path / "expected.npz")
    return tmp_path / "trained", expected["images"], expected["y"]


@pytest.mark.matrix
def test_state_of_training_is_left_out(trained):
    directory, images, expected = trained
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(directory))
    converted = teachers.from_saved_model(directory)
    np.testing.assert_allclose(converted(images), expected, atol=1e-6)
    assert converted.count_params() >= 3 * 3 * 3 * 4 + 4 * 3


@pytest.mark.matrix
def test_state_of_training_does_not_hinder_inspection(trained):
    found = teachers.inspect(trained[0])
    assert not found.obstacle
    assert found.inputs[0].shape == (None, 8, 7, 3)
    assert found.taps


def test_damaged_variables_of_a_trained_network_are_refused(trained):
    data = next((trained[0] / "variables").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(ValueError, match="cannot be loaded"):
        teachers.from_saved_model(trained[0])
