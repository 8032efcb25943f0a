"""What `import keras_amalgam` offers, and what it costs."""

import subprocess
import sys

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
