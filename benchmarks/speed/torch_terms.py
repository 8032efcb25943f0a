"""The terms' mathematics written plainly in PyTorch: soft targets, and variant A of the space."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.cases import Terms
from benchmarks.speed.torch_demo import fill
from keras_amalgam.losses.mmd import MIN_SQUARED_DISTANCE
from keras_amalgam.terms.common_features import BANDWIDTHS

Signals = tuple[torch.Tensor, torch.Tensor]


def soft_targets(
    ownership: str,
    student: Mapping[str, torch.Tensor],
    teachers: Mapping[str, torch.Tensor],
    source: torch.Tensor,
) -> torch.Tensor:
    """The cross-entropy of `SoftTargets(ownership)`, a scalar.

    Args:
        ownership: `"joint"`, `"per_task"` or `"source"`.
        student: Logits by task.
        teachers: Logits by teacher, of classes that no other one knows.
        source: Whose collection each image is from.
    """
    if ownership == "per_task":
        return sum(
            (_cross_entropy(student[name], one.softmax(-1)) for name, one in teachers.items()),
            torch.tensor(0.0),
        )
    own = torch.cat([*student.values()], -1)
    joined = torch.cat([*teachers.values()], -1)
    if ownership == "source":
        owner = torch.repeat_interleave(
            torch.arange(len(teachers)), torch.tensor([one.shape[-1] for one in teachers.values()])
        )
        joined = joined.masked_fill(owner != source[:, None], float("-inf"))
    return _cross_entropy(own, joined.softmax(-1))


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


class CommonSpace(nn.Module):
    """Variant A on maps or vectors: adapters, a shared extractor, decoders.

    Args:
        student: Shape of the student's features without the batch axis, channels first.
        teachers: Those of the teachers' features.
        units: Channels of the common space.
    """

    def __init__(
        self, student: Sequence[int], teachers: Sequence[Sequence[int]], units: int
    ) -> None:
        super().__init__()
        shapes = [student, *teachers]
        self.is_map = len(student) > 1
        self.size = tuple(min(one[axis] for one in shapes) for axis in range(1, len(student)))
        self.adapters = nn.ModuleList([self._linear(one[0], 2 * units) for one in shapes])
        self.first = nn.ModuleList([self._wide(n, units) for n in (2 * units, units, units)])
        self.second = nn.ModuleList([self._wide(units, units) for _ in range(3)])
        self.skip = self._linear(2 * units, units)
        self.hidden = nn.ModuleList([self._wide(units, one[0]) for one in teachers])
        self.linear = nn.ModuleList([self._linear(one[0], one[0]) for one in teachers])

    def _linear(self, num_in: int, num_out: int) -> nn.Module:
        if self.is_map:
            return nn.Conv2d(num_in, num_out, 1, bias=False)
        return nn.Linear(num_in, num_out, bias=False)

    def _wide(self, num_in: int, num_out: int) -> nn.Module:
        if self.is_map:
            return nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        return nn.Linear(num_in, num_out, bias=False)

    def forward(self, student: torch.Tensor, teachers: Sequence[torch.Tensor]) -> torch.Tensor:
        """The MMD to every teacher and every teacher's reconstruction error, added up."""
        features = [student, *teachers]
        if self.is_map:
            features = [
                one if tuple(one.shape[2:]) == self.size
                else functional.adaptive_avg_pool2d(one, self.size)
                for one in features
            ]  # fmt: skip
        own, *common = [
            self._extract(functional.relu(adapter(one)))
            for adapter, one in zip(self.adapters, features, strict=True)
        ]
        loss = student.new_zeros(())
        for number, (one, target) in enumerate(zip(common, features[1:], strict=True)):
            loss = loss + mmd_squared(_rows(own), _rows(one))
            rebuilt = self.linear[number](functional.relu(self.hidden[number](one)))
            loss = loss + functional.mse_loss(rebuilt, target)
        return loss

    def _extract(self, x: torch.Tensor) -> torch.Tensor:
        for number, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            skip = x if number else self.skip(x)
            x = functional.relu(second(functional.relu(first(x))) + skip)
        return x

    def load(self, kernels: Iterator[np.ndarray]) -> None:
        """Take the kernels of a `CommonFeatures`, in the order of `keras_step.kernels`."""
        blocks = zip(self.first, self.second, strict=True)
        extractor = [layer for block in blocks for layer in block]
        decoders = zip(self.hidden, self.linear, strict=True)
        back = [layer for decoder in decoders for layer in decoder]
        for layer in [*self.adapters, *extractor, self.skip, *back]:
            fill(layer, [next(kernels)])


def mmd_squared(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The biased estimate, with the published bandwidths."""
    value = _kernel(x, x).mean() + _kernel(y, y).mean() - 2.0 * _kernel(x, y).mean()
    return value.clamp(min=0.0)


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    squared = (x**2).sum(-1)[:, None] + (y**2).sum(-1) - 2.0 * x @ y.T
    if x is y:
        squared = squared * (1.0 - torch.eye(len(x)))
    squared = squared.clamp(min=MIN_SQUARED_DISTANCE)
    return sum(
        (torch.exp(squared * (-0.5 / sigma**2)) for sigma in BANDWIDTHS),
        torch.zeros_like(squared),
    )


def _rows(common: torch.Tensor) -> torch.Tensor:
    return functional.normalize(common.flatten(1), dim=-1)


class Objective(nn.Module):
    """All terms of a step.

    Args:
        terms: Which.
        student: Shape of the student's features, channels first.
        teachers: Shapes of the teachers' features, channels first.
    """

    def __init__(
        self, terms: Terms, student: Sequence[int], teachers: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.terms = terms
        self.space = CommonSpace(student, teachers, terms.units) if terms.units else None

    def forward(
        self,
        student: tuple[torch.Tensor, dict[str, torch.Tensor]],
        teachers: Mapping[str, Signals],
        source: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of a batch; the student's and each teacher's features come before the logits."""
        features, answers = student
        logits = {name: one[1] for name, one in teachers.items()}
        loss = sum(
            (soft_targets(one, answers, logits, source) for one in self.terms.soft),
            torch.tensor(0.0),
        )
        if self.space is not None:
            theirs = [one[0] for one in teachers.values()]
            loss = loss + self.terms.weight * self.space(features, theirs)
        return loss
