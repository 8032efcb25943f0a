"""A PyTorch module on its way through PyTorch's exporters."""

# PyTorch is an extra, which need not be there.
# pyright: reportMissingImports=false

import copy
import dataclasses
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

# Of ATen: what `bool`, `int`, `float`, `item` and comparisons of a tensor come down to.
_READING = {"aten::_local_scalar_dense", "aten::equal", "aten::allclose"}
# How many elements these give depends on values.
_READING |= {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}
_READING |= {"aten::unique_consecutive", "aten::bincount"}
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
        read_at: File and line where its Python first reads values of the images, as a condition
            on them does, or None. What it then decides may be another thing for other images.
    """

    module: "torch.nn.Module"
    name: str
    outputs: tuple[str, ...]
    example: "torch.Tensor"
    read_at: str | None


@contextmanager
def viewed(module: "torch.nn.Module", example_input: Any, output: str | None) -> Iterator[View]:
    """Look at a module; its modes and buffers are restored in the end, whatever happens.

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
    # A forward may count its calls, or keep running averages, in evaluation mode, too.
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    try:
        with torch.no_grad():
            module.eval()
            result, read_at = _called(module, example, example_input)
            outputs = _wanted(result, output)
            # A shallow copy has the same children and weights under the same names, and a forward
            # of its own; a module around it would stand in every path.
            view = copy.copy(module)
            forward = module.forward
            view.forward = lambda images: _picked(forward(images), outputs)
            yield View(view, type(module).__name__, outputs, example, read_at)
    finally:
        for part, was_training in modes:
            part.training = was_training
        with torch.no_grad():
            for part, name, buffer, content in buffers:
                part._buffers[name] = buffer.copy_(content)


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
    if example is None or example.ndim != 4 or not example.numel():
        shape = getattr(example_input, "shape", None)
        what = type(example_input).__name__
        received = what if shape is None else f"{what} of shape {tuple(shape)}"
        raise TypeError(
            "`example_input` must be a tensor or array of images of the four axes (batch, channels,"
            " height, width), or that shape, none of it 0. Received: "
            f"{example_input if isinstance(example_input, (tuple, list)) else received}."
        )
    return torch.cat([_prepared(example[:1], module)] * 2)


def _prepared(example: "torch.Tensor", module: "torch.nn.Module") -> "torch.Tensor":
    """In the type and on the device of the module."""
    torch = imported_torch()
    weight = next(module.parameters(), None)
    example = example.to(torch.float32) if example.dtype == torch.float64 else example
    return example.detach() if weight is None else example.detach().to(weight.device)


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


def _called(
    module: "torch.nn.Module", images: "torch.Tensor", example_input: Any
) -> tuple[Any, str | None]:
    """What the module returns, and where its Python reads values of the images."""
    watch = _watch_of(images)
    try:
        with watch[0], watch[1]:
            result = module(images)
    except Exception as error:  # Whatever the module's own Python raises.
        _check_batch(module, example_input, error)
        raise ValueError(
            f"The module {type(module).__name__!r} does not take the example. Received: images of "
            f"shape {tuple(images.shape)}, {images.dtype}; {type(error).__name__}: "
            f"{reason(error)} Pass images as it was trained on."
        ) from error
    tensors = _named_tensors(result).values()
    if tensors and all(tensor.ndim and len(tensor) == 1 for tensor in tensors):
        _refuse_batch(module, 1, f"for two images it returns {tuple(next(iter(tensors)).shape)}")
    return result, next(iter(watch[1].places), None)


def _check_batch(module: "torch.nn.Module", example_input: Any, error: Exception) -> None:
    """Whether it was the number of images that the module did not take."""
    example = _as_tensor(example_input)
    if example is None or len(example) == 2:
        return
    try:
        module(_prepared(example, module))
    except Exception:  # The first error is the one to tell of.
        return
    _refuse_batch(module, len(example), f"for two images {reason(error)}", error)


def _refuse_batch(
    module: "torch.nn.Module", size: int, received: str, error: Exception | None = None
) -> None:
    raise ValueError(
        f"The module {type(module).__name__!r} is fixed to a batch of {size}, where any number of "
        f"images must pass. Received: {received}. Keep the first axis of what comes in, as in "
        "x.flatten(1) in place of x.reshape(1, -1)."
    ) from error


def _watch_of(images: "torch.Tensor") -> tuple[Any, Any]:
    """Two contexts that note where Python reads values that depend on the images.

    In eager mode sizes are plain integers, so that what is read is a tensor's value; and a tensor
    that does not come from the images, as a table or buffer, is not followed.
    """
    torch = imported_torch()
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def storages(values: Any) -> set[StorageWeakRef]:
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
        strided = [tensor for tensor in tensors if tensor.layout == torch.strided]
        return {StorageWeakRef(tensor.untyped_storage()) for tensor in strided}

    followed = storages(images)

    def selects(func: Any, args: Any) -> bool:
        """Whether elements are picked by truth values that depend on the images."""
        masks = tree_leaves(args[1:]) if func._schema.name == "aten::index" else ()
        masks = [m for m in masks if getattr(m, "dtype", None) in (torch.bool, torch.uint8)]
        return bool(followed & storages(masks))

    class Following(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = func(*args, **(kwargs or {}))
            if followed & storages((args, kwargs)):
                if func._schema.name in _READING or selects(func, args):
                    watch.places.append(_place())
                followed.update(storages(result))
            return result

    class Watch(TorchFunctionMode):
        places: list[str]

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            # These read memory, below every operator.
            reading = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__)
            if func in reading and followed & storages(args):
                self.places.append(_place())
            return func(*args, **(kwargs or {}))

    watch = Watch()
    watch.places = []
    return Following(), watch


def _place() -> str:
    """The innermost line outside of PyTorch, below our own call of the module."""
    frames = traceback.extract_stack()
    call = max(i for i, f in enumerate(frames) if (f.filename, f.name) == (__file__, "_called"))
    torch_folder = str(Path(imported_torch().__file__ or "").parent)
    below = [f for f in frames[call + 1 :] if f.filename != __file__]
    theirs = [f for f in below if not f.filename.startswith(torch_folder)]
    frame = (theirs or below)[-1]
    return f"{frame.filename}:{frame.lineno} `{frame.line}`"


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


def reason(error: BaseException) -> str:
    """The first line of the error at the bottom; the exporters wrap it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
