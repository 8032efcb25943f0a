"""Modules that are no network of images are refused and left as they were. PyTorch is an extra."""

import collections
import sys
import warnings

import keras
import numpy as np
import pytest

from keras_amalgam import teachers

pytestmark = pytest.mark.slow
SHAPE = (1, 3, 8, 8)


@pytest.fixture
def module():
    """In training mode, with one part that is not."""
    import torch

    parts = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout()
    module = torch.nn.Sequential(*parts).train()
    module[1].eval()
    return module


def modes(module):
    return [part.training for part in module.modules()]


def test_example_that_does_not_fit_is_refused(module):
    with pytest.raises(ValueError, match=r"does not take the example.*\(2, 1, 8, 8\)"):
        teachers.from_torch(module, (1, 1, 8, 8))
    assert modes(module) == [True, True, False, True]


@pytest.mark.parametrize("example", [None, "image", (3,), (0, 3, 8, 8), np.zeros((0, 3, 8, 8))])
def test_what_is_no_batch_of_images_is_refused(module, example):
    with pytest.raises(TypeError, match="`example_input` must be"):
        teachers.from_torch(module, example)


@pytest.mark.parametrize("example", [(3, 8, 8), np.zeros((3, 8, 8)), np.zeros((1, 1, 3, 8, 8))])
def test_other_than_four_axes_are_refused_with_what_came(module, example):
    shape = example if isinstance(example, tuple) else example.shape
    with pytest.raises(TypeError, match=r"four axes \(batch, channels, height, width\)") as caught:
        teachers.from_torch(module, example)
    assert f"{shape}." in str(caught.value)


@pytest.mark.parametrize("head", [True, False])
def test_module_fixed_to_one_image_is_told_as_that(head):
    import torch

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3 * 8 * 8, 2) if head else torch.nn.ReLU()

        def forward(self, x):
            return self.head(x.reshape(1, -1))

    with pytest.raises(ValueError, match=r"'Fixed' is fixed to a batch of 1.*x.flatten\(1\)"):
        teachers.from_torch(Fixed(), SHAPE)
    with pytest.raises(ValueError, match="does not take the example" if head else "fixed"):
        teachers.from_torch(Fixed(), (1, 3, 9, 9))


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_torchscript_is_refused_with_what_to_pass(kind):
    import torch

    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated by PyTorch.
        scripted = torch.jit.script(plain) if kind == "script" else None
        scripted = scripted or torch.jit.trace(plain, torch.zeros(SHAPE))
    with pytest.raises(TypeError, match="the torch.nn.Module itself.*TorchScript.*from_onnx"):
        teachers.from_torch(scripted, SHAPE)
    assert teachers.from_torch(plain, SHAPE).output_shape == (None, 6, 6, 4)


def pooled(x):
    return x.mean((2, 3))


def by_condition(x):
    return pooled(x) * 2 - 7 if x.mean() > 50 else pooled(x)


def by_item(x):
    return pooled(x) - (1 if int(x.mean().item()) > 50 else 0)


def by_list(x):
    return pooled(x) - float(x.mean((1, 2, 3)).tolist()[0] > 50)


def by_array(x):
    return pooled(x) - float(x.numpy().mean() > 50)


def by_place(x):
    copied = x.new_zeros(x.shape)
    copied[:, 0] = x[:, 0]
    return pooled(x) * 2 if bool((copied > 50).any()) else pooled(x)


def by_where(x):
    import torch

    return torch.where(x.mean((1, 2, 3))[:, None] > 50, pooled(x) * 2 - 7, pooled(x))


def by_shape(x):
    import torch

    if x.shape[2] != 8 or x.size(-1) % 2:
        raise ValueError("sizes")
    table = torch.linspace(0, 1, x.shape[1])
    return pooled(x) * table[1].item() if table.max() > 0.5 else pooled(x)


def deciding(decide):
    import torch

    class Deciding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.head(decide(x))

    torch.manual_seed(0)
    return Deciding()


@pytest.mark.parametrize("decide", [by_condition, by_item, by_place, by_list, by_array])
def test_reading_values_of_images_is_seen_with_its_line(decide):
    from keras_amalgam.teachers.torch_modules.module import viewed

    with viewed(deciding(decide), SHAPE, None) as view:
        place = str(view.read_at)
    first = decide.__code__.co_firstlineno
    file, line = place.split(" ")[0].rsplit(":", 1)
    assert file == __file__
    assert first < int(line) <= first + 3


@pytest.mark.parametrize("decide", [by_condition, by_item, by_place])
def test_branch_on_values_is_refused_with_its_line(decide):
    with pytest.raises(ValueError, match=r"test_torch_module.py:\d+ .*torch.where.*from_onnx"):
        teachers.from_torch(deciding(decide), SHAPE)


@pytest.mark.parametrize("decide", [by_where, by_shape])
def test_decisions_by_tensors_and_shapes_convert_by_the_older_exporter(decide, monkeypatch):
    import torch

    monkeypatch.setattr(sys.modules[teachers.from_torch.__module__], "_EXPORTERS", ("torchscript",))
    module = deciding(decide)
    model = teachers.from_torch(module, SHAPE)
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(model(images), expected, rtol=1e-4)


@pytest.mark.parametrize("known", [True, False])
def test_refusal_of_the_older_exporter_stays_out_of_the_streams(known, capfd):
    import torch

    class Flipped(torch.nn.Module):
        def forward(self, x):
            print("said by the module")
            x = torch.nn.functional.pixel_unshuffle(torch.nn.functional.hardswish(x), 2).roll(1, 1)
            x = torch.nn.functional.adaptive_avg_pool2d(x, (3, 5))
            return x if known else torch.linalg.inv(x[:, :, :3, :3])

    print("before", flush=False)
    if known:
        teachers.from_torch(Flipped(), (1, 3, 30, 50), verify=False)
    else:
        with pytest.raises(NotImplementedError, match="By way of torchscript: PyTorch cannot"):
            teachers.from_torch(Flipped(), (1, 3, 30, 50))
    print("after")
    out, err = capfd.readouterr()
    assert set(out.split("\n")) == {"before", "said by the module", "after", ""}
    assert "graph" not in err.lower()


@pytest.fixture
def residual():
    """Two blocks that call their one activation twice, as torchvision's."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.relu = nn.ReLU()

        def forward(self, x):
            x, skip = self.relu(self.bn1(self.conv1(x))), x
            return self.relu(self.bn2(self.conv2(x)) + skip)

    torch.manual_seed(0)
    stem, tail = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 4, 3)
    parts = {"stem": stem, "layer2": nn.Sequential(Block(), Block()), "tail": tail}
    return nn.Sequential(collections.OrderedDict(parts)).eval()


@pytest.mark.parametrize("exporters", [("torchscript",), ("dynamo",)])
def test_modules_path_is_what_a_forward_hook_gives(residual, exporters, monkeypatch):
    import torch

    images = np.random.default_rng(0).uniform(-2, 2, (3, 32, 24, 3)).astype(np.float32)
    monkeypatch.setattr(sys.modules[teachers.from_torch.__module__], "_EXPORTERS", exporters)
    model = teachers.from_torch(residual, (1, 3, 32, 24))
    expected = {}
    for path, part in residual.named_modules():
        part.register_forward_hook(lambda _, __, out, path=path: expected.update({path: out}))
    with torch.no_grad():
        residual(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    paths = [path for path in expected if path]
    assert set(paths) <= set(model.provenance.names)
    layers = [model.get_layer(model.provenance.names[path]) for path in paths]
    received = keras.Model(model.input, [layer.output for layer in layers])(images)
    wrong = [
        path
        for path, ours in zip(paths, received, strict=True)
        if np.abs(expected[path].numpy().transpose(0, 2, 3, 1) - ours).max() > 1e-5
    ]
    assert wrong == []


def test_half_precision_is_refused_with_advice(module):
    with pytest.raises(ValueError, match=r"module.float\(\)"):
        teachers.from_torch(module.half(), SHAPE)


def test_module_without_tensors_is_refused():
    import torch

    class Counting(torch.nn.Module):
        def forward(self, x):
            return {"count": x.shape[0], "nothing": None}

    with pytest.raises(ValueError, match="returns no tensor"):
        teachers.from_torch(Counting(), SHAPE)


def test_parallel_module_is_seen_through(module):
    import torch

    model = teachers.from_torch(torch.nn.DataParallel(module), SHAPE)
    assert model.name == "Sequential"
    assert {"0", "1"} <= set(model.provenance.names)
    assert modes(module) == [True, True, False, True]


def test_what_the_user_registered_on_the_module_stays(module):
    seen = []
    handle = module.register_forward_hook(lambda *_: seen.append(1))
    forward = module.forward
    teachers.from_torch(module, SHAPE)
    assert module.forward == forward
    assert "forward" not in vars(module)
    handle.remove()
    assert seen


@pytest.mark.parametrize("given", ["resnet.pt", None, keras.layers.ReLU()])
def test_what_is_no_module_is_refused(given):
    with pytest.raises(TypeError, match="must be a torch.nn.Module"):
        teachers.from_torch(given, SHAPE)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-amalgam\[torch\]'"):
        teachers.from_torch(None, SHAPE)


def test_buffers_that_a_forward_changes_are_restored():
    import torch

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("last", torch.zeros(()))
            self.head = torch.nn.Linear(12, 2)

        def forward(self, x):
            self.calls += 1
            self.last = self.last + 2
            return self.head(x.flatten(1))

    module = Counting().eval()
    calls, last = module.calls, module.last
    teachers.from_torch(module, (1, 3, 2, 2))
    assert module.calls is calls and module.last is last
    assert (calls.item(), last.item()) == (0, 0)
