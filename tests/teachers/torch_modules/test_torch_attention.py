"""Attention as PyTorch's own modules compute it, the tokens first, from both exporters.

PyTorch is an extra, and slow: it is imported inside the tests only.
"""

import keras
import numpy as np
import pytest

from keras_amalgam import teachers

pytestmark = pytest.mark.slow
WIDTH, TOKENS = 24, 12
EXPORTS = {
    "dynamo_18": {"dynamo": True, "opset_version": 18},
    "dynamo_20": {"dynamo": True, "opset_version": 20},
    "script_13": {"dynamo": False, "opset_version": 13},
    "script_14": {"dynamo": False, "opset_version": 14},
    "script_17": {"dynamo": False, "opset_version": 17},
}


@pytest.fixture(autouse=True)
def slow_path():
    """PyTorch's own attention for inference off, as whoever exports by hand must turn it."""
    from torch.backends import mha

    mha.set_fastpath_enabled(False)
    yield
    mha.set_fastpath_enabled(True)


def _over_tokens(attend, batch_first=True, **children):
    """A classifier: patches, what `attend(self, tokens)` makes of them, their mean."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    def forward(self, x):
        tokens = self.patches(x).flatten(2)
        tokens = tokens.transpose(1, 2) if batch_first else tokens.permute(2, 0, 1)
        return self.head(attend(self, tokens).mean(1 if batch_first else 0))

    module = type("Attending", (nn.Module,), {"forward": forward})()
    module.patches = nn.Conv2d(3, WIDTH, 4, 4)
    module.head = nn.Linear(WIDTH, 5)
    for name, child in children.items():
        module.add_module(name, child)
    for parameter in module.parameters():  # Biases of attention begin as zeros.
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    return module.eval()


def attention(batch_first=True, weights=False):
    """`nn.MultiheadAttention`, its weights read where it returns them."""
    from torch import nn

    def attend(self, tokens):
        out, shares = self.attention(tokens, tokens, tokens, need_weights=weights)
        if not weights:
            return tokens + out
        shares = shares[:, :, :1]
        return tokens + out * (shares if batch_first else shares.transpose(0, 1))

    layer = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first)
    return _over_tokens(attend, batch_first, attention=layer)


def cross_attention(batch_first=True, weights=False):
    """Some tokens ask all others."""
    from torch import nn

    def attend(self, tokens):
        few = tokens[:, :7] if batch_first else tokens[:7]
        return self.attention(few, tokens, tokens, need_weights=weights)[0]

    layer = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first)
    return _over_tokens(attend, batch_first, attention=layer)


def encoder(batch_first=True, norm_first=False):
    """`nn.TransformerEncoder` of two layers."""
    from torch import nn

    layer = nn.TransformerEncoderLayer(
        WIDTH, 4, 32, activation="gelu", batch_first=batch_first, norm_first=norm_first
    )
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return _over_tokens(lambda self, tokens: self.stack(tokens), batch_first, stack=stack)


def class_token():
    """As torchvision's ViT: a class token before the others, positions, the token's answer."""
    import torch
    from torch import nn

    def attend(self, tokens):
        token = self.token.weight.unsqueeze(0).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([token, tokens], 1) + self.positions.weight
        return self.norm(self.layer(tokens))[:, :1]

    layer = nn.TransformerEncoderLayer(WIDTH, 4, 32, batch_first=True, norm_first=True)
    children = {"token": nn.Embedding(1, WIDTH), "positions": nn.Embedding(TOKENS + 1, WIDTH)}
    return _over_tokens(attend, layer=layer, norm=nn.LayerNorm(WIDTH), **children)


NETWORKS = {
    "self": attention,
    "self_tokens_first": lambda: attention(batch_first=False),
    "self_weights": lambda: attention(weights=True),
    "self_tokens_first_weights": lambda: attention(batch_first=False, weights=True),
    "cross": cross_attention,
    "cross_tokens_first_weights": lambda: cross_attention(batch_first=False, weights=True),
    "encoder": encoder,
    "encoder_tokens_first_norm_first": lambda: encoder(batch_first=False, norm_first=True),
    "class_token": class_token,
}


# PyTorch writes an attention that returns no weights from opset 14 on.
WRITABLE = [(n, e) for n in NETWORKS for e in EXPORTS if "weights" in n or e != "script_13"]


@pytest.mark.matrix(slow=24)
@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize(("network", "export"), WRITABLE)
def test_exported_attention_agrees(tmp_path, agrees, torch_export, network, export, batch):
    path = tmp_path / "exported.onnx"
    source = torch_export(NETWORKS[network](), path, (16, 12), batch=batch, **EXPORTS[export])
    model = agrees(source, sizes=(batch,) if batch else (1, 2, 3, 5), transposes=None, verify=True)
    assert model.output_shape == (None, 5)
    assert any(isinstance(layer, keras.layers.Dense) for layer in model.layers)


@pytest.mark.parametrize("network", ["self", "self_tokens_first", "self_tokens_first_weights"])
def test_attention_transposes_its_factors_and_the_way_back(tmp_path, agrees, torch_export, network):
    """Queries, keys and values to their heads, the keys to columns, and the heads to features."""
    path = tmp_path / "exported.onnx"
    source = torch_export(NETWORKS[network](), path, (16, 12), **EXPORTS["dynamo_20"])
    agrees(source, transposes=5, verify=True)


@pytest.mark.parametrize("export", ["dynamo_18", "dynamo_20", "script_14", "script_17"])
def test_attention_of_a_file_for_two_images_agrees(tmp_path, agrees, torch_export, export):
    path = tmp_path / "exported.onnx"
    source = torch_export(encoder(), path, (16, 12), batch=2, **EXPORTS[export])
    agrees(source, sizes=(2,), transposes=None, verify=True)


@pytest.mark.parametrize("network", ["self", "encoder", "class_token"])
def test_module_with_a_fast_path_is_converted_and_the_path_left_as_it_was(network):
    import torch

    torch.backends.mha.set_fastpath_enabled(True)
    module = NETWORKS[network]()
    model = teachers.from_torch(module, (1, 3, 16, 12))
    assert torch.backends.mha.get_fastpath_enabled()
    images = torch.rand(5, 3, 16, 12, generator=torch.Generator().manual_seed(1)) * 4 - 2
    with torch.no_grad():
        expected = module(images).numpy()
    received = keras.ops.convert_to_numpy(model(images.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_fast_path_is_on_again_after_an_export_that_fails():
    import torch

    torch.backends.mha.set_fastpath_enabled(True)
    module = _over_tokens(lambda self, tokens: torch.linalg.pinv(tokens).transpose(1, 2))
    with pytest.raises(NotImplementedError):
        teachers.from_torch(module, (1, 3, 16, 12))
    assert torch.backends.mha.get_fastpath_enabled()


def test_softmax_over_the_tokens_of_all_images_is_refused():
    """The twin: what looks like an attention's rows, but one image sees another."""
    from torch import nn

    rows = _over_tokens(
        lambda self, tokens: self.mix(tokens.flatten(0, 1)).softmax(0).view_as(tokens),
        batch_first=False,
        mix=nn.Linear(WIDTH, WIDTH),
    )
    with pytest.raises(NotImplementedError, match="merges the batch with an axis before it"):
        teachers.from_torch(rows, (1, 3, 16, 12))
