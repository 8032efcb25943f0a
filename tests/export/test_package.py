import ast
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


def test_converters_and_runtimes_are_imported_only_where_they_are_used():
    heavy = {"tensorflow", "tf2onnx", "onnx", "onnxruntime", "ai_edge_litert"}
    for module in sorted((REPOSITORY / "export").glob("*.py")):
        imported = set()
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
        assert not heavy & imported, module.name
