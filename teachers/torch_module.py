"""A PyTorch module on its way through PyTorch's exporters."""

import copy
import dataclasses
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Exporter = Literal["torchscript", "dynamo"]
_OPSETS = {"torchscript": 17, "dynamo": 20}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def imported_torch() -> ModuleType:
    """PyTorch, which is an extra.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "from_torch needs PyTorch. Install it with: pip install 'keras-amalgam[torch]'"
        ) from error
    return torch


@dataclasses.dataclass(frozen=True)
class View:
    """A module as the exporters see it.

    Args:
        module: Over the same children and weights, in evaluation mode; returns the wanted tensors
            only, one or a tuple.
        name: Of the module's class.
        outputs: The names of the tensors.
        example: Two images.
    """

    module: "torch.nn.Module"
    name: str
    outputs: tuple[str, ...]
    example: "torch.Tensor"


@contextmanager
def viewed(module: "torch.nn.Module", example_input: Any, output: str | None) -> Iterator[View]:
    """Look at a module; its modes are restored in the end, whatever happens.

    Args:
        module: Any.
        example_input: Images or their shape, as for `from_torch`.
        output: As for `from_torch`.

    Raises:
        TypeError: If the example is no batch of images.
        ValueError: If the module does not take it, computes in another type than float32, or does
            not return what is wanted.
    """
    torch = imported_torch()
    parallel: Any = module
    if isinstance(parallel, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        module = parallel.module
    _check_float32(module)
    example = _two_images(example_input, module)
    modes = [(part, part.training) for part in module.modules()]
    try:
        with torch.no_grad():
            module.eval()
            outputs = _wanted(_called(module, example), output)
            # A shallow copy has the same children and weights under the same names, and a forward
            # of its own; a module around it would stand in every path.
            view = copy.copy(module)
            forward = module.forward
            view.forward = lambda images: _picked(forward(images), outputs)
            yield View(view, type(module).__name__, outputs, example)
    finally:
        for part, was_training in modes:
            part.training = was_training


def export(view: View, path: Path, exporter: Exporter) -> None:
    """Write a module as ONNX with an open batch, unfolded batch norms and its modules' paths.

    Args:
        view: The module.
        path: The file.
        exporter: Which of PyTorch's two.

    Raises:
        NotImplementedError: If the exporter cannot.
    """
    torch = imported_torch()
    names = {"input_names": ["images"], "output_names": list(view.outputs)}
    options = names | {"opset_version": _OPSETS[exporter], "dynamo": exporter == "dynamo"}
    try:
        with _quiet():
            if exporter == "dynamo":
                from onnxscript.optimizer import fold_constants_ir, inline, remove_unused_nodes

                shapes = ({0: torch.export.Dim("batch")},)
                options |= {"dynamic_shapes": shapes, "optimize": False, "verbose": False}
                program = torch.onnx.export(view.module, (view.example,), **options)
                # The exporter's own optimization would fold the batch normalizations too.
                inline(program.model)
                fold_constants_ir(program.model)
                remove_unused_nodes(program.model)
                program.save(path, external_data=False)
            else:
                torch.onnx.export(
                    view.module,
                    (view.example,),
                    path,
                    dynamic_axes={name: {0: "batch"} for name in ("images", *view.outputs)},
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                    **options,
                )
    except Exception as error:  # The exporters raise what the module's own Python raises.
        raise NotImplementedError(f"PyTorch cannot export it: {_reason(error)}") from error


class TorchRuntime:
    """A module in PyTorch itself, as a source to compare with.

    Args:
        view: The module, while it is viewed.
        image_order: Source axis that each axis of the images holds, as `(0, 2, 3, 1)`.
    """

    def __init__(self, view: View, image_order: Sequence[int]) -> None:
        """See the class."""
        self.outputs = view.outputs
        self._view = view
        self._order = list(image_order)

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`; maps come in the order of the images' axes."""
        torch = imported_torch()
        feed = np.ascontiguousarray(images.transpose(np.argsort(self._order)))
        with torch.no_grad():
            result = self._view.module(torch.from_numpy(feed).to(self._view.example.device))
        results = result if isinstance(result, tuple) else (result,)
        arrays = {
            name: tensor.detach().cpu().numpy()
            for name, tensor in zip(self.outputs, results, strict=True)
        }
        return {
            name: array.transpose(self._order) if array.ndim == 4 == len(self._order) else array
            for name, array in arrays.items()
            if name in tensors
        }


def _check_float32(module: "torch.nn.Module") -> None:
    torch = imported_torch()
    types = {p.dtype for p in module.parameters() if p.dtype.is_floating_point}
    if types - {torch.float32}:
        raise ValueError(
            f"The module must compute in float32. Received: parameters of {sorted(map(str, types))}"
            ". Pass module.float()."
        )


def _two_images(example_input: Any, module: "torch.nn.Module") -> "torch.Tensor":
    """Two, since the exporters take a batch of one for a constant."""
    torch = imported_torch()
    example = _as_tensor(example_input)
    if example is None or example.ndim < 2 or not example.numel():
        is_shape = isinstance(example_input, (tuple, list))
        raise TypeError(
            "`example_input` must be a tensor or array of images (batch, channels, height, width), "
            "or that shape, none of it 0. Received: "
            f"{example_input if is_shape else type(example_input).__name__}."
        )
    weight = next(module.parameters(), None)
    first = example[:1].to(torch.float32) if example.dtype == torch.float64 else example[:1]
    first = first.detach() if weight is None else first.detach().to(weight.device)
    return torch.cat([first, first])


def _as_tensor(example_input: Any) -> "torch.Tensor | None":
    torch = imported_torch()
    if isinstance(example_input, torch.Tensor):
        return example_input
    if isinstance(example_input, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(example_input))
    sizes = example_input if isinstance(example_input, (tuple, list)) else ()
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    return torch.rand(tuple(sizes), generator=torch.Generator().manual_seed(0)) * 2 - 1


def _called(module: "torch.nn.Module", example: "torch.Tensor") -> Any:
    try:
        return module(example)
    except Exception as error:  # Whatever the module's own Python raises.
        raise ValueError(
            f"The module {type(module).__name__!r} does not take the example. Received: images of "
            f"shape {tuple(example.shape)}, {example.dtype}; {type(error).__name__}: "
            f"{_reason(error)} Pass images as it was trained on."
        ) from error


def _wanted(result: Any, output: str | None) -> tuple[str, ...]:
    names = tuple(_named_tensors(result))
    if not names:
        raise ValueError(
            f"The module returns no tensor. Received: {type(result).__name__}. Expected a tensor, "
            "or a dictionary, dataclass or tuple of tensors."
        )
    if output is None:
        return ("logits",) if "logits" in names else names
    if output not in names:
        raise ValueError(f"The module has no output {output!r}. It returns {list(names)}.")
    return (output,)


def _picked(result: Any, names: Sequence[str]) -> Any:
    tensors = _named_tensors(result)
    return tensors[names[0]] if len(names) == 1 else tuple(tensors[name] for name in names)


def _named_tensors(result: Any, name: str = "") -> dict[str, "torch.Tensor"]:
    """What a module returns, by keys, fields or positions; nested ones joined by `_`."""
    if isinstance(result, imported_torch().Tensor):
        return {name or "output": result}
    if isinstance(result, Mapping):
        parts = dict(result)
    elif dataclasses.is_dataclass(result):
        parts = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    elif hasattr(result, "_asdict"):
        parts = result._asdict()
    elif isinstance(result, (tuple, list)):
        parts = {str(index) if name else f"output_{index}": v for index, v in enumerate(result)}
    else:
        return {}
    tensors: dict[str, Any] = {}
    for key, part in parts.items():
        tensors |= _named_tensors(part, f"{name}_{key}" if name else str(key))
    return tensors


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say about themselves: the result is compared."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _reason(error: BaseException) -> str:
    """The first line of the error at the bottom: the exporters wrap it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
