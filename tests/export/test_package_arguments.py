"""`export.package` names what is wrong with its arguments before it does anything."""

import pytest

from keras_amalgam import export


@pytest.mark.parametrize(
    ("exporters", "fallbacks", "says"),
    [
        ("onnx", None, r"`exporters` must map .*Received: 'onnx' of type str.*export.to_onnx"),
        ([export.to_onnx], None, "`exporters` must map .* of type list"),
        ({"student.onnx": "onnx"}, None, r"Received: \{'student.onnx': 'onnx'\} of type dict"),
        (None, None, "Received: None of type NoneType"),
        ({"a.onnx": export.to_onnx}, "b.onnx", "`fallbacks` must map .*Received: 'b.onnx'"),
        (
            {"a.onnx": export.to_onnx},
            {"a.onnx": export.to_tflite},
            r"`fallbacks\['a.onnx'\]` must map .*of type function",
        ),
    ],
)
def test_anything_but_names_with_their_exporters_is_refused_naming_the_mistake(
    exporters, fallbacks, says, student, images, tmp_path
):
    with pytest.raises(TypeError, match=says):
        export.package(student, tmp_path / "dist", exporters, images, fallbacks=fallbacks)
    assert list(tmp_path.iterdir()) == []
