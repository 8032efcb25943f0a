import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.mark.slow
def test_code_of_the_guide_prints_what_it_says(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    promised = [line for block in blocks for line in re.findall(r"\)  # (\d.*|\(.*)", block)]
    printed = capsys.readouterr().out.splitlines()
    assert len(promised) == 6
    assert set(promised) <= set(printed)
