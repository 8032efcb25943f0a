"""One mutated file: which one it is follows from the seed and its number alone."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import constant_mutations  # noqa: F401  Registers its mutations.
import numpy as np
import onnx
from mutations import STRUCTURAL, Random, mutate_bytes, pick

MODEL = "model.onnx"
DIGITS = "digits"
LOCATIONS = (
    "w.bin",
    "../w.bin",
    "/etc/passwd",
    "/dev/zero",
    "w.bin\x00",
    "",
    ".",
    "sub/../w.bin",
    "ä",
)
LENGTHS = ("0", "-1", "4", "999999999999", "1e3", "", "nan", "18446744073709551616")


@dataclass(frozen=True)
class Case:
    """One trial.

    Args:
        number: Of the trial.
        start: The corpus file it was made from.
        mutations: What was done, in order, each with its own seed.
        files: File name to content; `MODEL` is opened.
        fold_batch_norm: Passed to `from_onnx`.
    """

    number: int
    start: str
    mutations: tuple[tuple[str, int], ...]
    files: Mapping[str, bytes]
    fold_batch_norm: bool = False


def make_case(corpus: Mapping[str, bytes], seed: int, number: int) -> Case:
    """The trial of a seed and number.

    Args:
        corpus: Name to file.
        seed: Of the run.
        number: Of the trial; 0 and up. The first ones are the corpus itself, unchanged.
    """
    names = sorted(corpus)
    if number < len(names):
        return built(corpus, number, names[number], ())
    random = np.random.default_rng([seed, number])
    start = pick(random, names)
    if random.random() < 0.02 and DIGITS in corpus:
        start = DIGITS  # A whole network, which takes longer.
    kinds = sorted(STRUCTURAL)
    chosen = [pick(random, kinds) for _ in range(int(random.integers(1, 4)))]
    kind = random.random()
    if kind < 0.15:
        chosen = ["bytes"]
    elif kind < 0.2:
        chosen.append("external")
    seeds = random.integers(0, 2**31, len(chosen))
    steps = tuple((name, int(each)) for name, each in zip(chosen, seeds, strict=True))
    return built(corpus, number, start, steps, random.random() < 0.2)


def built(
    corpus: Mapping[str, bytes],
    number: int,
    start: str,
    steps: Sequence[tuple[str, int]],
    fold_batch_norm: bool = False,
) -> Case:
    """A corpus file after some mutations; one that does not fit the file changes nothing."""
    content = corpus[start]
    files = {MODEL: content}
    for name, seed in steps:
        random = np.random.default_rng(seed)
        if name == "bytes":
            files = {MODEL: mutate_bytes(content, corpus[pick(random, sorted(corpus))], random)}
            continue
        # An earlier mutation may have left nothing to change, or what protobuf does not read.
        with contextlib.suppress(Exception):
            model = onnx.ModelProto.FromString(files[MODEL])
            others = externalised(model, random) if name == "external" else {}
            if name != "external":
                STRUCTURAL[name](model, random)
            files = files | others | {MODEL: model.SerializeToString()}
    return Case(number, start, tuple(steps), files, fold_batch_norm)


def externalised(model: onnx.ModelProto, random: Random) -> dict[str, bytes]:
    """Move constants into a file beside the model, some of them to where they must not be."""
    data = b""
    for tensor in model.graph.initializer:
        if not tensor.raw_data:
            continue
        entries = {"location": "w.bin", "offset": len(data), "length": len(tensor.raw_data)}
        data += tensor.raw_data
        if random.random() < 0.3:
            key = pick(random, sorted(entries))
            entries[key] = pick(random, LOCATIONS if key == "location" else LENGTHS)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    return {"w.bin": data}
