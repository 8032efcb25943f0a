"""The README is true: its code runs, its commands exist, its generated parts are filled."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_python_block_runs_as_it_stands_in_an_empty_folder(tmp_path):
    (code,) = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["student.metadata.json", "student.tflite"]


def test_make_commands_are_targets():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for document in (README, (ROOT / "BUILD.md").read_text()):
        mentioned = set(re.findall(r"(?:`|^)make ([a-z-]+)", document, re.MULTILINE))
        assert mentioned and mentioned <= set(targets)


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name
)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_table_is_a_run_that_met_the_schema():
    table = README.split("update_readme.py: table -->")[1].split("<!-- end -->")[0]
    rows = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("|")}
    assert {"digits", "fashion"} <= set(rows)
    assert all(re.search(r"\d\d\.\d", rows[task]) for task in ("digits", "fashion"))
