import keras
import numpy as np
import pytest

from keras_amalgam import Preprocessing
from keras_amalgam.export.signatures import (
    bare_copy,
    describe,
    float32_copy,
    serving_function,
    spatial_size,
)


def test_describe_keeps_the_order_of_the_heads(student, nested_student):
    assert list(describe(student).heads) == ["quadrant", "colour"]
    signature = describe(nested_student)
    assert list(signature.heads.items()) == [("wide", (5,)), ("narrow", (3,))]
    assert signature.image_shape == (None, None, 1)


def test_describe_names_a_single_output_after_its_layer():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(4, name="predictions")(keras.layers.Flatten()(image))
    assert describe(keras.Model(image, x)).heads == {"predictions": (4,)}
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="last")]
    assert describe(keras.Sequential(layers)).heads == {"last": (2,)}


def test_describe_refuses_what_cannot_be_an_artifact():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    image, other = keras.Input((8, 8, 3)), keras.Input((2,))
    flat = keras.layers.Flatten()(image)
    with pytest.raises(TypeError, match=r"Received: 3 of type int.*keras\.Model"):
        describe(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="no fixed graph.*Subclassed without symbolic inputs"):
        describe(Subclassed())
    with pytest.raises(ValueError, match="several inputs. Received: 2 inputs"):
        describe(keras.Model([image, other], {"a": flat, "b": other}))
    with pytest.raises(ValueError, match=r"does not take images. Received: input shape \(None, 2"):
        describe(keras.Model(other, {"a": keras.layers.Dense(2)(other)}))
    with pytest.raises(ValueError, match="have no names. Received: a list of 2 tensors"):
        describe(keras.Model(image, [flat, keras.layers.Dense(2)(flat)]))


def test_serving_function_is_in_inference_mode(make_student, images):
    model = make_student()
    served = serving_function(model, describe(model))(images)
    inference = model.predict(images, verbose=0)
    # Called without `training`, this very model is in training mode: see `serving_function`.
    plain = model(images)
    for head in ("quadrant", "colour"):
        np.testing.assert_allclose(served[head], inference[head], atol=1e-4)
        assert np.abs(np.asarray(plain[head]) - inference[head]).max() > 0.1


def test_float32_copy_is_the_model_itself_when_nothing_is_reduced(student):
    assert float32_copy(student) is student


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_float32_copy_computes_in_float32_with_the_same_weights(
    make_student, student, images, policy
):
    reduced = make_student(policy=policy)
    copy = float32_copy(reduced)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    assert "float32" not in {layer.compute_dtype for layer in reduced.layers[2:4]}
    ours, whole = (copy(images, training=False), student(images, training=False))
    half = reduced(images, training=False)
    for head in whole:
        np.testing.assert_array_equal(ours[head], whole[head])
        assert np.abs(half[head] - whole[head]).max() > 1e-4


def halved(x):
    return x / 2


class Squared(keras.layers.Layer):
    """Never registered."""

    def call(self, inputs):
        return inputs * inputs


def test_float32_copy_knows_the_models_own_layers_and_functions():
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, activation=halved, dtype="mixed_float16")(Squared()(image))
    assert float32_copy(keras.Model(image, x)).layers[2].compute_dtype == "float32"

    class Closed(keras.layers.Layer):
        def call(self, inputs):
            return inputs

        def get_config(self):
            return super().get_config() | {"unknown": 1}

    with pytest.raises(TypeError, match="cannot be copied.*`get_config` has all arguments"):
        float32_copy(keras.Model(image, Closed(dtype="mixed_float16")(image)))


def test_bare_copy_has_the_weights_and_no_optimizer(student, images):
    copy = bare_copy(student)
    assert student.optimizer is not None
    assert getattr(copy, "optimizer", None) is None
    assert not copy.compiled
    for head, values in copy(images, training=False).items():
        np.testing.assert_array_equal(values, student(images, training=False)[head])


def test_spatial_size_is_found_where_the_model_fixes_it(student, nested_student):
    assert spatial_size(student) == (28, 28)
    assert spatial_size(nested_student) == (28, 28)
    assert spatial_size(nested_student, (40, 36)) == (40, 36)
    assert spatial_size(nested_student, (40, 36, 1)) == (40, 36)
    image = keras.Input((None, None, 3))
    built = Preprocessing(size=(20, 24)).build(image, 3)
    head = {"a": keras.layers.GlobalAveragePooling2D()(built)}
    assert spatial_size(keras.Model(image, head)) == (20, 24)


def test_spatial_size_refuses_contradiction_and_ignorance(student):
    with pytest.raises(ValueError, match=r"does not fit model 'student'. Received: \(32, 32\)"):
        spatial_size(student, (32, 32))
    with pytest.raises(ValueError, match=r"Received: \(28, 28, 1\)"):
        spatial_size(student, (28, 28, 1))
    with pytest.raises(ValueError, match="does not fit"):
        spatial_size(student, (28,))
    image = keras.Input((None, None, 3))
    anything = keras.Model(image, {"a": keras.layers.GlobalAveragePooling2D()(image)})
    with pytest.raises(ValueError, match="their size here is unknown.*image_shape="):
        spatial_size(anything)
