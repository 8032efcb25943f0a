"""Runs exported TFLite files on aarch64, the processor of phones, and on this one: `make test-arm`.

The emulator qemu-user runs Debian's Python for arm64 with LiteRT's arm64 wheel; nothing is
installed but what lies below `.arm/`. Where a part is missing, it says which and ends with 3.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / ".arm"
RUNNER = ROOT / "export" / "verification" / "runner.py"
MISSING = 3
EMULATOR = "qemu-aarch64"
# LiteRT 2 does not start under the emulator.
WHEELS = ("ai-edge-litert==1.4.0", "numpy==2.4.*", "pillow==12.*")
PLATFORMS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_28_aarch64")
PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libstdc++6"),
    *("libgcc-s1", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5"),
)
TOLERANCES = {"float32": 1e-4, "int8": 1e-4}


def main():
    """Fetch what is needed, export, run on both processors, compare."""
    for command, package in ((EMULATOR, "qemu-user"), ("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        if shutil.which(command) is None:
            return missing(f"The command {command} is not there: install Debian's {package}.")
    try:
        fetch()
    except subprocess.CalledProcessError as error:
        return missing(f"{' '.join(map(str, error.cmd[:2]))} failed: {error.stderr[-500:]}")
    folder = FOLDER / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    print("precision  largest logit  largest difference  same class")
    failed = False
    for precision, path in exported(folder).items():
        here, there = (answers(path, folder, emulated) for emulated in (False, True))
        difference, largest, same = compared(here, there)
        print(f"{precision:9}  {largest:13.3f}  {difference:18.3g}  {same:10.1%}")
        failed |= not difference <= TOLERANCES[precision] or same < 1.0
    return int(failed)


def missing(why):
    """Says which part is missing."""
    print(f"The aarch64 files were not run. {why}", file=sys.stderr)
    return MISSING


def fetch():
    """Python and LiteRT for arm64 below `.arm/`, if they are not there."""
    if (FOLDER / "ready").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    state = FOLDER / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "debs"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    # A state of apt's own: this machine's packages and architectures stay as they are.
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Dir::State": state / "state",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    call([*apt, "update"])
    call([*apt, "download", *PACKAGES], cwd=state / "debs")
    for package in sorted((state / "debs").glob("*.deb")):
        call(["dpkg-deb", "-x", package, FOLDER / "root"])
    platforms = [f"--platform={name}" for name in PLATFORMS]
    call(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
        + [*platforms, "--python-version=3.11", f"--target={FOLDER / 'site'}", *WHEELS]
    )
    (FOLDER / "ready").touch()


def call(command, **options):
    """Runs a command whose output is of interest only if it fails."""
    subprocess.run(command, check=True, capture_output=True, text=True, **options)


def exported(folder):
    """A trained student as float32 and as int8, and the images that both are asked about."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from keras_amalgam import export
    from keras_amalgam.export.verification.encoded import collect
    from tests.export.conftest import COLOURS, QUADRANTS, coloured_blobs, separable_student

    names = {"quadrant": QUADRANTS, "colour": COLOURS}
    student = separable_student()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.01), dict.fromkeys(names, loss))
    student.fit(*coloured_blobs(512, seed=0), batch_size=64, epochs=6, verbose=0)
    images = coloured_blobs(64, seed=1)[0]
    collect(images, None, {}).write(folder / "images.zip")
    return {
        precision: export.to_tflite(
            student, folder / f"{precision}.tflite", precision, images, class_names=names
        ).path
        for precision in TOLERANCES
    }


def answers(path, folder, emulated):
    """What a file gives for every image, on this processor or on the emulated one."""
    import numpy as np

    job = {
        "artifact": str(path),
        "format": "tflite",
        "images": str(folder / "images.zip"),
        "size": [28, 28],
        "channels": 3,
        "threads": 1,
        "repeats": 1,
        "outputs": str(folder / "outputs.npz"),
        "measured": str(folder / "measured.json"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command, environment = [sys.executable], dict(os.environ)
    if emulated:
        command = [EMULATOR, "-L", FOLDER / "root", FOLDER / "root" / "usr/bin/python3.11"]
        environment["PYTHONPATH"] = str(FOLDER / "site")
    call([*command, RUNNER, folder / "job.json"], env=environment)
    with np.load(folder / "outputs.npz") as outputs:
        return dict(outputs)


def compared(here, there):
    """Largest difference, largest value, and the share of equal decisions."""
    import numpy as np

    difference = max(float(np.abs(here[head] - there[head]).max()) for head in here)
    largest = max(float(np.abs(values).max()) for values in here.values())
    same = [(here[head].argmax(-1) == there[head].argmax(-1)).mean() for head in here]
    return difference, largest, float(min(same))


if __name__ == "__main__":
    sys.exit(main())
