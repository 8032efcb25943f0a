"""What was measured of artifacts: a table for the screen, `export.json`, and a page."""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_amalgam.export.verification.thresholds import Thresholds
from keras_amalgam.export.verification.verify import Verification
from keras_amalgam.text import file_size, lines, page_template
from keras_amalgam.versions import versions

JSON_NAME, PAGE_NAME = "export.json", "export.html"
HEADINGS = (
    "artifact",
    "precision",
    "size",
    "memory",
    "ms, 1 thread",
    "p95",
    "ms, all threads",
    "largest error",
    "same class",
)


def table(verified: Mapping[str, Verification]) -> str:
    """The measurements as aligned lines, a row for each artifact and one for each accuracy."""
    rows = [HEADINGS, *(_row(name, one) for name, one in verified.items())]
    printed = [lines(rows, right=range(2, len(HEADINGS)))]
    for name, one in verified.items():
        for whose, task, accuracy, student in accuracy_rows(name, one):
            printed.append(
                f"{whose}: {task} {accuracy:.2%} right, the student on its canvas {student:.2%} "
                f"({100 * (accuracy - student):+.2f} points)"
            )
        printed += [f"{name} misses a threshold: {missed}" for missed in one.missed]
        for passed_over, missed in one.instead_of.items():
            printed.append(f"{name} stands for {passed_over}: {' '.join(missed)}")
    return "\n".join(printed)


def accuracy_rows(name: str, one: Verification) -> Iterator[tuple[str, str, float, float]]:
    """Of each labelled task the artifact's accuracy and the student's; of a bundle by signature.

    Args:
        name: The artifact's.
        one: What was measured of it.

    Yields:
        Whose it is, the task, the accuracy, and the student's, 0..1.
    """
    for task, both in one.measured["accuracy"].items():
        if "signatures" not in both:
            yield name, task, both["artifact"], both["student"]
        for signature, accuracy in both.get("signatures", {}).items():
            yield f"{name}, {signature}", task, accuracy, both["student"]


def write(
    folder: Path, name: str, verified: Mapping[str, Verification], thresholds: Thresholds
) -> None:
    """Writes `export.json` and the self-contained `export.html`.

    Args:
        folder: Where, with the artifacts in it: `files` lists all that is there.
        name: The student's.
        verified: Artifact's name to what was measured.
        thresholds: What the artifacts were held against.
    """
    document = {
        "student": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "thresholds": dataclasses.asdict(thresholds),
        "files": sorted({*_files(folder), JSON_NAME, PAGE_NAME}),
        "artifacts": {key: one.to_dict() for key, one in verified.items()},
        "versions": versions(),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / JSON_NAME).write_text(text, encoding="utf-8")
    (folder / PAGE_NAME).write_text(_page(document, verified), encoding="utf-8")


def is_own(folder: Path) -> bool:
    """Whether a folder holds nothing but what its `export.json` lists."""
    try:
        listed = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))["files"]
        return _files(folder) <= set(listed)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _files(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in files}


def _page(document: Mapping[str, Any], verified: Mapping[str, Verification]) -> str:
    rows = [_row(name, one) for name, one in verified.items()]
    return page_template(Path(__file__).with_name("export.html")).render(
        document=document,
        headings=HEADINGS,
        rows=rows,
        verified=verified,
        accuracy_rows=accuracy_rows,
        canvas_of=_canvas_in_words,
        bounds_of=_bounds_in_words,
    )


def _canvas_in_words(canvas: Sequence[Any] | None) -> str:
    if canvas is None:
        return "the size that it begins with"
    height, width, method = canvas
    return f"a canvas of {height} × {width} pixels, {method}"


def _bounds_in_words(bounds: Mapping[str, float | None]) -> str:
    """Such as "an error of 25 % of the largest logit, a mean of 5 %, the same class on 90 %"."""
    absolute, share, mean = (bounds[key] for key in ("max_abs_error", "max_share", "mean_share"))
    limits = [] if absolute is None else [f"{absolute:g}"]
    limits += [] if share is None else [f"{100 * share:g} % of the largest logit"]
    said = [f"an error of {' or '.join(limits)}"] if limits else []
    said += [] if mean is None else [f"a mean of {100 * mean:g} %"]
    if bounds["min_agreement"]:
        said.append(f"the same class on {100 * bounds['min_agreement']:g} %")
    return ", ".join(said)


def _row(name: str, one: Verification) -> Sequence[str]:
    measured = one.measured
    single, every = (measured["latency_ms"][key] for key in ("one_thread", "all_threads"))
    heads = measured["heads"].values()
    agreements = [head["argmax_agreement"] for head in heads]
    return (
        name,
        one.artifact.precision,
        file_size(measured["bytes"]),
        file_size(measured["memory_bytes"]),
        f"{single['median']:.3g}",
        f"{single['p95']:.3g}",
        f"{every['median']:.3g}",
        f"{max(head['max_abs_error'] for head in heads):.2g}",
        f"{100 * min(one for one in agreements if one is not None):.1f} %",
    )
