"""Refusing to compute with sizes that are not known, as if they were.

While converting, the batch size and an open height or width are stand-in numbers (see
`passes.folding`), and all open sizes are the same one. So whatever is computed from a size is
computed a few times more, with other numbers: each axis of each tensor then has its own, once
large, once even, once small, and so has the batch. What stays the same is a constant. What does not
must follow one size as a straight line, or it would hold for the stand-in alone.
"""

from collections.abc import Sequence

import numpy as np

from keras_amalgam.teachers.conversion.layout import Rows, Value, needs_size
from keras_amalgam.teachers.conversion.passes.folding import BATCH, OPEN, fold
from keras_amalgam.teachers.onnx_files.graph import Graph, Node

_COMPARING = {"Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
_DIVIDING = {"Div", "Mod"}
# Larger than any batch or image: exporters write such numbers for "to the end".
_ENDLESS = 2**30
# Their result has the sizes of their first input.
_KEEPING_SIZES = {
    "Abs", "BatchNormalization", "Cast", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LeakyRelu", "Neg", "Relu",
    "Sigmoid", "Softmax", "Softplus", "Sqrt", "Tanh",
}  # fmt: skip
# The inputs that may be multiples of a size, or a line of it in Slice, as their functions know it.
_READ_AS_SIZES = {
    "Expand": {1}, "GroupNormalization": {3}, "Reshape": {1}, "Resize": {3}, "Slice": {1, 2},
    "Tile": {1},
}  # fmt: skip
_MOST = 2**12  # Numbers that follow a size, in one constant.


def _primes(below: int) -> np.ndarray:
    is_prime = np.ones(below, bool)
    is_prime[:2] = False
    for number in range(2, int(below**0.5) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = False
    return np.flatnonzero(is_prime)


# Of the n-th open size a row: rising, falling and small, so that neither a comparison of two sizes
# nor a remainder comes out the same in all of them.
_PRIMES = _primes(2**15)
_LARGE, _SMALL = _PRIMES[_PRIMES > OPEN], _PRIMES[_PRIMES > 2]
_EVEN = 2 * _PRIMES[_PRIMES < 2**14][::-1]
_COUNT = min(map(len, (_LARGE, _EVEN, _SMALL)))
_SIZES = np.stack([_LARGE[:_COUNT], _EVEN[:_COUNT], _SMALL[:_COUNT]], 1).astype(np.float64)
_BATCHES = np.array([2 * 4_999, 3], np.float64)
_READINGS = 5  # First those with other sizes, then those with another batch.


class FollowedSizes:
    """What has been computed from sizes while one graph is converted, under other sizes too."""

    def __init__(self, graph: Graph) -> None:
        """Start with nothing.

        Args:
            graph: That is converted.
        """
        self._graph = graph
        self._others: dict[str, tuple[np.ndarray, ...]] = {}
        self._places: dict[tuple[str, int], int] = {}

    def readings(self, name: str, base: np.ndarray) -> list[np.ndarray]:
        """A constant with the stand-ins, and with every other choice of sizes.

        Args:
            name: The tensor.
            base: Its value with the stand-ins.
        """
        return [base, *self._others.get(name, (base,) * _READINGS)]

    def sizes(self, name: str, value: Value | Rows) -> list[tuple[int, ...]]:
        """The source's sizes of a tensor that depends on the image, as in `readings`.

        Args:
            name: The tensor.
            value: Where it is in the model.
        """
        inner = value.value if isinstance(value, Rows) else value
        by_axis = [self._own(name, inner, held) for held in range(inner.rank)]
        found = [tuple(sizes) for sizes in zip(*by_axis, strict=True)]
        return [(s[0] * s[1], *s[2:]) if isinstance(value, Rows) else s for s in found]

    def depend(self, names: Sequence[str]) -> bool:
        """Whether any of some constants is computed from sizes."""
        return any(name in self._others for name in names)

    def record_shape(self, node: Node, value: Value | Rows, base: np.ndarray) -> None:
        """Follow the sizes that a Shape gives.

        Args:
            node: The Shape.
            value: Its input.
            base: What it gives with the stand-ins.
        """
        sizes = self.sizes(node.inputs[0], value)[1:]
        start, end = node.attributes.get("start", 0), node.attributes.get("end", value.rank)
        self._record(node.outputs[0], base, [np.array(s[start:end], np.int64) for s in sizes])

    def record(
        self,
        node: Node,
        constants: Sequence[np.ndarray | None],
        results: Sequence[np.ndarray],
    ) -> None:
        """Follow what is computed from sizes.

        Args:
            node: Of a foldable operator; its inputs `depend` on sizes.
            constants: Its inputs with the stand-ins.
            results: What it gives with them.

        Raises:
            NotImplementedError: If that holds for the stand-ins alone.
        """
        others = []
        for reading in range(_READINGS):
            inputs = [
                self._others[name][reading] if name in self._others else constant
                for name, constant in zip(node.inputs, constants, strict=True)
            ]
            if all(a is b for a, b in zip(inputs, constants, strict=True)):
                others.append(results)
                continue
            try:
                others.append(fold(node, inputs))
            except ValueError as error:
                raise _frozen(reading >= _SIZES.shape[1]) from error
        for name, base, *rest in zip(filter(None, node.outputs), results, *others, strict=True):
            self._record(name, base, rest)

    def refuse_in(self, node: Node, constants: Sequence[np.ndarray | None]) -> None:
        """Refuse an operator on the image whose constants are computed from sizes.

        Args:
            node: The node.
            constants: Its inputs, `None` for those that depend on the image.

        Raises:
            NotImplementedError: If it does not know what a size is, or one is no multiple.
        """
        known = _READ_AS_SIZES.get(node.operator, set()) if not node.domain else set()
        for index, (name, constant) in enumerate(zip(node.inputs, constants, strict=True)):
            if constant is None or name not in self._others:
                continue
            others = self._others[name]
            if _grow_with_batch(constant, others):
                if (node.operator, index) != ("Gather", 1):  # Which looks at all of them.
                    raise _frozen(True)
            elif index not in known or (
                node.operator != "Slice" and not self._are_multiples(constant, others)
            ):
                raise _frozen(others[0] is constant)

    def _own(self, name: str, value: Value, source_axis: int) -> list[int]:
        """The readings of one size."""
        held = value.axis(source_axis)
        if held == 0:
            times = value.batch // BATCH
            return [value.batch] * 4 + [times * int(batch) for batch in _BATCHES]
        size = value.tensor.shape[held]
        if size is not None:
            return [size] * (1 + _READINGS)
        while (node := self._graph.producers.get(name)) and node.operator in _KEEPING_SIZES:
            name = node.inputs[0]
        place = self._places.setdefault((name, source_axis), len(self._places))
        if place >= _COUNT:
            raise needs_size(f"it computes with the last of more than {_COUNT:,} sizes of tensors")
        return [OPEN, *(int(size) for size in _SIZES[place]), OPEN, OPEN]

    def _record(self, name: str, base: np.ndarray, others: Sequence[np.ndarray]) -> None:
        others = tuple(base if _is_same(base, other) else other for other in others)
        if all(other is base for other in others):
            return
        if not _grow_with_batch(base, others):
            self._require_lines(base, others)
        self._others[name] = others

    def _require_lines(self, base: np.ndarray, others: Sequence[np.ndarray]) -> None:
        """Refuse numbers that do not follow one size, or the batch, as a straight line."""
        if any(o.shape != base.shape or o.dtype == np.bool_ for o in others if o is not base):
            first = next(i for i, o in enumerate(others) if o is not base)
            raise _frozen(first >= _SIZES.shape[1])
        start, *moved = (np.asarray(a, np.float64).reshape(-1) for a in (base, *others))
        tolerance = _tolerance(base) * np.max(np.abs([start, *moved]), axis=0)
        *of_image, one, other = (array - start for array in moved)
        if np.any(np.abs(one * _slopes(BATCH)[1] - other) > tolerance):
            raise _frozen(True)
        self._require_one_size(np.stack(of_image), tolerance)

    def _require_one_size(self, moved: np.ndarray, tolerance: np.ndarray) -> None:
        where = np.flatnonzero(np.any(np.abs(moved) > tolerance, axis=0))
        if where.size > _MOST:
            raise _frozen(False)
        runs = _SIZES[: len(self._places)] - OPEN  # How far each size moves.
        for place in where:
            expected = moved[2, place] / runs[:, 2:] * runs
            if not np.any(np.all(np.abs(expected - moved[:, place]) <= tolerance[place], axis=1)):
                raise _frozen(False)

    def _are_multiples(self, base: np.ndarray, others: Sequence[np.ndarray]) -> bool:
        start, *moved = (np.asarray(a, np.float64).reshape(-1) for a in (base, *others))
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.array([array / start for array in moved])
        sizes = _SIZES[: len(self._places)] / OPEN
        for rate in rates.T:
            follows = np.any(np.all(np.isclose(sizes, rate[:3], rtol=1e-9), axis=1))
            is_batch = np.allclose(rate[3:], _BATCHES / BATCH, rtol=1e-9)
            if not (follows or np.array_equal(rate[:3], np.ones(3)) or np.isnan(rate[:3]).all()):
                return False
            if not (is_batch or np.array_equal(rate[3:], np.ones(2)) or np.isnan(rate[3:]).all()):
                return False
        return True


def refuse_frozen_sizes(node: Node, constants: Sequence[np.ndarray | None]) -> None:
    """Refuse an operator on constants whose result would hold for the stand-ins alone.

    Args:
        node: Of an operator that is about to be computed from sizes.
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
        for stand_in in (OPEN, BATCH):
            if _is_frozen(node.operator, a, b, stand_in):
                raise _frozen(stand_in == BATCH)


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
    sizes = np.abs(array)
    return (sizes > 0) & (sizes < _ENDLESS) & (np.mod(sizes, stand_in) == 0)


def _grow_with_batch(base: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether there are as many numbers as images: indices of all that a batch holds."""
    of_image, of_batch = others[: _SIZES.shape[1]], others[_SIZES.shape[1] :]
    is_index = base.dtype.kind in "iu" and all(other is base for other in of_image)
    return is_index and all(other.shape != base.shape for other in of_batch)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    return np.allclose(one, other, rtol=_tolerance(one), atol=0, equal_nan=True)


def _tolerance(array: np.ndarray) -> float:
    """What rounding leaves of numbers of a type, relative to them."""
    return 1e-9 if array.dtype.kind in "iu" else 2e-6


def _slopes(stand_in: int) -> np.ndarray:
    """How far each batch moves, as a multiple of how far the first does."""
    return (_BATCHES - stand_in) / (_BATCHES[0] - stand_in)


def _frozen(of_batch: bool) -> NotImplementedError:
    if not of_batch:
        return needs_size("it computes with the image's size")
    return NotImplementedError(
        "it computes with the number of images in a batch, so that one image's answer would depend "
        "on the others. Export the network without that."
    )
