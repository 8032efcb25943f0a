"""Convolutional networks as both of PyTorch's exporters write them.

PyTorch is an extra, and slow: it is imported inside the tests only.
"""

import keras
import pytest

EXPORTS = {
    "dynamo_18": {"dynamo": True, "opset_version": 18},
    "dynamo_20": {"dynamo": True, "opset_version": 20},
    "script_13": {"dynamo": False, "opset_version": 13},
    "script_17": {"dynamo": False, "opset_version": 17},
    "script_17_unfused": {"dynamo": False, "opset_version": 17, "fused": False},
}


def _conv(ins, outs, kernel=3, stride=1, groups=1, act=None):
    from torch import nn

    conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), act or nn.ReLU())


def _with_forward(forward, **children):
    """A module of named children whose forward is `forward(self, x)`."""
    from torch import nn

    module = type("Block", (nn.Module,), {"forward": forward})()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def residual():
    """As ResNet: strided stem, overlapping pooling, projected shortcuts."""
    from torch import nn

    def block(ins, outs, stride):
        return _with_forward(
            lambda self, x: self.relu(self.bn(self.conv2(self.conv1(x))) + self.down(x)),
            conv1=_conv(ins, outs, stride=stride),
            conv2=nn.Conv2d(outs, outs, 3, 1, 1, bias=False),
            bn=nn.BatchNorm2d(outs),
            down=nn.Identity() if stride == 1 else _conv(ins, outs, 1, stride, act=nn.Identity()),
            relu=nn.ReLU(),
        )

    return _with_forward(
        lambda self, x: self.fc(self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1)),
        stem=nn.Sequential(_conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1)),
        layer1=nn.Sequential(block(8, 8, 1), block(8, 8, 1)),
        layer2=nn.Sequential(block(8, 16, 2), block(16, 16, 1)),
        pool=nn.AdaptiveAvgPool2d(1),
        fc=nn.Linear(16, 10),
    )


def inverted_residual():
    """As MobileNetV2 and V3: depthwise, ReLU6, hard swish, channel gates."""
    from torch import nn

    def gate(width):
        return _with_forward(
            lambda self, x: x * self.layers(x),
            layers=nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(width, 4, 1),
                nn.ReLU(),
                nn.Conv2d(4, width, 1),
                nn.Hardsigmoid(),
            ),
        )

    def block(ins, outs, stride, act):
        layers = nn.Sequential(
            _conv(ins, 4 * ins, 1, act=act),
            _conv(4 * ins, 4 * ins, 5, stride, groups=4 * ins, act=act),
            gate(4 * ins),
            _conv(4 * ins, outs, 1, act=nn.Identity()),
        )
        skip = stride == 1 and ins == outs
        return _with_forward(
            lambda self, x: x + self.layers(x) if skip else self.layers(x), layers=layers
        )

    return _with_forward(
        lambda self, x: self.head(self.features(x).mean([2, 3])),
        features=nn.Sequential(
            _conv(3, 8, 3, 2, act=nn.ReLU6()),
            block(8, 8, 1, nn.ReLU6()),
            block(8, 12, 2, nn.Hardswish()),
            block(12, 12, 1, nn.SiLU()),
        ),
        head=nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 10)),
    )


def flattening():
    """As VGG: pooled to a grid, flattened channels first, three dense layers."""
    from torch import nn

    return _with_forward(
        lambda self, x: self.classifier(self.pool(self.features(x)).view(x.size(0), -1)),
        features=nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), _conv(8, 12), nn.MaxPool2d(2)
        ),
        pool=nn.AdaptiveAvgPool2d((2, 4)),
        classifier=nn.Sequential(
            nn.Linear(12 * 8, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10), nn.Softmax(-1)
        ),
    )


def concatenating():
    """As DenseNet: normalisation first, concatenation, average pooling."""
    import torch
    from torch import nn

    def dense(ins, grow):
        return _with_forward(
            lambda self, x: torch.cat([x, self.layers(x)], 1),
            layers=nn.Sequential(
                nn.BatchNorm2d(ins), nn.ReLU(), nn.Conv2d(ins, grow, 3, padding=1, bias=False)
            ),
        )

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        *(dense(8 + 4 * index, 4) for index in range(3)),
        nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2, 2)),
        dense(10, 4),
        nn.BatchNorm2d(14),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(14, 10),
    )


def squeezing():
    """As SqueezeNet: incomplete pooling windows, a convolution as classifier."""
    import torch
    from torch import nn

    def fire(ins, squeeze, expand):
        def forward(self, x):
            x = self.squeeze(x).relu()
            return torch.cat([self.one(x).relu(), self.three(x).relu()], 1)

        return _with_forward(
            forward,
            squeeze=nn.Conv2d(ins, squeeze, 1),
            one=nn.Conv2d(squeeze, expand, 1),
            three=nn.Conv2d(squeeze, expand, 3, padding=1),
        )

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        fire(8, 4, 8),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        fire(16, 4, 8),
        nn.Conv2d(16, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def mixed():
    """What the others leave out: other activations, borders, averages, constants, groups."""
    import torch
    from torch import nn

    return _with_forward(
        lambda self, x: self.head(self.body((x - self.mean) / self.std)),
        body=nn.Sequential(
            nn.ReflectionPad2d((1, 2, 0, 1)),
            nn.Conv2d(3, 8, (3, 5), (2, 1)),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2),
            nn.PReLU(8),
            nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(8, 8, 3),
            nn.GELU(),
            nn.Conv2d(8, 8, 1),
            nn.ELU(),
            nn.AvgPool2d(3, 2, 1),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(8, 8, 1),
            nn.Softplus(),
            nn.AdaptiveMaxPool2d(1),
        ),
        head=nn.Sequential(nn.Flatten(), nn.Linear(8, 10), nn.LogSoftmax(1)),
    ), {"mean": torch.rand(1, 3, 1, 1), "std": torch.rand(1, 3, 1, 1) + 0.5}


def _prepared(make):
    """A network in evaluation mode with statistics as after a training."""
    import torch

    torch.manual_seed(0)
    made = make()
    network, buffers = made if isinstance(made, tuple) else (made, {})
    for name, value in buffers.items():
        network.register_buffer(name, value)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.mark.slow
@pytest.mark.matrix(slow=10)
@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (residual, (33, 29)),
        (inverted_residual, (32, 36)),
        (flattening, (16, 32)),
        (concatenating, (30, 26)),
        (squeezing, (35, 37)),
        (mixed, (24, 21)),
    ],
)
def test_exported_network_agrees_and_never_transposes(
    tmp_path, agrees, torch_export, make, size, export
):
    source = torch_export(_prepared(make), tmp_path / "exported.onnx", size, **EXPORTS[export])
    model = agrees(source, verify=True)
    assert model.output_shape == (None, 10)
    assert model.input_shape == (None, *size, 3)


@pytest.mark.slow
@pytest.mark.parametrize("export", ["dynamo_20", "script_17", "script_17_unfused"])
def test_module_paths_are_taps(tmp_path, agrees, torch_export, export):
    path = tmp_path / "exported.onnx"
    model = agrees(
        torch_export(_prepared(residual), path, (33, 29), **EXPORTS[export]), verify=True
    )
    names = model.provenance.names
    shapes = {"stem": (9, 8, 8), "layer1": (9, 8, 8), "layer2": (5, 4, 16), "layer2.0": (5, 4, 16)}
    for tap, shape in shapes.items():
        layer = model.get_layer(names[tap])
        assert layer.output.shape[1:] == shape
        if tap.startswith("layer"):
            assert isinstance(layer, keras.layers.ReLU)


@pytest.mark.slow
def test_unfused_export_keeps_the_statistics_of_the_training_images(tmp_path, agrees, torch_export):
    network = _prepared(residual)
    export = EXPORTS["script_17_unfused"]
    model = agrees(
        torch_export(network, tmp_path / "exported.onnx", (33, 29), **export), verify=True
    )
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 10
    mean = network.stem[0][1].running_mean.numpy()
    assert keras.ops.convert_to_numpy(norms[0].moving_mean) == pytest.approx(mean)
