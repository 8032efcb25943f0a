"""What is timed: networks with a batch of images, and terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from benchmarks.speed import torch_demo
from benchmarks.speed.torch_networks import Compact, Transformer, cifar_resnet, resnet18, resnet34

SEED = 10546
CLASSES = 50


@dataclass(frozen=True)
class Case:
    """Two teachers and a student, with the images of a step.

    Args:
        says: What it is, for the page.
        size: Side of the images in pixels.
        batch: Images per step.
        teachers: Makes the teachers as modules, by name.
        student: Makes the student's backbone as a module.
        tap: The path of the module, in a teacher, that gives its features.
        channels: Number of channels of the images.
        classes: Number of classes of each teacher.
        width: Where the student is `backbones.compact`, its width; where it is converted, None.
        is_demo: Whether teachers and student are the demo's own.
        features_are_vectors: Whether teachers and student are tapped behind their pooling.
        taken: By teacher the side that it takes, and mean and deviation of its pixels in 0..1; by
            default the images' own side, and pixels in -1..1.
    """

    says: str
    size: int
    batch: int
    teachers: Mapping[str, Callable[[], nn.Module]]
    student: Callable[[], nn.Module]
    tap: str = "stages"
    channels: int = 3
    classes: int = CLASSES
    width: int | None = None
    is_demo: bool = False
    features_are_vectors: bool = False
    taken: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)

    def images(self) -> np.ndarray:
        """Raw images, uint8, `(batch, size, size, channels)`."""
        shape = (self.batch, self.size, self.size, self.channels)
        return np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)

    def source(self) -> np.ndarray:
        """Whose collection each image is from, int32, `(batch,)`."""
        return np.arange(self.batch, dtype=np.int32) % len(self.teachers)

    def modules(self) -> tuple[dict[str, nn.Module], nn.Module]:
        """Teachers and student, the same in every process."""
        torch.manual_seed(SEED)
        teachers = {name: make().eval() for name, make in self.teachers.items()}
        return teachers, self.student()


def _photographs(size: int) -> Case:
    return Case(
        f"ResNet-18 and ResNet-34 teach a ResNet-18, {size} px",
        size,
        32,
        {"first": lambda: resnet18(CLASSES), "second": lambda: resnet34(CLASSES)},
        resnet18,
    )


CASES: Mapping[str, Case] = {
    "demo": Case(
        "the demo's networks, tapped behind their pooling",
        28,
        64,
        {"digits": torch_demo.digits, "fashion": torch_demo.Fashion},
        lambda: Compact(1, 96),
        channels=1,
        classes=10,
        width=96,
        is_demo=True,
        features_are_vectors=True,
        taken={"digits": (28, 0.1307, 0.3081), "fashion": (32, 0.5, 0.5)},
    ),
    "cifar": Case(
        "ResNet-56 and ResNet-20 for CIFAR teach the compact student, 32 px",
        32,
        64,
        {"first": lambda: cifar_resnet(56, CLASSES), "second": lambda: cifar_resnet(20, CLASSES)},
        lambda: Compact(3, 96),
        width=96,
    ),
    "resnet_64": _photographs(64),
    "resnet_224": _photographs(224),
    "transformer": Case(
        "two vision transformers of 12 blocks teach the compact student, 64 px",
        64,
        32,
        {
            "first": lambda: Transformer(64, 8, 192, 12, 3, CLASSES),
            "second": lambda: Transformer(64, 8, 128, 12, 2, CLASSES),
        },
        lambda: Compact(3, 96),
        tap="pooled",
        width=96,
        features_are_vectors=True,
    ),
}


@dataclass(frozen=True)
class Terms:
    """The terms of a step.

    Args:
        says: What they are, for the page.
        soft: The ownership of each soft-target term.
        units: Channels of the common space, or None where there is none.
        weight: Coefficient of the common space.
    """

    says: str
    soft: tuple[str, ...] = field(default=("joint",))
    units: int | None = None
    weight: float = 10.0


TERMS: Mapping[str, Terms] = {
    "soft_targets": Terms("soft targets"),
    "variant_a_32": Terms("soft targets, variant A with h = 32", units=32),
    "variant_a_128": Terms("soft targets, variant A with h = 128", units=128),
    "default": Terms(
        "the command's default: soft targets by source and by task, variant A with h = 64",
        ("source", "per_task"),
        64,
        0.1,
    ),
}
