"""The check of an artifact, and what it must not let pass."""

import numpy as np
import pytest

from keras_amalgam import export
from keras_amalgam.export import parity
from keras_amalgam.export.signatures import describe
from keras_amalgam.export.tflite import runtime as tflite_runtime


@pytest.mark.slow
def test_int8_file_of_a_sabotaged_student_does_not_pass(
    twin, student, images, class_names, tmp_path
):
    artifact = export.to_tflite(
        twin,
        tmp_path / "twin.tflite",
        "int8",
        calibration=images,
        images=images,
        class_names=class_names,
    )
    actual = tflite_runtime.run(tflite_runtime.load(artifact.path), images)
    measured = parity.compare(
        parity.reference(student, describe(student), images), actual, "The twin"
    )
    with pytest.raises(ValueError, match="The twin disagrees with the Keras model at head"):
        parity.check(measured, parity.DEFAULT_BOUNDS["int8"], "The twin")


def test_no_default_bound_lets_a_sabotaged_student_pass(twin, student, images):
    signature = describe(student)
    measured = parity.compare(
        parity.reference(student, signature, images),
        parity.reference(twin, signature, images),
        "The twin",
    )
    for bounds in parity.DEFAULT_BOUNDS.values():
        with pytest.raises(ValueError, match="disagrees"):
            parity.check(measured, bounds, "The twin")


def test_compare_measures_each_head():
    expected = {"b": np.array([[0.0, 4.0], [1.0, 0.0]]), "a": np.array([[1.0, -8.0]])}
    actual = {"b": np.array([[0.0, 3.0], [1.0, 2.0]]), "a": np.array([[1.0, -8.0]])}
    measured = parity.compare(expected, actual, "It")
    assert list(measured) == ["b", "a"]
    assert measured["b"] == parity.HeadParity(2.0, 0.75, 0.5, 4.0)
    assert measured["a"] == parity.HeadParity(0.0, 0.0, 1.0, 8.0)
    total = parity.summary(measured, images=2)
    assert (total["max_abs_error"], total["mean_abs_error"]) == (2.0, 0.75)
    assert (total["argmax_agreement"], total["images"]) == (0.5, 2)
    assert total["heads"]["a"]["max_abs_error"] == 0.0


def test_compare_refuses_other_heads_and_shapes():
    expected = {"a": np.zeros((2, 3)), "b": np.zeros((2, 3))}
    with pytest.raises(ValueError, match=r"Received: \['a', 'c'\]. Expected: \['a', 'b'\]"):
        parity.compare(expected, {"a": np.zeros((2, 3)), "c": np.zeros((2, 3))}, "It")
    with pytest.raises(ValueError, match=r"head 'b'. Received: \(2, 4\). Expected: \(2, 3\)"):
        parity.compare(expected, {"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, "It")


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (parity.Bounds(max_abs_error=0.09), "largest absolute error 0.1. Expected: at most 0.09"),
        (parity.Bounds(max_share=0.04), "over largest logit 0.05. Expected: at most 0.04"),
        (parity.Bounds(mean_share=0.02), "mean error over largest logit 0.025"),
        (parity.Bounds(min_agreement=0.8), "same decision on 75.0%. Expected: at least 80.0%"),
    ],
)
def test_check_names_the_bound_that_is_exceeded(bounds, message):
    measured = {"a": parity.HeadParity(0.1, 0.05, 0.75, largest=2.0)}
    with pytest.raises(ValueError, match=message):
        parity.check(measured, bounds, "It")
    parity.check(measured, parity.Bounds(0.1, 0.05, 0.025, 0.75), "It")


@pytest.mark.parametrize(
    ("precision", "measured", "remedy"),
    [
        ("float32", parity.HeadParity(0.1, 0.0, 1.0, largest=2.0), {"tolerance": 0.1}),
        ("float16", parity.HeadParity(0.1, 0.0, 1.0, largest=2.0), {"tolerance": 0.1}),
        ("dynamic", parity.HeadParity(0.1, 0.07, 1.0, largest=2.0), {"tolerance": 0.1}),
        ("int8", parity.HeadParity(0.1, 0.0, 0.75, largest=2.0), {"min_agreement": 0.75}),
    ],
)
def test_argument_that_a_disagreement_advises_mends_it(precision, measured, remedy):
    (advised,) = remedy
    with pytest.raises(ValueError, match=f"accept more with `{advised}=`"):
        parity.check({"a": measured}, parity.DEFAULT_BOUNDS[precision], "It")
    given = {"tolerance": None, "min_agreement": None, **remedy}
    parity.check({"a": measured}, parity.bounds_for(precision, **given), "It")


def test_check_refuses_nan():
    outputs = {"a": np.array([[np.nan, 1.0]])}
    measured = parity.compare({"a": np.array([[0.0, 1.0]])}, outputs, "It")
    with pytest.raises(ValueError, match="largest absolute error nan"):
        parity.check(measured, parity.DEFAULT_BOUNDS["float32"], "It")


def test_bounds_given_by_the_caller_replace_the_documented_ones():
    assert parity.bounds_for("int8", None, None) is parity.DEFAULT_BOUNDS["int8"]
    assert parity.bounds_for("int8", 0.5, 1.0) == parity.Bounds(0.5, None, None, 1.0)
    assert parity.bounds_for("float32", 0.0, None).max_abs_error == 0.0


def test_float32_may_round_large_logits_but_not_small_ones():
    bounds = parity.bounds_for("float32", None, None)

    def kept(error, largest):
        heads = {"a": parity.HeadParity(error, error, 1.0, largest)}
        return not list(parity.exceeded(heads, bounds))

    assert kept(9e-5, 0.1) and not kept(2e-4, 0.1) and not kept(2e-4, 10.0)
    assert kept(2e-3, 300.0) and not kept(4e-3, 300.0)
    assert not kept(float("nan"), 300.0)
    strict = parity.bounds_for("float32", 1e-4, None)
    assert list(parity.exceeded({"a": parity.HeadParity(2e-3, 0.0, 1.0, 300.0)}, strict))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("tolerance", -1e-4),
        ("tolerance", float("nan")),
        ("tolerance", "0.1"),
        ("min_agreement", 1.5),
        ("min_agreement", True),
    ],
)
def test_bound_that_makes_no_sense_is_refused_before_anything_is_written(
    argument, value, student, tmp_path
):
    with pytest.raises(ValueError, match=f"`{argument}` is no such limit. Received: {value!r}"):
        export.to_tflite(student, tmp_path / "a.tflite", **{argument: value})
    if argument == "tolerance":
        for exporter, name in (
            (export.to_keras, "a.keras"),
            (export.to_saved_model, "a"),
            (export.to_onnx, "a.onnx"),
            (export.to_serving, "bundle"),
        ):
            with pytest.raises(ValueError, match="`tolerance` is no such limit"):
                exporter(student, tmp_path / name, tolerance=value)
    assert list(tmp_path.iterdir()) == []
