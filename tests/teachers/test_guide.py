"""The guide's code runs and prints what it says; its operator table is the registry's."""

import re
from pathlib import Path

from keras_amalgam.teachers.operators import table

GUIDE = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")


def test_code_of_the_guide_prints_what_it_says(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    promised = [
        line for block in blocks for line in re.findall(r"^print\(.*\)  # (.*)", block, re.M)
    ]
    assert len(promised) == 7
    assert capsys.readouterr().out.splitlines() == promised


def test_operator_table_is_the_registrys():
    written = re.search(r"<!-- operators -->\n(.*)\n<!-- /operators -->", GUIDE, re.DOTALL)
    assert written is not None
    assert written.group(1) == table()
