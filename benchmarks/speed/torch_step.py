"""The step in PyTorch: a process that does as many as it is asked for.

python -m benchmarks.speed.torch_step CASE TERMS FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.speed import serving
from benchmarks.speed.cases import CASES, TERMS, Case, Terms
from benchmarks.speed.torch_demo import fill, resized
from benchmarks.speed.torch_terms import Objective


class Student(nn.Module):
    """A backbone with a head per teacher on its pooled map.

    Args:
        backbone: From normalised images to a map.
        heads: Kernel and bias by task.
        features_are_vectors: Whether its features are the pooled map.
    """

    def __init__(
        self, backbone: nn.Module, heads: dict[str, list[np.ndarray]], features_are_vectors: bool
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict({name: nn.Linear(*one[0].shape) for name, one in heads.items()})
        self.features_are_vectors = features_are_vectors
        for name, weights in heads.items():
            fill(self.heads[name], weights)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Features, and logits by task."""
        features = self.backbone(x)
        pooled = features.mean((2, 3))
        answers = {name: head(pooled) for name, head in self.heads.items()}
        return (pooled if self.features_are_vectors else features), answers


class Step:
    """A training step with live teachers, from the weights that the Keras side wrote.

    Args:
        case: Networks and images.
        terms: What is imitated.
        weights: As `keras_step.write_weights` leaves them.
    """

    def __init__(self, case: Case, terms: Terms, weights: dict[str, np.ndarray]) -> None:
        self.case = case
        self.teachers, backbone = case.modules()
        if case.width is not None:
            _fill_in_order(backbone, weights)
        heads = {
            name: [weights[f"{name}/kernel"], weights[f"{name}/bias"]] for name in case.teachers
        }
        self.student = Student(backbone, heads, case.features_are_vectors).train()
        images = torch.from_numpy(case.images()).permute(0, 3, 1, 2).contiguous()
        self.images, self.source = images, torch.from_numpy(case.source())
        with torch.no_grad():
            shapes = [one[0].shape[1:] for one in self.answered().values()]
            self.student.eval()
            own = self.student(self.normalised(images))[0].shape[1:]
            self.student.train()
        self.objective = Objective(terms, own, shapes)
        if self.objective.space is not None:
            kernels = (
                weights[f"space/{n}"] for n in range(sum(k.startswith("space/") for k in weights))
            )
            self.objective.space.load(kernels)
        parameters = [*self.student.parameters(), *self.objective.parameters()]
        self.optimizer = torch.optim.Adam(parameters, serving.RATE, eps=1e-7)

    def normalised(self, images: torch.Tensor, name: str = "") -> torch.Tensor:
        """Images as a teacher, or the student, takes them."""
        size, mean, std = self.case.taken.get(name, (self.case.size, 0.5, 0.5))
        return (resized(images.float(), size) / 255.0 - mean) / std

    def answered(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Features and logits of every teacher."""
        signals = {}
        for name, teacher in self.teachers.items():
            features, logits = teacher(self.normalised(self.images, name))
            if self.case.features_are_vectors and features.dim() == 4:
                features = features.mean((2, 3))
            signals[name] = (features, logits)
        return signals

    def __call__(self) -> float:
        """One step; its loss before it."""
        with torch.no_grad():
            teachers = self.answered()
        loss = self.objective(self.student(self.normalised(self.images)), teachers, self.source)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def _fill_in_order(backbone: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Give the compact backbone the weights of its Keras twin, layer after layer."""
    layers = [m for m in backbone.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for number, layer in enumerate(layers):
        parts = 4 if isinstance(layer, nn.BatchNorm2d) else 1
        fill(layer, [weights[f"backbone/{number}/{part}"] for part in range(parts)])


def main() -> None:
    """Serve steps."""
    case, terms, folder = sys.argv[1:]
    torch.set_num_threads(serving.THREADS)
    with np.load(Path(folder) / "weights.npz") as held:
        step = Step(CASES[case], TERMS[terms], dict(held))
    serving.serve({"torch": step}, [step() for _ in range(serving.COMPARED)])


if __name__ == "__main__":
    main()
