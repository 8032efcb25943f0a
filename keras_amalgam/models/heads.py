"""What the outputs of heads look like, in words, and which of them can teach."""

from collections.abc import Sequence
from typing import Literal

Kind = Literal["logits", "probabilities", "sigmoid"]

# What answers in 0..1 that do not sum to one are taken for, unless the user says which they are.
UNCLEAR = "either sigmoids or small logits"
# Quantized probabilities are rounded each by itself; many small ones vanish.
ROUGH = "roughly probabilities, or sigmoids or small logits"
# What a linear head returns, which may as well be a regression's.
CANNOT_TELL = "logits or numbers, cannot tell"
EMBEDDING = "vectors of length one"
WHOLE_NUMBERS = "whole numbers, such as class ids"
_WHOLE_TYPES = ("int32", "int64")
SHARES = "numbers that always sum to the same, such as percentages"
_BOUNDED = "numbers in -1..1"
# By the names of activations, of operators and of layers, in small letters without underscores.
_ACTIVATIONS = {
    "softmax": "probabilities",
    "sigmoid": "sigmoid",
    "logistic": "sigmoid",
    "hardsigmoid": "hard sigmoids",
    "logsigmoid": "logarithms of sigmoids",
    "tanh": _BOUNDED,
    "hardtanh": _BOUNDED,
    "softsign": _BOUNDED,
    "unitnormalization": EMBEDDING,
}
# What may be said of outputs that look like something, and then holds.
_MAY_BE: dict[str, tuple[Kind, ...]] = {
    "logits": ("logits",),
    "probabilities": ("probabilities",),
    "sigmoid": ("sigmoid",),
    "hard sigmoids": ("sigmoid",),
    "logarithms of sigmoids": ("logits",),
    _BOUNDED: ("logits",),
    EMBEDDING: ("logits",),
    # The others where a network is so sure of itself that nothing is left between 0 and 1.
    WHOLE_NUMBERS: ("logits", "probabilities", "sigmoid"),
    SHARES: ("logits",),
    UNCLEAR: ("sigmoid", "logits"),
    ROUGH: ("probabilities", "sigmoid", "logits"),
}
_LABELS = "a multi-label head, several labels can hold at once"
_SEEM_TO_BE = {
    "sigmoid": f"{{number}} independent sigmoids: {_LABELS}",
    "hard sigmoids": f"{{number}} independent hard sigmoids: {_LABELS}",
    "logarithms of sigmoids": f"the logarithms of {{number}} independent sigmoids: {_LABELS}",
    _BOUNDED: "{number} numbers in -1..1, and no logits",
    EMBEDDING: "an embedding, as they are vectors of length one, and no logits",
    WHOLE_NUMBERS: "{number} whole numbers, such as the ids of the likeliest classes, and no "
    "logits",
    SHARES: "{number} numbers that always sum to the same, such as percentages, and no logits",
    UNCLEAR: f"{{number}} independent sigmoids ({_LABELS}), or small logits: they are in 0..1 and "
    "do not sum to one",
    ROUGH: f"quantized probabilities, {{number}} independent sigmoids ({_LABELS}), or small "
    "logits: they are in 0..1 and sum to about one",
}
_IF: dict[Kind, str] = {
    "sigmoid": "exactly one class holds on every image",
    "logits": "their softmax is the classes' probabilities",
    "probabilities": "they are quantized",
}
_OTHER_SHAPES = {
    1: ("numbers on a single axis", "such as one class id per image"),
    3: ("rows of numbers", "such as boxes, landmarks, tokens or a mask"),
    4: ("a map", "such as a mask, a heat map or features"),
}


def named_by(operator: str) -> str | None:
    """What an operator makes of logits, if it leaves none: `"probabilities"`, `"sigmoid"`, ….

    Args:
        operator: The ONNX name of the last operator, such as `"Softmax"`; see `seems_to_be`.
    """
    return _ACTIVATIONS.get(operator.lower().replace("_", ""))


def may_be(looks_like: str) -> tuple[Kind, ...]:
    """What outputs that look like something may be said to be."""
    return _MAY_BE[looks_like]


def num_logits(shape: Sequence[int | None]) -> int | None:
    """How many logits an answer has: `(batch, classes)`, or a map of 1×1 wherever its channels are.

    Args:
        shape: Shape of the answer, the batch first.

    Returns:
        The number, `None` where it is open or the shape is no answer's.
    """
    sizes = [size for size in shape[1:] if size != 1] or [1]
    return sizes[0] if len(shape) in (2, 4) and len(sizes) == 1 else None


def makes_ids(operator: str, place: int) -> bool:
    """Whether an output of an operator is ids of its input's entries, whatever type they get.

    Args:
        operator: Its name in ONNX, Keras or TFLite, such as `"TopK"` or `"TOPK_V2"`.
        place: Which of its outputs.
    """
    name = operator.lower().replace("_", "")
    return name in ("argmax", "argmin") or (name in ("topk", "topkv2") and place == 1)


def seems_to_be(operator: str, shape: Sequence[int | None], dtype: str, place: int = 0) -> str:
    """What an output is by its last operator and its shape, in words for people.

    Args:
        operator: An activation, an operator or a layer: `"Softmax"`, `"LOGISTIC"`, `"log_softmax"`.
        shape: Shape of the output, the batch first.
        dtype: Its element type; those of 8 bits are quantized numbers.
        place: Which of the operator's outputs it is.

    Returns:
        A description such as `"probabilities"`, `"4 independent sigmoids"` or `"a map, not
        logits"`; `CANNOT_TELL` for a linear head, which may return logits or numbers; empty if the
        shape is not known.
    """
    if not shape:
        return ""
    if other := other_than_vector(shape):
        return f"{other[0]}, not logits"
    if dtype in _WHOLE_TYPES or makes_ids(operator, place):
        return WHOLE_NUMBERS
    number = num_logits(shape)
    if operator.lower().replace("_", "") == "logsoftmax":
        return "logits"
    found = named_by(operator) or CANNOT_TELL
    if found == "sigmoid" and number != 1:
        return f"{number or 'several'} independent sigmoids"
    return found


def is_over_classes(axis: int, made: Sequence[int | None], shown: Sequence[int | None]) -> bool:
    """Whether a softmax inside a network is one over the classes of an output that shows it.

    Args:
        axis: Along which it goes.
        made: Shape of what it returns, empty if not known.
        shown: Shape of the output, which may be laid out otherwise.
    """
    if not made:
        return True
    number, axis = num_logits(made), axis % len(made)
    return number == num_logits(shown) is not None and axis > 0 and made[axis] == number


def advice_on(words: str) -> tuple[str, Kind | None]:
    """Under which condition outputs can teach, and what must be said then.

    Args:
        words: From `seems_to_be`.

    Returns:
        A sentence and what `outputs` must be; an empty one and `None` where nothing is in doubt.
    """
    if words == CANNOT_TELL:
        return (
            "The output may be logits or numbers, as of a regression: only logits can teach.",
            None,
        )
    many_sigmoids = words.endswith(" independent sigmoids")
    if words in _IF or not (many_sigmoids or words in _MAY_BE):
        return "", None
    kind = "sigmoid" if many_sigmoids else _MAY_BE[words][0]
    return f"The output seems to be {words}: it can teach only if {_IF[kind]}.", kind


def other_than_vector(shape: Sequence[int | None]) -> tuple[str, str] | None:
    """Name and possible kinds of an output that is not a vector; `None` for a vector."""
    if len(shape) == 2 or num_logits(shape) is not None:
        return None
    return _OTHER_SHAPES.get(len(shape), (f"a tensor of {len(shape)} axes", "no classifier's"))


def recognised(looks_like: str, number: int | None, owner: str) -> Kind:
    """What `outputs="auto"` takes outputs for.

    Args:
        looks_like: What the output looks like, in the words of `named_by` or of a probe.
        number: How many they are, `None` where that is open.
        owner: Whom to name in errors.

    Raises:
        ValueError: Saying what they seem to be, where that is not for us to decide.
    """
    possible = may_be(looks_like)
    # What to do about a single number, the task says: it knows how many classes there are.
    if looks_like not in _SEEM_TO_BE or number == 1:
        return possible[0]
    raise ValueError(
        f"{owner} has outputs that seem to be "
        f"{_SEEM_TO_BE[looks_like].format(number=number or 'several')}. Received: outputs='auto'. "
        "Expected: a head of which exactly one class holds, as no other can teach. Say "
        f"{', or '.join(f'outputs={kind!r} if {_IF[kind]}' for kind in possible)}."
    )
