"""What each term is worth: the accuracy without it against the accuracy with all terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from keras_amalgam.evaluation.predictions import difference, standard_error
from keras_amalgam.evaluation.quantities import Fraction, NonNegative, Text

JOINT = "/joint"  # no task can be called so: a name bears no slash

Verdict = Literal["helps", "hurts", "changes nothing", "helps and hurts"]


@dataclass(frozen=True, kw_only=True)
class AblationRun:
    """One training of the comparison: with all terms, or with one removed.

    Attributes:
        method: Name of the method that trained this student.
        removed: The term removed, or the `<term>/<component>`; null for the run with all terms.
        task_accuracy: Fraction right on each task's test images, among its own classes.
        joint_accuracy: Fraction right on all test images, over the classes of all tasks.
        gradient_norms: Norm of each weighted loss's gradient at the student's tap, on one training
            batch after the training; keys are `<term>`, `<term>/<teacher>` and
            `<term>/<teacher>/<component>`.
    """

    method: Text
    removed: Text | None
    task_accuracy: dict[str, Fraction | None]
    joint_accuracy: Fraction | None
    gradient_norms: dict[str, NonNegative]

    @property
    def accuracies(self) -> dict[str, float | None]:
        """The accuracies of the tasks, and under `JOINT` that over all of them."""
        return {**self.task_accuracy, JOINT: self.joint_accuracy}


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


def noise(full: AblationRun, num_images: Mapping[str, int]) -> dict[str, float]:
    """How large a change must be to count: one binomial standard error of the full run's accuracy.

    This covers the choice of the test images only. Other seeds add noise that one run cannot show.

    Args:
        full: The run with all terms.
        num_images: Test images by task.

    Returns:
        `{task or JOINT: fraction}` for what the run with all terms measured.
    """
    images = {**num_images, JOINT: sum(num_images.values())}
    return {
        name: standard_error(value, images[name])
        for name, value in full.accuracies.items()
        if value is not None
    }


def full_run(runs: Sequence[AblationRun]) -> AblationRun:
    """The run with all terms.

    Args:
        runs: Runs of which one has all terms.
    """
    return next(run for run in runs if run.removed is None)


def removals(runs: Sequence[AblationRun], num_images: Mapping[str, int]) -> list[Removal]:
    """Judge every removed term by the rule of `noise`.

    A term "changes nothing" if no accuracy moved by more than its standard error when the term was
    removed; it "helps" if some fell beyond it and "hurts" if some rose.

    Args:
        runs: The run with all terms, and one for each removed term.
        num_images: Test images by task.

    Returns:
        One entry for each removed term, in the order of the runs.
    """
    full = full_run(runs)
    limits, before = noise(full, num_images), full.accuracies
    judged = []
    for run in runs:
        if run.removed is None:
            continue
        after = run.accuracies
        change = {name: difference(after[name], before[name]) for name in before}
        norms = _norms(full.gradient_norms, run.removed)
        judged.append(Removal(run.removed, after, change, norms, _verdict(change, limits)))
    return judged


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
