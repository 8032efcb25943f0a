"""Mutates ONNX files and looks at what `from_onnx` makes of them.

    python scripts/fuzz/run.py [--seconds 600] [--seed 0] [--workers 2] [--memory-mb 3000]
                               [--out runs/fuzz]

Every file must lead to a clear error of ours or to a model that agrees with onnxruntime: no other
exception, no crash, no hang, no memory past the bound. Findings are written below `--out`, and
then the exit status is 1. Needs Linux, whose /proc tells a process' memory and time.
"""

import argparse
import collections
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cases import Case, built, make_case
from corpus import corpus as read_corpus
from pool import Pool
from worker import DIFFERS, Outcome

CASE_SECONDS = 10.0
EXAMPLES = 3
# Refused, as they should be, and kept to look into.
DIFFERENCES = 100


@dataclass
class Findings:
    """What may not happen, by cause, written as it is found.

    Args:
        out: Folder for the files.
        counts: How often each cause was seen.
    """

    out: pathlib.Path
    counts: collections.Counter = field(default_factory=collections.Counter)

    def add(self, case: Case, outcome: Outcome) -> bool:
        """Note a finding; whether its cause is new."""
        self.counts[outcome.signature] += 1
        if self.counts[outcome.signature] <= EXAMPLES:
            self.write(case, outcome)
        return self.counts[outcome.signature] == 1

    def write(self, case: Case, outcome: Outcome) -> pathlib.Path:
        """The files of a case, and a text that says what happened."""
        digest = hashlib.sha256(outcome.signature.encode()).hexdigest()[:8]
        folder = (
            self.out
            / f"{outcome.kind.replace(', ', '_').replace(' ', '_')}-{digest}"
            / str(case.number)
        )
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in case.files.items():
            (folder / name).write_bytes(content)
        steps = "\n".join(f"  {name} {seed}" for name, seed in case.mutations)
        (folder / "finding.txt").write_text(
            f"{outcome.signature}\ncase {case.number} from {case.start}, fold_batch_norm="
            f"{case.fold_batch_norm}\n{steps}\n\n{outcome.detail}\n"
        )
        return folder


class Trials:
    """The stream of cases: the seeded ones, and shorter forms of those that led to findings."""

    def __init__(self, corpus: Mapping[str, bytes], seed: int, first: int = 0) -> None:
        """Begin with the corpus itself, or with a later number."""
        self._corpus, self._seed = corpus, seed
        self._numbers = itertools.count(first)
        self._shorter: collections.deque[Case] = collections.deque()

    def __iter__(self) -> Iterator[Case]:
        """The iterator itself."""
        return self

    def __next__(self) -> Case:
        """The next case; never ends."""
        if self._shorter:
            return self._shorter.popleft()
        return make_case(self._corpus, self._seed, next(self._numbers))

    def shorten(self, case: Case) -> None:
        """Try each mutation of a case alone."""
        if len(case.mutations) > 1:
            self._shorter.extend(
                built(self._corpus, case.number, case.start, [step], case.fold_batch_norm)
                for step in case.mutations
            )


def fuzz(options: argparse.Namespace, corpus: Mapping[str, bytes]) -> dict:
    """Try cases until the time is over or someone interrupts.

    Args:
        options: As parsed.
        corpus: Name to file.

    Returns:
        The summary.
    """
    out = pathlib.Path(options.out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    findings, kinds = Findings(out), collections.Counter()
    trials = Trials(corpus, options.seed, options.first)
    began = time.monotonic()
    pool = Pool(options.workers, options.memory_mb, CASE_SECONDS)
    is_interrupted = False
    try:
        for case, outcome in pool.outcomes(trials, began + options.seconds):
            kinds[outcome.kind] += 1
            if outcome.is_finding and findings.add(case, outcome):
                trials.shorten(case)
                print(f"case {case.number}: {outcome.signature}", flush=True)
            elif outcome.kind.endswith(DIFFERS) and kinds[outcome.kind] <= DIFFERENCES:
                findings.write(case, outcome)
    except KeyboardInterrupt:
        is_interrupted = True
    finally:
        pool.close()
    seconds = time.monotonic() - began
    cases = sum(kinds.values())
    summary = {
        "seed": options.seed,
        "first": options.first,
        "corpus": len(corpus),
        "cases": cases,
        "seconds": round(seconds, 1),
        "cases_per_second": round(cases / seconds, 2),
        "interrupted": is_interrupted,
        "outcomes": dict(kinds.most_common()),
        "findings": dict(findings.counts.most_common()),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def table(summary: Mapping) -> str:
    """The summary as one table."""
    rows = [f"{kind:<40} {count:>8,}" for kind, count in summary["outcomes"].items()]
    found = [f"  {count:>6,} × {cause}" for cause, count in summary["findings"].items()]
    lines = [
        f"seed {summary['seed']}, {summary['corpus']} files to start from",
        *rows,
        f"{'cases':<40} {summary['cases']:>8,}",
        f"{summary['seconds']} s, {summary['cases_per_second']} cases per second",
        f"{len(found)} kinds of findings" + (":" if found else "."),
        *found,
    ]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=3000)
    parser.add_argument("--out", default="runs/fuzz", help="replaced")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    return parser.parse_args(arguments)


def main() -> int:
    """Fuzz and report; the exit status."""
    summary = fuzz(parse(sys.argv[1:]), read_corpus())
    print(table(summary))
    return 1 if summary["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
