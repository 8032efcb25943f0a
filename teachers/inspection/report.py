"""What is in a network's file, before anything is made of it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.teachers.inspection.tap_search import Sizes, Step, Taps


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Args:
        name: Its name.
        shape: Its sizes as in the file, `None` where open.
        dtype: Its element type.
        note: An image's layout, `"channels first"` or `"channels last"`, or what an output seems to
            be, in the words of `models.heads.seems_to_be`; empty if neither is known, or the
            network itself reads on from the output.
    """

    name: str
    shape: Sizes
    dtype: str
    note: str = ""


@dataclass(frozen=True)
class Operator:
    """All uses of one operator, or of one class of layers.

    Args:
        name: Its type, with the domain where it is not the standard's.
        count: How often it is used.
        first_node: Where first.
        converts: Whether it is known here.
    """

    name: str
    count: int
    first_node: str
    converts: bool = True


@dataclass(frozen=True)
class TapCandidate:
    """A place where features can be read.

    Args:
        name: What `tap=` takes.
        module: The outermost module that ends there, which `tap=` takes as well; may be empty.
        operator: What makes the features.
        shape: Theirs, `None` where open; channels last if the file can be converted.
        kind: What they are.
        is_default: Whether they are read if nothing is said.
    """

    name: str
    module: str
    operator: str
    shape: Sizes
    kind: Literal["map", "tokens", "vector"]
    is_default: bool = False


@dataclass(frozen=True)
class Inspection:
    """What is in a network's file.

    Args:
        file: Its name.
        format: `"ONNX"`, `"Keras"`, `"SavedModel"` or `"TFLite"`.
        producer: What wrote it, as far as it says.
        opsets: Versions of the operators' domains, for ONNX.
        bytes: Its size, weights beside it included.
        sha256: Its hash, as a card gives it.
        inputs: What it takes.
        outputs: What it returns.
        parameters: Number of weights.
        operators: What it consists of, most used first.
        built_in: The normalisation inside, as measured: what it does must not be done again. `None`
            if there is none, or if it is not known.
        taps: Where features can be read, in the order of the network.
        obstacle: Why it cannot be converted; empty if it can.
        runtime: What runs it where it cannot be converted; empty if nothing.
        output: Which of several outputs the taps and the obstacle are told of; `None` if none was
            chosen, and then no taps are.
        shows_built_in: Whether that could be measured.
        may_hide_built_in: Whether a converter may have multiplied a normalisation into the first
            weights, where it cannot be measured.
        covers: The lowest and the highest number that a quantized input holds.
    """

    file: str
    format: Literal["ONNX", "Keras", "SavedModel", "TFLite"]
    producer: str
    opsets: Mapping[str, int]
    bytes: int
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parameters: int
    operators: tuple[Operator, ...]
    built_in: BuiltIn | SeveralWays | None
    taps: tuple[TapCandidate, ...]
    obstacle: str = ""
    runtime: str = ""
    output: str | None = None
    shows_built_in: bool = True
    may_hide_built_in: bool = False
    covers: tuple[float, float] | None = None

    @property
    def must_choose(self) -> bool:
        """Whether one of several outputs must be chosen before a teacher can be made of it."""
        return len(self.outputs) > 1 and self.output is None

    @property
    def nodes(self) -> int:
        """Number of operations or layers."""
        return sum(operator.count for operator in self.operators)

    @property
    def default_tap(self) -> TapCandidate | None:
        """The tap that is taken if nothing is said; `None` if there is none worth it.

        Of a network with several outputs it is known once one is chosen.
        """
        return next((tap for tap in self.taps if tap.is_default), None)

    def to_config(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        built_in = self.built_in and self.built_in.to_config()
        return asdict(self) | {"nodes": self.nodes, "built_in": built_in}


def operators_of(
    rows: Iterable[tuple[str, str, bool]],
) -> tuple[Operator, ...]:
    """The table of operators from `(type, node, converts)` of every node, most used first."""
    found: dict[str, Operator] = {}
    for name, node, converts in rows:
        known = found.get(name, Operator(name, 0, node))
        # A type may be known in one form and not in another: then the other is the one to see.
        first = node if known.converts and not converts else known.first_node
        found[name] = Operator(name, known.count + 1, first, known.converts and converts)
    return tuple(sorted(found.values(), key=lambda o: (o.converts, -o.count, o.name)))


def as_candidates(taps: Taps, modules: Mapping[str, str]) -> tuple[TapCandidate, ...]:
    """The steps to tap as a user names them.

    Args:
        taps: Found in the graph.
        modules: Step names to the outermost module that ends there.
    """
    return tuple(
        TapCandidate(
            name=step.name,
            module=modules.get(step.name, ""),
            operator=step.operator,
            shape=step.sizes,
            kind=_kind(step),
            is_default=step is taps.default,
        )
        for step in taps.candidates
    )


def _kind(step: Step) -> Literal["map", "tokens", "vector"]:
    if not step.has_extent:
        return "vector"
    return "map" if len(step.sizes) == 4 else "tokens"
