import subprocess
import sys
from pathlib import Path

from keras_amalgam import export

REPOSITORY = Path(__file__).parents[2]


def test_export_refuses_its_bare_name():
    code = "import export"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    assert "from keras_amalgam import export" in result.stderr


def test_functions_stay_functions_when_their_modules_are_imported():
    import keras_amalgam.export.to_onnx
    import keras_amalgam.export.to_tflite

    assert keras_amalgam.export.to_onnx is export.to_onnx
    assert all(
        callable(function)
        for function in (export.to_onnx, export.to_tflite, export.to_keras, export.to_saved_model)
    )


def test_importing_export_loads_no_converter_and_no_runtime():
    heavy = ("tf2onnx", "onnx", "onnxruntime", "ai_edge_litert")
    code = f"import sys, keras_amalgam.export; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
