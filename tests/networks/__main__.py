"""Run every network, each in a process of its own, and write the table.

`python -m tests.networks` runs all that have no good result for the importer as it is, and exits
with 1 if a network misses its claim.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.networks.catalogue import Network, networks, sample
from tests.networks.marks import ROOT, mark

_MOST_SECONDS = 360


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.networks")
    parser.add_argument("names", nargs="*", help="networks, or `name:written`; by default all")
    parser.add_argument("--folder", type=Path, default=ROOT / ".networks", help="for all files")
    parser.add_argument("--table", type=Path, help="the Markdown file to write")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--failed", action="store_true", help="only what failed or has no result")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time")
    parser.add_argument("--blind", action="store_true", help="also the networks kept shut so far")
    parser.add_argument("--kept", action="store_true", help="measure nothing, show what is kept")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.into:
        _measure_here(arguments.names[0], folder, arguments.into)
        return 0
    wanted = _wanted(arguments.names, arguments.blind)
    if arguments.kept:
        wanted = [pair for pair in wanted if _kept(*pair, folder).exists()]
    rows: list[dict[str, Any]] = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(lambda pair: _result(pair[0], pair[1], folder, arguments), wanted):
            rows.append(row)
            state = row["failures"][0] if row["failures"] else "ok"
            counted = f"{len(rows)}/{len(wanted)}"
            print(f"{counted} {row['network']} [{row['written']}] {state[:300]}", flush=True)
    if arguments.table:
        from tests.networks import table

        arguments.table.write_text(table.markdown(rows))
    failing = [row["network"] for row in rows if row["failures"]]
    print(f"{len(rows) - len(failing)} of {len(rows)} keep their claims.")
    blind = {network.name for network in networks().values() if network.blind}
    missed = set(failing) - blind  # What was opened last stands as it came out.
    return 1 if missed else 0


def _wanted(names: list[str], blind: bool) -> list[tuple[Network, str]]:
    known = networks() | sample()
    everything = [(network, way) for network in known.values() for way in network.writers]
    if not names:
        left_out = set(sample()) | {n.name for n in known.values() if n.blind and not blind}
        return [pair for pair in everything if pair[0].name not in left_out]
    unknown = {name.split(":")[0] for name in names} - set(known)
    if unknown:
        raise SystemExit(f"There are no networks {sorted(unknown)}. Known: {sorted(known)}.")
    return [
        (network, way)
        for network, way in everything
        if network.name in names or f"{network.name}:{way}" in names
    ]


def _result(
    network: Network, written: str, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The row of a network: as kept, else measured in a process of its own."""
    present = mark(network, written)
    kept = _kept(network, written, folder)
    if kept.exists() and not arguments.again:
        row = json.loads(kept.read_text())
        row["stale"] = row.get("mark") != present
        # What failed may have failed for want of a package.
        is_good = not row["failures"] and (arguments.failed or not row["stale"])
        if arguments.kept or is_good:
            return _judged(row, network)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.networks", f"{network.name}:{written}"]
    command += ["--folder", str(folder), "--into", str(kept)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    started = time.perf_counter()
    log = kept.with_suffix(".log")
    with log.open("w") as output:
        try:
            ended = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_MOST_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            ended = f"longer than {_MOST_SECONDS} s"
    if kept.exists():
        row = json.loads(kept.read_text())
    else:
        failure = f"the process ended with {ended}, see {log.name}"
        row = {"network": network.name, "written": written, "failures": [failure]}
    row |= {"mark": present, "stale": False, "whole_seconds": time.perf_counter() - started}
    kept.write_text(json.dumps(row, indent=1))
    return _judged(row, network)


def _kept(network: Network, written: str, folder: Path) -> Path:
    return folder / "rows" / f"{network.name} {written}.json".replace(" ", "_")


def _judged(row: dict[str, Any], network: Network) -> dict[str, Any]:
    """The row, failing if it has more transpositions than the network's own note explains."""
    number = row.get("transposes") or 0
    if number > network.transposes:
        row["failures"].append(f"{number} transpositions between convolutions")
    return row


def _measure_here(name: str, folder: Path, into: Path) -> None:
    from tests.networks.measuring import measure

    network, _, written = name.partition(":")
    with tempfile.TemporaryDirectory() as scratch:
        row = measure((networks() | sample())[network], written, folder, Path(scratch))
    into.write_text(json.dumps(dataclasses.asdict(row), indent=1))


if __name__ == "__main__":
    sys.exit(main())
