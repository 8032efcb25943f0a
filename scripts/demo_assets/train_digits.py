"""Trains the teacher `digits`, a small residual network, in PyTorch and exports it to ONNX.

    python scripts/demo_assets/train_digits.py [--mnist DIR] [--validate]

The file takes normalised images, `(batch, 1, 28, 28)` float32, and gives logits `(batch, 10)`.
"""

import pathlib
import time

import onnx
import sources
import torch
from torch import nn

MEAN, STD = 0.1307, 0.3081
EPOCHS, BATCH, PEAK_RATE, WEIGHT_DECAY = 12, 128, 4e-3, 0.05
MAX_SHIFT = 2
SEED = 1906


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, a 1x1 convolution where the shape changes.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), layer names as in torchvision.
    """

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.downsample = None
        if stride != 1 or num_in != num_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `(batch, num_in, H, W)` to `(batch, num_out, H / stride, W / stride)`."""
        skip = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + skip)


class DigitsNet(nn.Module):
    """A residual network of nine convolutional layers: 28x28, 14x14, 7x7, pooled, ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1))
        self.layer2 = nn.Sequential(BasicBlock(32, 80, 2), BasicBlock(80, 80, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(80, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps normalised images `(batch, 1, 28, 28)` to logits `(batch, 10)`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def as_tensors(data: sources.Labelled) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images `(number, 1, 28, 28)` float32 and labels `(number,)` int64."""
    images = torch.from_numpy(data.images.copy()).unsqueeze(1).float().div_(255.0)
    return images.sub_(MEAN).div_(STD), torch.from_numpy(data.labels.astype("int64"))


def shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Moves every image by up to `MAX_SHIFT` pixels; what comes in is background."""
    background = -MEAN / STD
    number, _, height, width = images.shape
    padded = nn.functional.pad(images[:, 0], (MAX_SHIFT,) * 4, value=background)
    offsets = torch.randint(0, 2 * MAX_SHIFT + 1, (2, number, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height))[:, :, None]
    columns = (offsets[1] + torch.arange(width))[:, None, :]
    return padded[torch.arange(number)[:, None, None], rows, columns].unsqueeze(1)


def accuracy(model: nn.Module, data: sources.Labelled) -> float:
    """The share of `data` that `model` classifies rightly."""
    images, labels = as_tensors(data)
    model.eval()
    with torch.inference_mode():
        right = [
            (model(part).argmax(1) == truth).sum()
            for part, truth in zip(images.split(500), labels.split(500), strict=True)
        ]
    return float(sum(right)) / len(labels)


def train(data: sources.Labelled) -> DigitsNet:
    """A network trained on `data` alone: AdamW, one cycle, shifted images, smoothed labels."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images, labels = as_tensors(data)
    model = DigitsNet()
    # Convolutions of this size train a third faster so; torch's annotations don't know the call.
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    steps = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=EPOCHS * steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        model.train()
        begin, total = time.monotonic(), 0.0
        order = torch.randperm(len(labels), generator=generator)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            view = shift(images[chosen], generator).contiguous(memory_format=torch.channels_last)
            loss = loss_of(model(view), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - begin
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    return model.to(memory_format=torch.contiguous_format).eval()


def export(model: nn.Module, path: pathlib.Path) -> None:
    """Writes `model` as ONNX, opset 20, all in one file, with a free batch size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part.onnx")
    torch.onnx.export(
        model,
        (torch.zeros(2, 1, 28, 28),),
        beside,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=20,
        external_data=False,
    )
    drop_stack_traces(beside)
    beside.rename(path)


def drop_stack_traces(path: pathlib.Path) -> None:
    """Removes from an ONNX file what torch notes of the exporting machine's folders."""
    model = onnx.load(path)
    for item in (*model.graph.node, *model.graph.input, *model.graph.output):
        kept = [p for p in item.metadata_props if p.key != "pkg.torch.onnx.stack_trace"]
        del item.metadata_props[:]
        item.metadata_props.extend(kept)
    onnx.save(model, path)


def main() -> None:
    """Trains on the 51,000 images and exports; with `--validate` prints an accuracy instead."""
    parser = sources.parser(__doc__)
    parser.add_argument(
        "--validate",
        action="store_true",
        help=f"keep {sources.NUM_VALIDATION} of the images aside, measure on them, write nothing",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        default=sources.DEMO / "teachers" / "digits.onnx",
    )
    arguments = parser.parse_args()
    collection = sources.load("digits", arguments)
    if arguments.validate:
        fit, validation = collection.fit_and_validation()
        print(f"validation accuracy {accuracy(train(fit), validation):.4f}")
        return
    model = train(collection.taught)
    export(model, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
