"""Modules that are no network of images are refused and left as they were. PyTorch is an extra."""

import sys

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
