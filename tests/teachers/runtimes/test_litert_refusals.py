"""A TFLite file that LiteRT reads and refuses is not called damaged, and one that is cut is."""

import flatbuffers
import keras
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_amalgam import teachers


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(4, 3),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5),
    ]
    path = tmp_path_factory.mktemp("whole") / "n.tflite"
    keras.Sequential(layers).export(path, format="litert", verbose=False)
    return path.read_bytes()


def changed(content, change):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model.operatorCodes[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def of_another_version(code):
    code.version = 99


def of_another_makers_own(code):
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"Gelatine", 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [(of_another_version, "CONV_2D' version '99'"), (of_another_makers_own, "custom op: Gelatine")],
)
def test_file_with_operators_that_litert_does_not_have_is_refused_not_called_damaged(
    change, reason, whole, tmp_path
):
    path = tmp_path / "n.tflite"
    path.write_bytes(changed(whole, change))
    with pytest.raises(ValueError, match=r"LiteRT 2.* refuses 'n.tflite'") as refused:
        teachers.open_runtime(path)
    said = str(refused.value)
    assert reason in said and "cut off" not in said and "update ai-edge-litert" in said
    if change is of_another_version:
        with pytest.raises(ValueError, match=r"refuses 'n.tflite', though it reads it"):
            teachers.inspect(path)
    else:
        assert "Gelatine" in {operator.name for operator in teachers.inspect(path).operators}


@pytest.mark.parametrize("read", [teachers.open_runtime, teachers.inspect])
@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_file_that_is_cut_off_is_said_to_be(read, kept, whole, tmp_path):
    path = tmp_path / "n.tflite"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"'n.tflite' is cut off or is no TFLite file"):
        read(path)


@pytest.mark.parametrize("read", [teachers.open_runtime, teachers.inspect])
def test_unchanged_file_is_read(read, whole, tmp_path):
    (tmp_path / "n.tflite").write_bytes(changed(whole, lambda code: None))
    assert read(tmp_path / "n.tflite")
