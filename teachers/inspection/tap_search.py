"""Where a network's features are best read: found in its graph, whatever its format.

A network is given as steps, one for each operation that depends on the image, in an order in which
every input is there before it is read. The features worth imitating are the last map or tokens
before the head: before the place where the image's extent is given up, by pooling, flattening or
reading one token, and before the last layer with weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Sizes = tuple[int | None, ...]

# Operators that show the same numbers in another form or frame: ONNX, Keras and TFLite names.
_VIEWS = {
    *("cast", "dropout", "expanddims", "flatten", "identity", "permute", "reshape", "squeeze"),
    *("pad", "padv2", "mirrorpad", "spatialdropout2d", "transpose", "unsqueeze", "zeropadding2d"),
}


@dataclass(frozen=True)
class Step:
    """One operation on the way from the image to the output.

    Args:
        name: Of the operation, as a tap may be called.
        operator: Its type, as `"Conv"`.
        inputs: Tensors that it reads and that depend on the image.
        output: The tensor that it makes.
        sizes: The output's sizes, batch first and the channels of maps last; `None` where open,
            empty if not known at all.
        weighted: Whether it multiplies with weights.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    output: str
    sizes: Sizes
    weighted: bool = False

    @property
    def is_view(self) -> bool:
        """Whether it only shows its input in another form."""
        return self.operator.lower().replace("_", "") in _VIEWS

    @property
    def has_extent(self) -> bool:
        """Whether its output is a map or tokens, rather than a vector: it has two real axes.

        Not if another axis than the batch stands first, as in a recurrent layer's sequence.
        """
        is_per_image = self.sizes[:1] in ((None,), (1,))
        return is_per_image and len(self.sizes) > 2 and sum(n != 1 for n in self.sizes[1:]) >= 2


class Taps(NamedTuple):
    """The steps worth tapping, in the order of the graph, and the one that is taken by default."""

    candidates: tuple[Step, ...]
    default: Step | None


def is_read_on(steps: Sequence[Step], output: str) -> bool:
    """Whether a step with weights reads a tensor, itself or through others: it is no last answer.

    Args:
        steps: In topological order.
        output: The tensor; if it only shows another in another form, that one counts.
    """
    makers = {step.output: step for step in steps}
    while (maker := makers.get(output)) is not None and maker.is_view and maker.inputs:
        output = maker.inputs[0]
    reached = {output}
    for step in steps:
        if reached.intersection(step.inputs):
            if step.weighted:
                return True
            reached.add(step.output)
    return False


def find_taps(steps: Sequence[Step], output: str) -> Taps:
    """The steps worth tapping.

    Args:
        steps: In topological order.
        output: The tensor that holds the logits.

    Returns:
        For every extent the last step through which all of the image's information goes, then the
        last map or tokens before the head, and the last vector before the last layer with weights.
        The default is the last map or tokens; without any, the vector. There is none if nothing
        stands before that layer.
    """
    steps = _towards(steps, output)
    makers = {step.output: step for step in steps}
    head = next((step for step in reversed(steps) if step.weighted), None)
    if head is None:
        return Taps((), None)
    features = _features_before(steps, makers, head)
    vector = next((s for s in _sources(head, makers) if s.sizes and not s.has_extent), None)
    default = features or vector
    if default is None:
        return Taps((), None)
    found: dict[object, Step] = {}
    first = next(index for index, step in enumerate(steps) if step.weighted)
    for step in _bottlenecks(steps[: steps.index(default)]):
        if step.has_extent and not step.is_view and steps.index(step) >= first:
            found.pop(_extent(step), None)
            found[_extent(step)] = step
    if default.has_extent:
        found.pop(_extent(default), None)
    behind = [step for step in (default, vector) if step is not None]
    return Taps((*found.values(), *dict.fromkeys(behind)), default)


def _towards(steps: Sequence[Step], output: str) -> list[Step]:
    """The steps that the output depends on."""
    needed, kept = {output}, []
    for step in reversed(steps):
        if step.output in needed:
            needed.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def _features_before(steps: Sequence[Step], makers: dict[str, Step], head: Step) -> Step | None:
    """The last map or tokens that enter the head, or `None` in a network of vectors."""
    for step in reversed(steps[: steps.index(head) + 1]):
        if step is not head and step.has_extent:
            continue
        with_extent = [source for source in _sources(step, makers) if source.has_extent]
        if with_extent:
            return _without_views(with_extent[0], makers)
    return None


def _without_views(step: Step, makers: dict[str, Step]) -> Step:
    while step.is_view:
        before = next((source for source in _sources(step, makers) if source.has_extent), None)
        if before is None:
            break
        step = before
    return step


def _sources(step: Step, makers: dict[str, Step]) -> list[Step]:
    return [makers[name] for name in step.inputs if name in makers]


def _bottlenecks(steps: Sequence[Step]) -> Iterable[Step]:
    """Steps after which nothing but their own output is still to be read."""
    last_read = {name: index for index, step in enumerate(steps) for name in step.inputs}
    alive: set[str] = set()
    for index, step in enumerate(steps):
        alive = {name for name in alive if last_read[name] > index}
        others = {name for name in step.inputs if last_read[name] > index}
        alive |= others
        if not alive:
            yield step
        if last_read.get(step.output, -1) > index:
            alive.add(step.output)


def _extent(step: Step) -> Sizes:
    """Height and width or the number of tokens; with the channels too where these are open."""
    return step.sizes[1:] if None in step.sizes[1:-1] else step.sizes[1:-1]
