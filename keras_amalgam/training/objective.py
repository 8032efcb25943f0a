"""What an amalgamation minimises: its terms' losses, weighted, named and added up."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from keras import ops

from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms import AmalgamationTerm


def check_terms(terms: Sequence[AmalgamationTerm]) -> None:
    """Raise a `ValueError` unless there is a term, and each has a name of its own."""
    names = [term.name for term in terms]
    if not names or len(set(names)) != len(names):
        raise ValueError(
            "`terms` must be at least one term, each with a name of its own. "
            f"Received: {names}. Name them: SoftTargets(…, name=…)."
        )


def history_keys(terms: Iterable[AmalgamationTerm], teachers: Iterable[str]) -> Iterator[str]:
    """The keys of `weighted_losses`, term by term.

    Args:
        terms: Of the training.
        teachers: Their names.
    """
    names = list(teachers)
    for term in terms:
        yield term.name
        for teacher in names:
            yield f"{term.name}/{teacher}"
            if len(term.components) > 1:
                yield from (f"{term.name}/{teacher}/{part}" for part in term.components)


def weighted_losses(
    terms: Iterable[AmalgamationTerm],
    student: Signals,
    teachers: Mapping[str, Signals],
    batch: Batch,
    training: bool = False,
) -> dict[str, Any]:
    """See `Amalgamator.term_losses`."""
    losses: dict[str, Any] = {}
    for term in terms:
        by_teacher: dict[str, Any] = {}
        found = term(student, teachers, batch, training=training)
        _check_losses(term, teachers, found)
        for teacher, components in found.items():
            key = f"{term.name}/{teacher}"
            parts = {name: term.weight * ops.mean(v) for name, v in components.items()}
            by_teacher[key] = sum(parts.values())
            if len(parts) > 1:
                by_teacher |= {f"{key}/{name}": part for name, part in parts.items()}
        top = [value for key, value in by_teacher.items() if key.count("/") == 1]
        losses |= {term.name: sum(top), **by_teacher}
    return losses


def _check_losses(term: AmalgamationTerm, teachers: Mapping[str, Signals], found: Any) -> None:
    """Refuse what is not one loss for every teacher and component: it would count for nothing."""
    expected = {teacher: sorted(term.components) for teacher in teachers}
    whole = isinstance(found, Mapping) and all(isinstance(v, Mapping) for v in found.values())
    keys = {teacher: sorted(parts) for teacher, parts in found.items()} if whole else repr(found)
    if keys != expected:
        raise ValueError(
            f"`{type(term).__name__}.call` must return a loss for every teacher and each of its "
            f"`components`. Received: {keys}. Expected the keys: {expected}; a teacher that does "
            "not count has losses of zero."
        )
