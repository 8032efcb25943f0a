"""What the guide docs/phone.md takes: a small version run to its end, the whole by --dry_run.

    python -m benchmarks.phone [--folder runs/phone] [--photographs 2000] [--guide docs/phone.md]

Three ResNet-18s of random weights take the places of the guide's networks, and synthetic
photographs of 640 × 480 pixels those of its own: neither time nor memory depends on what they show.
The guide's commands run as they stand, but for fewer epochs and without test photographs; their
time is taken from outside, and the system says how much memory they took. The 20,000 photographs of
the last plan are links to the first ones.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from keras_amalgam.text import file_size, filled

ROOT = Path(__file__).resolve().parents[1]
NETS = Path(__file__).with_name("phone_nets.py")
TASKS = {"birds": 200, "flowers": 102, "insects": 50}
WHOLE, EPOCHS, SMALL_EPOCHS = 20_000, 30, 3
MARK = "python -m benchmarks.phone"


def commands(guide: str) -> list[list[str]]:
    """The guide's commands in order, each split into words."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    return [line.split() for block in blocks for line in block.splitlines()]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phone")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "phone")
    parser.add_argument("--photographs", type=int, default=2000, help="of the small version")
    parser.add_argument("--guide", type=Path, help="the guide to write the table into")
    arguments = parser.parse_args()
    text = (ROOT / "docs" / "phone.md").read_text(encoding="utf-8")
    _, convert, plan, run, *_ = commands(text)  # The first installs the package.
    folder = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_inputs(folder, text, TASKS, arguments.photographs)
    short = [f"--epochs={SMALL_EPOCHS}"]
    run = [word for word in run if word != "--test" and not word.startswith("birds=")]
    converted = _timed(convert, folder)
    small_plan = _timed([*plan, *short], folder)
    small_run = _timed([*run, *short], folder)
    _link(folder, arguments.photographs)
    # In place of the small run, as another training than the one that is there is refused.
    whole_plan = _timed([*plan, "--restart"], folder)
    table = _table(folder, arguments.photographs, converted, small_plan, small_run, whole_plan)
    print(table)
    if arguments.guide:
        guide = arguments.guide.read_text(encoding="utf-8")
        arguments.guide.write_text(filled(guide, MARK, table), encoding="utf-8")


class _Timed:
    """A command's output, seconds and peak of memory in bytes."""

    def __init__(self, output: str, seconds: float, memory: int) -> None:
        self.output, self.seconds, self.memory = output, seconds, memory

    @property
    def plan(self) -> str:
        """The sentence of a dry run that says what the run will take."""
        return self.output.splitlines()[-1]


def _timed(command: list[str], folder: Path) -> _Timed:
    """Run a command of the guide in the folder; in a process of its own, whose peak is its own."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    measure = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); "
        "sys.exit(done.returncode)"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", measure, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    print(f"{' '.join(command)}\n{done.stdout}", flush=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = int(done.stderr.splitlines()[-1]) * (1 if sys.platform == "darwin" else 1024)
    return _Timed(done.stdout.strip(), seconds, peak)


def write_inputs(
    folder: Path,
    guide: str,
    tasks: Mapping[str, int],
    photographs: int,
    width: int = 64,
    size: tuple[int, int] = (640, 480),
) -> None:
    """Write what the guide's reader has, and the guide's own convert.py.

    Args:
        folder: Where.
        guide: Its text.
        tasks: Number of classes by network.
        photographs: How many.
        width: Channels of the networks' first stage.
        size: `(width, height)` of the photographs, in pixels.
    """
    import torch

    from benchmarks.phone_nets import ResNet

    code = NETS.read_text(encoding="utf-8").replace("width: int = 64", f"width: int = {width}")
    (folder / "nets.py").write_text(code, encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    (folder / "convert.py").write_text(code, encoding="utf-8")
    for seed, (name, classes) in enumerate(tasks.items()):
        torch.manual_seed(seed)
        torch.save(ResNet(classes, width).state_dict(), folder / f"{name}.pt")
        lines = [f"{name} {number}" for number in range(classes)]
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "photos").mkdir()
    for number in range(1, photographs + 1):
        (folder / "photos" / f"{number:04}.jpg").write_bytes(photograph(number, size))


def photograph(number: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """A JPEG of coloured clouds with some grain: about as many bytes as a photograph's."""
    generator = np.random.default_rng(number)
    clouds = Image.fromarray(generator.integers(0, 256, (12, 16, 3), "uint8")).resize(size)
    grain = generator.normal(0, 6, (size[1], size[0], 1))
    pixels = np.clip(np.asarray(clouds) + grain, 0, 255).astype("uint8")
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return content.getvalue()


def _link(folder: Path, photographs: int) -> None:
    """As many photographs as the guide has: links to those that are there."""
    for number in range(photographs + 1, WHOLE + 1):
        source = folder / "photos" / f"{(number - 1) % photographs + 1:04}.jpg"
        os.link(source, folder / "photos" / f"{number:04}.jpg")


def _table(folder: Path, photographs: int, converted: _Timed, *runs: _Timed) -> str:
    small_plan, small_run, whole_plan = runs
    disk = sum(f.stat().st_size for f in (folder / "runs").rglob("*") if f.is_file())
    photo = sum(f.stat().st_size for f in sorted((folder / "photos").iterdir())[:100]) / 100
    memory, cores = file_size(small_run.memory), os.cpu_count()
    rows = [
        ("`python convert.py`, three ResNet-18s", _minutes(converted.seconds)),
        (f"`--dry_run`, {photographs:,} photographs, {SMALL_EPOCHS} epochs", small_plan.plan),
        (
            "that run, measured from start to end",
            f"{_minutes(small_run.seconds)}, {memory} of memory, {file_size(disk)} on the disk",
        ),
        (f"`--dry_run`, {WHOLE:,} photographs, {EPOCHS} epochs", whole_plan.plan),
        ("that dry run itself", _minutes(whole_plan.seconds)),
    ]
    lines = [
        "| what | takes |",
        "| --- | --- |",
        *(f"| {what} | {takes} |" for what, takes in rows),
    ]
    about = (
        f"\n\nOn {cores} cores without a GPU. The photographs are synthetic, 640 × 480 pixels and "
        f"{file_size(photo)} each; the networks have random weights, as time and memory do not "
        "depend on what they know."
    )
    return "\n".join(lines) + about


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    main()
