"""Under MirroredStrategy on two logical CPUs; the batches (8, 5) do not even divide."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # It trains on one device and on two: half a minute.
SCRIPT = pathlib.Path(__file__).parent / "distributed_training.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What one process trained on one device and on two, and how it ended."""
    path = tmp_path_factory.mktemp("distribution") / "results.npz"
    done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)
    assert path.exists(), done.stderr
    with np.load(path) as results:
        return dict(results), done


@pytest.mark.parametrize("case", ["soft_targets", "adapted", "global_batch"])
def test_training_on_two_devices_equals_training_on_one(run, case):
    """Per-sample losses always, of adapted terms, too; the MMD if all rows are gathered."""
    one, two = (of(run[0], f"{case}/{number}") for number in ("one", "two"))
    np.testing.assert_array_equal(one["start"], two["start"])
    np.testing.assert_allclose(two["end"], one["end"], atol=1e-5)
    for key in set(one) - {"start", "end"}:
        np.testing.assert_allclose(two[key], one[key], rtol=2e-5, err_msg=key)
    assert np.abs(one["end"] - one["start"]).max() > 1e-2  # A step of another size would show.


def test_without_gathering_each_replica_compares_its_own_shard(run):
    """Three images on one device and two on the other, weighted as many as they are."""
    first, second, both, two = (
        of(run[0], f"local/{name}") for name in ("first", "second", "both", "two")
    )
    for key in ("common_features-digits-mmd", "common_features-shapes-mmd", "loss", "end"):
        np.testing.assert_allclose(two[key], (3 * first[key] + 2 * second[key]) / 5, atol=1e-5)
    key = "common_features-digits-mmd"
    assert np.abs(two[key] - both[key]).max() > 0.1


def of(results, prefix):
    """One training's part of the results."""
    prefix += "/"
    return {k.removeprefix(prefix): v for k, v in results.items() if k.startswith(prefix)}


def test_batch_too_small_for_the_replicas_is_refused_saying_so(run):
    _, done = run
    assert done.returncode != 0
    assert "A replica got no image" in done.stderr
    assert "drop_remainder=True" in done.stderr
