"""Folded batch normalizations leave their running statistics to the card."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from keras_amalgam import teachers


@pytest.fixture
def path(network, tmp_path):
    onnx.save(network, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def test_statistics_of_a_folded_batch_norm_are_in_the_provenance(path, network):
    statistics = teachers.from_onnx(path, fold_batch_norm=True, verify=False).provenance.batch_norm
    constants = {t.name: numpy_helper.to_array(t) for t in network.graph.initializer}
    assert list(statistics) == ["/bn"]
    np.testing.assert_array_equal(statistics["/bn"]["mean"], constants["m"])
    np.testing.assert_array_equal(statistics["/bn"]["variance"], constants["v"])


def test_nothing_is_kept_where_the_batch_norm_stays_in_the_model(path):
    assert teachers.from_onnx(path, verify=False).provenance.batch_norm == {}
