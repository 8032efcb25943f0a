"""The table of `benchmarks.normalization`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from keras_amalgam import text

if TYPE_CHECKING:
    from benchmarks.normalization import Row

# The thresholds of the check were chosen on these; the others confirm them.
CHOSEN_ON = ("mobilenet_v2_trained", "efficientnet_lite0_trained", "small 0..255 rgb",
             "small 0..1 rgb", "small -1..1 rgb", "small ImageNet rgb")  # fmt: skip
USUAL = ("0..255", "0..1", "-1..1", "ImageNet", "Caffe")
MARK = "benchmarks/normalization.py"


def markdown(rows: Sequence["Row"]) -> str:
    """Confusion on own and on foreign images, counts, and the order of colours."""
    own = [row for row in rows if row.is_own]
    foreign = [row for row in rows if not row.is_own]
    return "\n\n".join(
        [
            "On images of the network's own kind:",
            confusion(own),
            "On images of another kind:",
            confusion(foreign),
            _counts(rows, own, foreign),
            divergences(rows),
            _orders(rows),
        ]
    )


def confusion(rows: Sequence["Row"]) -> str:
    """What the check says, of every declared and true normalisation."""
    headers = ["trained under", *(f"declared {name}" for name in USUAL)]
    cells = []
    for truth in USUAL:
        of_truth = [row for row in rows if row.truth == truth]
        networks = len({row.network for row in of_truth})
        said = (_said(of_truth, declared) for declared in USUAL)
        cells.append([f"{truth} ({networks})", *said])
    return text.markdown(headers, cells)


def _said(rows: Iterable["Row"], declared: str) -> str:
    """Counts of what is said, such as `silent 4` or `right 10, silent 2`."""
    said = Counter(_answer(row, declared) for row in rows)
    return ", ".join(f"{answer} {count}" for answer, count in said.most_common())


def _answer(row: "Row", declared: str) -> str:
    named = row.named(declared)
    if named is None:
        return "silent"
    return "right" if named == row.truth else "WRONG"


def _counts(rows: Sequence["Row"], own: Sequence["Row"], foreign: Sequence["Row"]) -> str:
    chosen = [row for row in rows if row.network in CHOSEN_ON]
    others = [row for row in rows if row.network not in CHOSEN_ON]
    false = " and ".join(
        f"{sum(row.named(row.truth) is not None for row in part)} of {len(part)} {what}"
        for part, what in (
            (chosen, "on the networks that the thresholds were chosen on"),
            (others, "on the others"),
        )
    )
    missed = " and ".join(
        f"{sum(_answer(row, wrong) == 'silent' for row, wrong in _wrong(part))} of "
        f"{len(_wrong(part))} {what}"
        for part, what in ((own, "on own images"), (foreign, "on foreign ones"))
    )
    misnamed = sum(_answer(row, wrong) == "WRONG" for row, wrong in _wrong(rows))
    return (
        f"Warnings although the right one was declared: {false}. A wrong one declared and nothing "
        f"said: {missed}. A wrong one declared and another wrong one named: {misnamed} of "
        f"{len(_wrong(rows))}."
    )


def _wrong(rows: Iterable["Row"]) -> list[tuple["Row", str]]:
    return [(row, name) for row in rows for name in USUAL if name != row.truth]


def divergences(rows: Sequence["Row"]) -> str:
    """How far apart right and wrong are, by network."""
    headers = ["network", "trained under", "own images, right", "own, nearest wrong"]
    cells = []
    for network in dict.fromkeys(row.network for row in rows):
        of_it = [row for row in rows if row.network == network]
        right = [row.declared for row in of_it if row.is_own]
        wrong = [value for row in of_it if row.is_own for value in _others(row)]
        foreign = [row.declared for row in of_it if not row.is_own]
        mark = "" if network in CHOSEN_ON else " *"
        cells.append(
            [
                f"{network}{mark}",
                of_it[0].truth,
                f"{min(right):.3f} to {max(right):.3f}",
                f"{min(wrong):.2f}",
                f"{min(foreign):.3f} to {max(foreign):.2f}",
            ]
        )
    return text.markdown([*headers, "foreign, right"], cells, right=(2, 3, 4))


def _others(row: "Row") -> list[float]:
    from benchmarks.normalization import NAMES

    return [row.usual[said] for name, said in NAMES.items() if name != row.truth]


def _orders(rows: Sequence["Row"]) -> str:
    """Whether the statistics know the order of the colours."""
    colour = [row for row in rows if row.orders and row.pool not in ("digits", "fashion")]
    parts = []
    for first, where in ((0, "the first three normalizations"), (2, "some throughout the network")):
        pairs = [(row.orders[first], row.orders[first + 1]) for row in colour]
        swapped = sum(other < right for right, other in pairs)
        ratios = sorted(other / right for right, other in pairs)
        parts.append(
            f"at {where} the other order fits better in {swapped} of {len(pairs)} cases, with "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f} times the divergence of the right one"
        )
    return f"The order of colours: {'; '.join(parts)}."
