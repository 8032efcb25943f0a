"""Reading PyTorch weights as what they are: untrusted input."""

# PyTorch is an extra, which need not be there.
# pyright: reportMissingImports=false

import copy
import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_amalgam.files.contents import sha256_of
from keras_amalgam.files.keras_bounds import MAX_EXPANSION, SMALL
from keras_amalgam.teachers.torch_modules.module import imported_torch

if TYPE_CHECKING:
    import torch

# Where training scripts put the weights in a checkpoint, the usual first.
_PLACES = ("state_dict", "model_state_dict", "model", "net")
_PARALLEL = "module."
_LISTED = 12
# What PyTorch raises at a file that is cut off or of another kind; the legacy format is a pickle
# with arrays behind it, which ends anywhere.
_UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError),
    *(AttributeError, AssertionError, struct.error, zipfile.BadZipFile),
)


def filled(
    module: "torch.nn.Module", state_dict: str | Path | Mapping[str, Any]
) -> tuple["torch.nn.Module", str, str]:
    """A copy of a module with trained weights.

    Args:
        module: Left as it is.
        state_dict: The weights or their file, perhaps inside a checkpoint.

    Returns:
        The copy; in words where the weights were; the SHA-256 of the file or of the weights.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `state_dict` is neither a mapping nor a path.
        ValueError: If the file holds code or no weights, or the weights do not fit.
    """
    if isinstance(state_dict, (str, Path)):
        weights, name = _read(Path(state_dict)), Path(state_dict).name
        digest = sha256_of(state_dict)
    else:
        weights, name, digest = state_dict, f"{type(module).__name__} (weights in memory)", None
    weights, found = _unwrapped(weights, name)
    copied = copy.deepcopy(module)
    try:
        copied.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {name!r}{found} do not fit {type(module).__name__!r}. "
            f"{_differences(error)} Pass the module that they were trained in."
        ) from error
    return copied, name + found, digest or sha256_of_weights(weights)


def sha256_of_weights(weights: Mapping[str, "torch.Tensor"]) -> str:
    """SHA-256 over names, types, shapes and values, in order; hexadecimal."""
    torch = imported_torch()
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Any:
    torch = imported_torch()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of what it may not be able to read; it says if so.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name!r} holds more than weights, and code inside a file is never run: "
            f"{_refused(error)} Where you trust it, load the module yourself, save "
            "module.state_dict(), and pass that file."
        ) from error
    except _UNREADABLE as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path.name!r} is cut off, or no file of torch.save: {reason} Copy it again; a "
            ".safetensors file is read by safetensors.torch.load_file, and its result passed."
        ) from error


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive whose members unfold too far; PyTorch writes them as they are."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _UNREADABLE:
        return  # PyTorch's own reader says what is wrong.
    unfolded = sum(member.file_size for member in members)
    if unfolded > max(SMALL, MAX_EXPANSION * path.stat().st_size):
        raise ValueError(
            f"{path.name!r} unfolds too far. Received: {unfolded:,} bytes in a file of "
            f"{path.stat().st_size:,}. Expected at most {MAX_EXPANSION} times as many: torch.save "
            "does not compress. Save the weights again."
        )


def _refused(error: pickle.UnpicklingError) -> str:
    """PyTorch's words on what it refused, without its advice to run it after all."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if "WeightsUnpickler error" in line or "Unsupported" in line]
    return (told or lines or ["it cannot be unpickled."])[0][:300]


def _unwrapped(weights: Any, name: str) -> tuple[dict[str, Any], str]:
    """The weights inside a checkpoint under the module's own names, and what was seen through."""
    torch = imported_torch()
    if not isinstance(weights, Mapping):
        raise TypeError(
            "`state_dict` must be a mapping of names to tensors, or a file of one. Received: "
            f"{type(weights).__name__}."
        )
    found = ""
    for place in _PLACES:
        if isinstance(weights.get(place), Mapping):
            weights, found = weights[place], f", its {place!r}"
            break
    others = [
        key
        for key, value in weights.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if others or not weights:
        raise ValueError(
            f"{name!r} holds no weights that can be recognised. Received: {list(weights)[:_LISTED]}"
            f", of which {others[:_LISTED]} are no tensors or no names. Expected names and "
            f"tensors, or these under one of {_PLACES}. Pass the mapping of the weights itself."
        )
    plain = dict(weights)
    if all(key.startswith(_PARALLEL) for key in plain):
        plain = {key.removeprefix(_PARALLEL): value for key, value in plain.items()}
        found += f", names without {_PARALLEL!r}"
    return plain, found


def _differences(error: RuntimeError) -> str:
    """PyTorch's own list, one line each; its first line repeats the class."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()[1:] if line.strip()]
    return "; ".join(lines)[:1500] + "."
