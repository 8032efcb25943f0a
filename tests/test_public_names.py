"""What `import keras_amalgam` offers, and what it costs."""

import importlib
import subprocess
import sys
import types

import pytest

import keras_amalgam as ka


@pytest.mark.parametrize("name", ka.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert name in dir(ka)
    value = getattr(ka, name)
    assert value is getattr(ka, name)
    if name != "__version__":
        assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Student'"):
        _ = ka.Student


def test_the_command_line_answers_without_tensorflow_and_without_noise():
    code = (
        "import sys; from keras_amalgam.cli.main import main; main(['demo', '--help']);"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert done.stderr == ""


def test_every_public_name_of_export_is_there_and_documented():
    from keras_amalgam import export

    names = {name for name, value in vars(export).items() if not name.startswith("_")}
    public = {name for name in names if not isinstance(getattr(export, name), types.ModuleType)}
    assert {"predict", "Predictions", "ImagePrediction", "ClassScore"} <= public
    assert all(getattr(export, name).__doc__ for name in public)
    # The function, not the module of its name, whatever was imported first.
    importlib.import_module("keras_amalgam.export.predict")
    assert export.predict is vars(sys.modules["keras_amalgam.export.predict"])["predict"]
