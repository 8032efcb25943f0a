"""PyTorch modules become Keras networks. PyTorch is an extra, imported inside the tests only."""

import collections
import dataclasses
import hashlib
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers

pytestmark = pytest.mark.slow
SHAPE = (1, 3, 32, 24)


@dataclasses.dataclass
class Outputs:
    """What a module of transformers returns, in short."""

    loss: object
    logits: object
    maps: tuple


Pair = collections.namedtuple("Pair", ["logits", "embedding"])
RESULTS = {
    "tensor": lambda logits, maps: logits,
    "dict": lambda logits, maps: {"maps": maps, "logits": logits},
    "dataclass": lambda logits, maps: Outputs(None, logits, (maps, maps * 2)),
    "namedtuple": lambda logits, maps: Pair(logits, maps.mean((2, 3))),
    "tuple": lambda logits, maps: (logits, [maps, None]),
    "not in order": lambda logits, maps: {"z": logits, "a": logits * 2, "A b": maps, "A_b": -maps},
    "twelve": lambda logits, maps: tuple(logits * number for number in range(1, 13)),
}


@pytest.fixture
def make():
    """A residual network in training mode with statistics, and a part that is frozen."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self, returns, width):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            self.layer1 = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
            )
            self.drop = nn.Dropout(0.5)
            self.fc = nn.Linear(width, 5)
            self.returns = returns

        def forward(self, x):
            x = self.stem(x)
            maps = x + self.layer1(x)
            return RESULTS[self.returns](self.fc(self.drop(maps.mean((2, 3)))), maps)

    def make(returns="tensor", seed=0, width=6):
        torch.manual_seed(seed)
        module = Network(returns, width)
        with torch.no_grad():
            module(torch.rand(8, 3, 32, 24) * 3)
        module.layer1.eval()
        module.stem[0].weight.requires_grad_(False)
        return module

    return make


def answer(module, images, pick=lambda result: result):
    """The module's own output in evaluation mode, for images with their channels last."""
    import copy

    import torch

    with torch.no_grad():
        result = copy.deepcopy(module).eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    return pick(result).numpy()


IMAGES = np.random.default_rng(0).uniform(-2, 2, (3, 32, 24, 3)).astype(np.float32)


def state_of(module):
    modes = [part.training for part in module.modules()]
    gradients = [p.requires_grad for p in module.parameters()]
    values = [v.clone().numpy() for v in module.state_dict().values()]
    return modes, gradients, values, sorted(vars(module))


def check_unchanged(module, before):
    after = state_of(module)
    assert after[:2] == before[:2]
    assert after[3] == before[3]
    for one, other in zip(after[2], before[2], strict=True):
        np.testing.assert_array_equal(one, other)


EXAMPLES = {
    "shape": lambda torch: SHAPE,
    "tensor": lambda torch: torch.zeros(SHAPE),
    "array": lambda torch: np.zeros((4, *SHAPE[1:])),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_module_becomes_a_network_that_agrees_and_stays_as_it_was(make, example):
    import torch

    module = make()
    before = state_of(module)
    model = teachers.from_torch(module, EXAMPLES[example](torch))
    check_unchanged(module, before)
    assert model.input_shape == (None, 32, 24, 3)
    for images in (IMAGES[:1], IMAGES):
        np.testing.assert_allclose(model(images), answer(module, images), atol=1e-5)


def test_nothing_is_printed_and_no_warning_escapes(make, capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        teachers.from_torch(make(), SHAPE)
    told = [str(w.message) for w in caught if "__array__" not in str(w.message)]
    assert told == []
    out, err = capfd.readouterr()
    assert out == ""
    assert "onnx" not in err.lower()
    assert "torch" not in err.lower()


def test_provenance_names_pytorch_modules_and_the_weights(make):
    model = teachers.from_torch(make(), SHAPE)
    provenance = model.provenance
    assert provenance.source == "Network"
    assert provenance.framework.startswith("pytorch 2.")
    assert provenance.parity["outputs"]["output"]["max_abs_error"] <= 1e-5
    assert {"stem", "stem.0", "layer1", "layer1.2", "fc"} <= set(provenance.names)
    again = teachers.from_torch(make(), SHAPE, verify=False).provenance
    assert (again.sha256, again.parity) == (provenance.sha256, {})
    other = teachers.from_torch(make(seed=1), SHAPE, verify=False).provenance
    assert other.sha256 != provenance.sha256


def test_modules_path_is_a_tap(make):
    model = teachers.from_torch(make(), SHAPE)
    teacher = ka.Teacher(
        model, "birds", list("abcde"), tap="layer1", preprocessing=ka.Preprocessing(mean=0.5)
    )
    assert teacher.signals()(IMAGES)["features"]["features"].shape == (3, 16, 12, 6)


@pytest.mark.parametrize("exporters", [("torchscript",), ("dynamo",)])
def test_both_exporters_keep_statistics_and_paths(make, exporters, monkeypatch):
    monkeypatch.setattr(sys.modules[teachers.from_torch.__module__], "_EXPORTERS", exporters)
    module = make()
    model = teachers.from_torch(module, SHAPE)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 2
    for norm, source in zip(norms, (module.stem[1], module.layer1[1]), strict=True):
        np.testing.assert_allclose(norm.moving_mean, source.running_mean, atol=1e-6)
    assert model.get_layer(model.provenance.names["layer1"]).output.shape == (None, 16, 12, 6)
    folded = teachers.from_torch(module, SHAPE, fold_batch_norm=True)
    assert not [x for x in folded.layers if isinstance(x, keras.layers.BatchNormalization)]


@pytest.mark.parametrize(
    ("returns", "output", "name", "pick"),
    [
        ("dict", None, "logits", lambda r: r["logits"]),
        ("dict", "maps", "maps", lambda r: r["maps"].permute(0, 2, 3, 1)),
        ("dataclass", None, "logits", lambda r: r.logits),
        ("dataclass", "maps_1", "maps_1", lambda r: r.maps[1].permute(0, 2, 3, 1)),
        ("namedtuple", None, "logits", lambda r: r.logits),
        ("namedtuple", "embedding", "embedding", lambda r: r.embedding),
        ("tuple", "output_0", "output_0", lambda r: r[0]),
    ],
)
def test_output_is_chosen_by_name_and_logits_come_first(make, returns, output, name, pick):
    module = make(returns)
    model = teachers.from_torch(module, SHAPE, output=output)
    np.testing.assert_allclose(model(IMAGES), answer(module, IMAGES, pick), atol=1e-5)
    assert list(model.provenance.parity["outputs"]) == [name]


def test_outputs_without_logits_are_a_dictionary(make):
    model = teachers.from_torch(make("tuple"), SHAPE)
    shapes = {name: tensor.shape for name, tensor in model.output.items()}
    assert shapes == {"output_0": (None, 5), "output_1_0": (None, 16, 12, 6)}


def part(index):
    return lambda result: list(result.values() if isinstance(result, dict) else result)[index]


@pytest.mark.parametrize(
    ("returns", "keys"),
    [("not in order", ["z", "a", "A_b_2", "A_b"]), ("twelve", [f"output_{n}" for n in range(12)])],
)
def test_outputs_bear_their_own_names_in_whatever_order_they_stand(make, returns, keys):
    module = make(returns)
    model = teachers.from_torch(module, SHAPE)
    received = model(IMAGES)
    for index, key in enumerate(keys):
        expected = answer(module, IMAGES, part(index))
        expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
        np.testing.assert_allclose(received[key], expected, atol=1e-5)
    assert set(received) == set(keys)


def test_output_that_is_not_there_is_refused(make):
    with pytest.raises(ValueError, match=r"no output 'map'.*'maps', 'logits'"):
        teachers.from_torch(make("dict"), SHAPE, output="map")


def test_transformers_classifier_gives_its_logits():
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4
    )
    module = transformers.ResNetForImageClassification(config)
    model = teachers.from_torch(module, SHAPE)
    expected = answer(module, IMAGES, lambda result: result.logits)
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)
    assert "resnet.encoder.stages.1" in model.provenance.names


def batch_follower(forward):
    """A module whose Python reads the number of images, a constant to the older exporter."""
    import torch

    class Following(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.fc = torch.nn.Linear(16, 2)

        def forward(self, x):
            return forward(self, x, int(x.shape[0]))

    torch.manual_seed(0)
    return Following()


def test_where_the_older_exporter_is_wrong_the_newer_one_is_asked(monkeypatch):
    module = batch_follower(lambda self, x, batch: self.fc(self.conv(x).reshape(batch, 2, 2, 16)))
    images = np.random.default_rng(0).uniform(-1, 1, (3, 6, 6, 3)).astype(np.float32)
    model = teachers.from_torch(module, (1, 3, 6, 6))
    expected = answer(module, images).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model(images), expected, atol=1e-5)
    monkeypatch.setattr(sys.modules[teachers.from_torch.__module__], "_EXPORTERS", ("torchscript",))
    with pytest.raises((ValueError, NotImplementedError), match="By way of torchscript"):
        teachers.from_torch(module, (1, 3, 6, 6))


def test_where_both_exporters_fail_both_are_reported():
    module = batch_follower(lambda self, x, batch: self.conv(x).mean((2, 3)) + batch)
    with pytest.raises((ValueError, NotImplementedError), match="torchscript.*dynamo"):
        teachers.from_torch(module, (1, 3, 6, 6))


def test_corrupted_network_is_found_out_against_the_module(make):
    from keras_amalgam.teachers.from_torch import TorchRuntime
    from keras_amalgam.teachers.torch_modules.module import viewed

    module = make()
    model = teachers.from_torch(module, SHAPE)
    with viewed(module, SHAPE, None) as view:
        runtime = TorchRuntime(view, (0, 2, 3, 1))
        assert teachers.check_parity(model, runtime)["outputs"]["output"]["range"] > 0
        layer = next(x for x in model.layers if isinstance(x, keras.layers.Dense))
        kernel, bias = layer.get_weights()
        kernel[2, 3] += 0.5
        layer.set_weights([kernel, bias])
        with pytest.raises(ValueError, match="differs from its source"):
            teachers.check_parity(model, runtime)


def test_mode_is_restored_when_the_conversion_fails():
    import torch

    class Sorting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, x):
            return torch.linalg.inv(self.norm(x) + torch.eye(x.shape[-1])).mean((1, 2))

    module = Sorting().train()
    before = state_of(module)
    with pytest.raises(NotImplementedError, match=r"'Sorting'.*torchscript.*dynamo"):
        teachers.from_torch(module, (1, 3, 8, 8))
    check_unchanged(module, before)
    assert module.norm.training


def test_hash_of_a_file_of_weights_is_the_files(make, tmp_path):
    import torch

    torch.save(make(seed=3).state_dict(), tmp_path / "birds.pt")
    module = make()
    before = state_of(module)
    model = teachers.from_torch(module, SHAPE, state_dict=tmp_path / "birds.pt")
    check_unchanged(module, before)
    np.testing.assert_allclose(model(IMAGES), answer(make(seed=3), IMAGES), atol=1e-5)
    content = (tmp_path / "birds.pt").read_bytes()
    assert model.provenance.sha256 == hashlib.sha256(content).hexdigest()
    assert model.provenance.source == "birds.pt"
