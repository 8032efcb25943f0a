"""Refusing to compute with sizes that are not known, as if they were.

While converting, the batch size and an open height or width are stand-in numbers (see
`passes.folding`). Sums and multiples of them stay recognisable; what a comparison, a remainder or a
rounded quotient gives does not, and would hold for the stand-in alone.
"""

from collections.abc import Sequence

import numpy as np

from keras_amalgam.teachers.layout import needs_size
from keras_amalgam.teachers.onnx_graph import Node
from keras_amalgam.teachers.passes.folding import BATCH, OPEN

_COMPARING = {"Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
_DIVIDING = {"Div", "Mod"}
# Larger than any batch or image: exporters write such numbers for "to the end".
_ENDLESS = 2**30


def refuse_frozen_sizes(node: Node, constants: Sequence[np.ndarray | None]) -> None:
    """Refuse an operator on constants whose result would hold for the stand-ins alone.

    Args:
        node: Of an operator that is about to be computed.
        constants: Its inputs' values.

    Raises:
        NotImplementedError: If what it gives depends on the batch size or an open size otherwise
            than by sums and multiples.
    """
    if node.operator not in _COMPARING | _DIVIDING or len(constants) < 2:
        return
    left, *others = (None if c is None else np.asarray(c).astype(np.float64) for c in constants)
    for right in others:
        if left is None or right is None:
            continue
        try:
            a, b = np.broadcast_arrays(left, right)
        except ValueError:  # Who computes it says so.
            return
        for stand_in, what in ((OPEN, "image's size"), (BATCH, "number of images")):
            if _is_frozen(node.operator, a, b, stand_in):
                raise _frozen(what)


def _is_frozen(operator: str, a: np.ndarray, b: np.ndarray, stand_in: int) -> bool:
    of_a, of_b = _is_multiple(a, stand_in), _is_multiple(b, stand_in)
    if operator in _DIVIDING:
        with np.errstate(divide="ignore", invalid="ignore"):
            is_whole = np.mod(a, b) == 0
        return bool(np.any(of_a & ~of_b & ~is_whole) or np.any(of_b & ~of_a & (a != 0)))
    # All sizes lie on the same side of what is endless or not positive; one element is what
    # exporters ask about before they broadcast, and a batch of one is always compared.
    decided_a, decided_b = ((c <= 1) | (c >= _ENDLESS) for c in (a, b))
    return bool(np.any(of_a & ~of_b & ~decided_b) or np.any(of_b & ~of_a & ~decided_a))


def _is_multiple(array: np.ndarray, stand_in: int) -> np.ndarray:
    return (array > 0) & (array < _ENDLESS) & (np.mod(array, stand_in) == 0)


def _frozen(what: str) -> NotImplementedError:
    if what == "image's size":
        return needs_size("it compares or divides the image's size")
    return NotImplementedError(
        "it compares or divides the number of images in a batch, so that one image's answer would "
        "depend on the others. Export the network without that."
    )
