"""Every network that the importer is proved on."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Network:
    """One network and how its files come about.

    Args:
        name: In the table and on the command line.
        source: Where it comes from, for the table.
        licence: Of its weights, or of its code where the weights are random.
        size: Height and width of the images.
        writers: Way of writing it, as the table names it, to a function that writes the file into
            a folder and returns it: an `.onnx` or `.keras` file or a SavedModel directory.
        other_size: Another size that files of open height and width are run at.
        note: What differs from the published network.
        preprocessing: For ImageNet classifiers, arguments of `Preprocessing`; with them the top-1
            of the source and ours on the labelled images are compared.
        first_class: Which output is the first of the 1000 classes.
        foreign: Whether no code of ours had a part in the file.
        blind: Whether the file is opened only after the importer is finished; its result is no
            claim of ours.
        transposes: How many stay between convolutions, beside attention; the note says why.
        low: Smallest pixel of the images that it is compared on.
        high: Largest.
        channels: Of the images.
        text: Drawn on them, for networks that give almost nothing where there is no text.
        recipe: What else the file depends on.
    """

    name: str
    source: str
    licence: str
    size: tuple[int, int]
    writers: Mapping[str, Callable[[Path], Path]]
    other_size: tuple[int, int] | None = None
    note: str = ""
    preprocessing: Mapping[str, Any] | None = None
    first_class: int = 0
    foreign: bool = False
    blind: bool = False
    transposes: int = 0
    low: float = -2.0
    high: float = 2.0
    channels: int = 3
    text: str = ""
    recipe: str = ""

    def is_used_afterwards(self, written: str) -> bool:
        """Whether the model is also saved, trained and exported: once per network, it is slow."""
        return written == next(iter(self.writers))


@functools.cache
def networks() -> dict[str, Network]:
    """All of them by name: trained, foreign, and of random weights."""
    # Their modules know this one.
    from tests.networks import foreign, keras_networks, random_weights, trained

    groups = (trained, foreign, keras_networks, random_weights)
    return {network.name: network for group in groups for network in group.networks()}


@functools.cache
def sample() -> dict[str, Network]:
    """Small ones that need nothing from outside, for `make test-slow`; not in the table."""
    from tests.networks import random_weights

    return {network.name: network for network in random_weights.sample()}
