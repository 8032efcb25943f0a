"""A disk without room: a clear error, and nothing left behind."""

import os

import keras
import pytest
import tensorflow as tf

from keras_amalgam import export


def test_a_failing_disk_is_an_os_error_and_leaves_nothing(student, tmp_path, monkeypatch):
    """A really full disk needs a mount of its own, so the failure is put where it would arise."""

    def full(*arguments, **settings):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(keras.export.ExportArchive, "write_out", full)
    with pytest.raises(OSError, match="No space left on device"):
        export.to_saved_model(student, tmp_path / "saved_model")
    assert os.listdir(tmp_path) == []
