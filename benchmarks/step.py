"""A training step beside its parts, and beside the same mathematics in plain PyTorch.

    python -m benchmarks.step [--cases demo cifar] [--terms default] [--repeats 15]

For each case and each choice of terms one process holds the step in Keras and its parts, another
one the step in PyTorch, with the same networks, weights and images; that the first losses agree is
checked before anything is timed. Then all are asked in turn in every repeat, so that what else the
machine does meets all of them. A row goes to `docs/speed.json` as soon as it is known, and is not
measured again unless it is asked for by name. `python -m benchmarks.speed.page` writes the page.
Needs `keras-amalgam[torch]`. Compare no figures of different machines.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.rows import add, has
from benchmarks.speed import rows, serving
from benchmarks.speed.cases import CASES, TERMS

# Adam divides by gradients' sizes, so that what is rounded otherwise grows from step to step.
TOLERANCE = 1e-3


def measure(case: str, terms: str, repeats: int) -> rows.Row:
    """A row: milliseconds of every kind of step in every repeat.

    Args:
        case: One of `CASES`.
        terms: One of `TERMS`.
        repeats: How often each is asked.

    Raises:
        SystemExit: If the losses of the two sides differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = [case, terms, folder]
        workers = []
        try:
            for side in ("keras", "torch"):  # PyTorch begins with the weights that Keras leaves.
                log = Path(folder) / f"{side}.log"
                workers.append(serving.Worker(f"benchmarks.speed.{side}_step", arguments, log))
            difference = _difference(*(worker.losses for worker in workers))
            if difference > TOLERANCE:
                raise SystemExit(
                    f"{case}, {terms}: the losses differ by {difference:.1e} of their size. "
                    f"Keras: {workers[0].losses}. PyTorch: {workers[1].losses}."
                )
            asked = [(worker, name) for worker in workers for name in worker.names]
            rounds = [
                {name: worker.milliseconds(name) for worker, name in asked} for _ in range(repeats)
            ]
        finally:
            for worker in workers:
                worker.close()
    return {
        "case": case,
        "terms": terms,
        "difference": difference,
        "kinds": {kind: round(one, 2) for kind, one in workers[0].kinds.items()},
        "milliseconds": {name: [round(one[name], 2) for one in rounds] for name in rounds[0]},
    }


def _difference(ours: list[float], theirs: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    """Measure what has no row yet, or what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE")
    parser.add_argument("--terms", nargs="+", choices=TERMS, metavar="TERMS")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--results", type=Path, default=rows.PATH)
    arguments = parser.parse_args()
    again = bool(arguments.cases or arguments.terms)
    for case in arguments.cases or CASES:
        for terms in arguments.terms or TERMS:
            known = {"case": case, "terms": terms}
            if not again and has(arguments.results, known, rows.KEYS):
                continue
            row = measure(case, terms, arguments.repeats)
            add(arguments.results, row, rows.KEYS)
            print(rows.said(row), flush=True)


if __name__ == "__main__":
    main()
