"""A run under MirroredStrategy on two logical CPUs, interrupted and gone on with."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_amalgam.training import state

SCRIPT = pathlib.Path(__file__).parent / "distributed_run.py"


@pytest.mark.slow
def test_run_on_two_devices_goes_on_as_an_unbroken_one_and_calls_the_callbacks(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    watched = json.loads((tmp_path / "watched.json").read_text())
    assert "replicas: 1, was 2" in watched.pop("without the strategy")
    assert watched == {
        "unbroken": [12, 3, 2, "to the end"],
        "interrupted": [5, 1, 2, "interrupted"],
        # With the one step of the second epoch that is passed over.
        "resumed": [8, 2, 2, "to the end"],
    }
    histories, arrays = [], []
    for name in ("unbroken", "broken"):
        found, path = state.latest(tmp_path / name / "training" / "main" / "states")
        assert found.finished
        histories.append(found.history)
        with np.load(path) as archive:
            arrays.append([archive[key] for key in archive.files if key.isdigit()])
    for unbroken, resumed in zip(*arrays, strict=True):
        np.testing.assert_allclose(resumed, unbroken, rtol=1e-6)
    unbroken, resumed = histories
    assert unbroken.keys() == resumed.keys()
    for key, values in unbroken.items():
        np.testing.assert_allclose(resumed[key], values, rtol=1e-6, err_msg=key)
