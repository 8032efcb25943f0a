"""The README of a bundle: how to serve it and how to ask it; `readme.md` is its template."""

from collections.abc import Mapping
from pathlib import Path

import jinja2

from keras_amalgam.export.labels import Labels
from keras_amalgam.export.serving import bundle, endpoints

FILE_NAME = "README.md"
_TEMPLATE = Path(__file__).with_name("readme.md")


def text(models: Mapping[str, Labels], label: str) -> str:
    """The README of a bundle.

    Args:
        models: Model's name to the labels of its newest version.
        label: A version label to show.
    """
    template = jinja2.Template(
        _TEMPLATE.read_text(encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    rendered = template.render(
        models=sorted(models.items()),
        label=label,
        config=bundle.CONFIG,
        batching=bundle.BATCHING,
        served_at=bundle.SERVED_AT,
        float=endpoints.FLOAT,
        uint8=endpoints.UINT8,
        encoded=endpoints.ENCODED,
        classify=endpoints.CLASSIFY,
        CLASSES=endpoints.CLASSES,
        SCORES=endpoints.SCORES,
    )
    return rendered.rstrip() + "\n"
