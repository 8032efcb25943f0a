"""A disk without room: a clear error, and nothing left behind."""

import os
import resource

import pytest

from keras_amalgam import export


@pytest.fixture
def little_room():
    """No file may grow beyond a kilobyte: as real to whoever writes as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (export.to_saved_model, "saved_model"),
        (export.to_keras, "student.keras"),
        (export.to_onnx, "student.onnx"),
        (export.to_tflite, "student.tflite"),
    ],
)
def test_no_room_is_an_os_error_and_leaves_nothing(student, tmp_path, little_room, write, name):
    little_room()
    with pytest.raises(OSError):
        write(student, tmp_path / name)
    assert os.listdir(tmp_path) == []
