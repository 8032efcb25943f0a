"""Checks the demo's images and teachers, measuring everything anew.

    python scripts/demo_assets/check.py [--mnist DIR] [--fashion DIR] [--write]

Prints what is wrong, and then exits with status 1. With `--write` the cards `digits.json` and
`fashion.json` are written first.
"""

import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import cards
import numpy as np
import sources
import tensorflow_datasets as tfds

LEAST_ACCURACY = {"digits": 0.990, "fashion": 0.900}
MOST_BYTES = {"teachers/digits.onnx": 1_500_000, "teachers/fashion.keras": 2_000_000}
MOST_DATA_BYTES = 10_000_000
# Another processor may round a logit otherwise and turn a few of the 10,000 images.
ACCURACY_TOLERANCE = 0.0005


def bytes_of(folder: pathlib.Path) -> int:
    """The size of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_problems(demo: pathlib.Path) -> list[str]:
    """What is too large in the folder `demo`."""
    sizes = {name: ((demo / name).stat().st_size, most - 1) for name, most in MOST_BYTES.items()}
    data = sum(bytes_of(folder) for folder in demo.glob("demo_*"))
    sizes["the images"] = (data, MOST_DATA_BYTES)
    return [
        f"{name}: {size:,} bytes, at most {most:,} allowed"
        for name, (size, most) in sizes.items()
        if size > most
    ]


def overlap(left: np.ndarray, right: np.ndarray) -> int:
    """How many of the images `left` are, pixel for pixel, among the images `right`."""
    known = {image.tobytes() for image in right}
    return sum(image.tobytes() in known for image in left)


def shipped_split(demo: pathlib.Path, name: str, split: str) -> sources.Labelled:
    """A split of the data set `demo_<name>` as the repository has it; labels int64."""
    data = tfds.load(f"demo_{name}", split=split, data_dir=demo, batch_size=-1)
    data = tfds.as_numpy(data)
    return sources.Labelled(data["image"][..., 0], data["label"])


def split_problems(
    collection: sources.Collection, unlabelled: sources.Labelled, test: sources.Labelled
) -> list[str]:
    """What is wrong with the two shipped splits, given the images of the source."""
    counts = {
        "labels in split unlabelled": int((unlabelled.labels != -1).sum()),
        "unlabelled images that a teacher was trained on": overlap(
            unlabelled.images, collection.taught.images
        ),
        "test images that a teacher was trained on": overlap(test.images, collection.taught.images),
        "test images among the unlabelled": overlap(test.images, unlabelled.images),
        "test images that are not official ones": len(test.images)
        - overlap(test.images, collection.official_test.images),
        "unlabelled images missing or too many": abs(
            len(unlabelled.images) - len(collection.unlabelled.images)
        ),
        "test images missing or too many": abs(len(test.images) - len(collection.test.images)),
    }
    return [f"{number} {what}" for what, number in counts.items() if number]


def card_problems(name: str, shipped: dict, measured: dict) -> list[str]:
    """Where the card of teacher `name` differs from what was measured, or is not good enough."""
    problems = []
    for key in sorted(shipped.keys() | measured.keys()):
        stated, found = shipped.get(key), measured.get(key)
        if key == "accuracy" and stated is not None:
            distances = [abs(stated[k] - found[k]) for k in ("test", "demo_test")]
            if max(distances) > ACCURACY_TOLERANCE:
                problems.append(f"{name}.json: accuracy {stated}, measured {found}")
        elif stated != found:
            problems.append(f"{name}.json: {key} is {stated}, found {found}")
    reached = measured["accuracy"]["test"]
    if reached < LEAST_ACCURACY[name]:
        problems.append(f"{name}: accuracy {reached}, at least {LEAST_ACCURACY[name]} wanted")
    return problems


def main() -> None:
    """Checks everything; exits with status 1 if anything is wrong."""
    parser = sources.parser(__doc__)
    parser.add_argument("--demo", type=pathlib.Path, default=sources.DEMO, metavar="DIR")
    parser.add_argument("--write", action="store_true", help="write the two cards first")
    arguments = parser.parse_args()
    demo, teachers = arguments.demo, arguments.demo / "teachers"
    problems = size_problems(demo)
    for name in ("digits", "fashion"):
        collection = sources.load(name, arguments)
        test = shipped_split(demo, name, "test")
        problems += split_problems(collection, shipped_split(demo, name, "unlabelled"), test)
        measured = cards.measured_card(teachers, name, collection, test)
        if arguments.write:
            cards.write_card(teachers, measured)
        problems += card_problems(name, cards.read_card(teachers, name), measured)
        print(
            f"{name}: {measured['accuracy']['test']:.2%} of {measured['accuracy']['images']:,}, "
            f"{measured['accuracy']['demo_test']:.2%} of {measured['accuracy']['demo_images']:,} "
            f"test images; {measured['parameters']:,} parameters, {measured['bytes']:,} bytes"
        )
    print(f"images: {sum(bytes_of(folder) for folder in demo.glob('demo_*')):,} bytes")
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
