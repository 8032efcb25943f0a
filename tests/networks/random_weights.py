"""The architectures of `transformers_configs`, written by both of torch's exporters."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.networks.catalogue import Network
from tests.networks.transformers_configs import CONFIGS, SAMPLE, Config


def networks() -> Iterator[Network]:
    """See `catalogue.networks`."""
    yield from _networks(CONFIGS)


def sample() -> Iterator[Network]:
    """See `catalogue.sample`."""
    yield from _networks(SAMPLE)


def _networks(configs: Mapping[str, Config]) -> Iterator[Network]:
    for index, (name, config) in enumerate(configs.items()):
        # Each exporter in two opsets, by turns: every network in both would double the hours.
        newer, older = ((20, 17), (18, 13))[index % 2]
        ways = {f"dynamo {newer}": _writer(name, config, True, newer)}
        if config.script:
            ways[f"script {older}"] = _writer(name, config, False, older)
        if config.sdpa:
            ways["dynamo 20 sdpa"] = _writer(name, config, True, 20, attention="sdpa")
            ways["script 17 sdpa"] = _writer(name, config, False, 17, attention="sdpa")
        if config.other_size:
            ways["script 17 open size"] = _writer(name, config, False, 17, open_size=True)
        yield Network(
            name=name,
            source=f"transformers {config.model}, random weights",
            licence="Apache-2.0",
            size=config.size,
            writers=ways,
            other_size=config.other_size,
            note=config.note,
            transposes=config.transposes,
            recipe=repr((config.model, config.options)),
        )


def _writer(
    name: str,
    config: Config,
    dynamo: bool,
    opset: int,
    attention: str = "eager",
    open_size: bool = False,
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from tests.networks import exporting

        path = folder / f"{name}.onnx"
        network = exporting.from_config(config.model, config.options, attention)
        exporter = exporting.Exporter(dynamo, opset)
        exporting.export(network, path, config.size, exporter, open_size)
        return path

    return write
