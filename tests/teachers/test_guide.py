"""The guides' code runs and prints what it says; the operator table is the registry's."""

import re
import runpy
from pathlib import Path

import pytest

from keras_amalgam.teachers.conversion.operators import registry

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "prints"),
    [
        ("teachers.md", 11),
        ("preprocessing.md", 2),
        ("runtime_teachers.md", 1),
        ("operators.md", 0),
    ],
)
def test_code_of_a_guide_prints_what_it_says(tmp_path, monkeypatch, capsys, guide, prints):
    text = (DOCS / guide).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    handlers = {key: dict(versions) for key, versions in registry._HANDLERS.items()}
    monkeypatch.setattr(registry, "_HANDLERS", handlers)
    exec("\n".join(blocks), {})
    promised = [
        line for block in blocks for line in re.findall(r"^print\(.*\)  # (.*)", block, re.M)
    ]
    assert len(promised) == prints
    assert capsys.readouterr().out.splitlines() == promised


def test_page_of_operators_is_what_the_registry_prints(capsys):
    runpy.run_module("keras_amalgam.teachers.conversion.operators", run_name="__main__")
    printed = capsys.readouterr().out
    assert printed == (DOCS / "operators.md").read_text(encoding="utf-8")
    assert "| Conv | ai.onnx | 1 | Conv2D or DepthwiseConv2D" in printed
