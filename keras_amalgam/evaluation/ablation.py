"""What each term is worth: the accuracy without it against the accuracy with all terms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from keras_amalgam.evaluation.predictions import standard_error

JOINT = "/joint"  # no task can be called so: a name bears no slash

Verdict = Literal["helps", "hurts", "changes nothing", "helps and hurts"]


@dataclass(frozen=True)
class Removal:
    """What happened when one term was removed.

    Attributes:
        removed: Name of the term.
        accuracy: Without the term, `{task or JOINT: fraction or None}`.
        change: Accuracy without the term minus accuracy with all, as fractions.
        gradient_norms: Norms of the removed gradient at the student's tap in the run with all
            terms: of a term `{"": norm}`, of a component `<term>/<component>` one for each
            teacher. Empty if they were not measured.
        verdict: What the term does beyond the noise.
    """

    removed: str
    accuracy: dict[str, float | None]
    change: dict[str, float | None]
    gradient_norms: dict[str, float]
    verdict: Verdict


def noise(report: Mapping[str, Any]) -> dict[str, float]:
    """How large a change must be to count: one binomial standard error of the full run's accuracy.

    This covers the choice of the test images only. Other seeds add noise that one run cannot show.

    Args:
        report: A checked report with its ablation.

    Returns:
        `{task or JOINT: fraction}` for what the run with all terms measured.
    """
    full = _full(report)
    images = {task: entry["num_test_images"] for task, entry in report["tasks"].items()}
    images[JOINT] = sum(images.values())
    accuracies = _accuracies(full)
    return {
        name: standard_error(value, images[name])
        for name, value in accuracies.items()
        if value is not None
    }


def removals(report: Mapping[str, Any]) -> list[Removal]:
    """Judge every removed term by the rule of `noise`.

    A term "changes nothing" if no accuracy moved by more than its standard error when the term was
    removed; it "helps" if some fell beyond it and "hurts" if some rose.

    Args:
        report: A checked report with its ablation.

    Returns:
        One entry for each removed term, in the order of the report.
    """
    full, limits = _full(report), noise(report)
    before = _accuracies(full)
    judged = []
    for entry in report["ablation"]:
        if entry["removed"] is None:
            continue
        after = _accuracies(entry)
        change = {name: _difference(after[name], before[name]) for name in before}
        norms = _norms(full["gradient_norms"], entry["removed"])
        judged.append(Removal(entry["removed"], after, change, norms, _verdict(change, limits)))
    return judged


def _full(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(entry for entry in report["ablation"] if entry["removed"] is None)


def _accuracies(entry: Mapping[str, Any]) -> dict[str, float | None]:
    return {**entry["tasks"], JOINT: entry["joint"]}


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _norms(norms: Mapping[str, float], removed: str) -> dict[str, float]:
    """Norms have keys like the history: `<term>`, and below it `<term>/<teacher>/<component>`."""
    if removed in norms:
        return {"": norms[removed]}
    paths = {tuple(key.split("/")): norm for key, norm in norms.items()}
    term, _, component = removed.partition("/")
    return {
        path[1]: norm
        for path, norm in paths.items()
        if len(path) == 3 and (path[0], path[2]) == (term, component)
    }


def _verdict(change: Mapping[str, float | None], limits: Mapping[str, float]) -> Verdict:
    rounding = 1e-12  # of a difference of two fractions
    moved = {name: value for name, value in change.items() if value is not None}
    fell = any(value < -limits[name] - rounding for name, value in moved.items())
    rose = any(value > limits[name] + rounding for name, value in moved.items())
    if fell and rose:
        return "helps and hurts"
    if not (fell or rose):
        return "changes nothing"
    return "helps" if fell else "hurts"
