import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest

from keras_amalgam.evaluation import CommonSpace
from keras_amalgam.report import Pictures, Report, goal, render_page, write_report

GOAL = ("name", "value", "target", "unit", "at_least")
NASTY = '<script>alert("x")</script>&$a$'


def render(content, *pictures, **options):
    return render_page(Report.from_dict(content), *pictures, **options)


class _Loads(html.parser.HTMLParser):
    """Collects whatever would make a browser fetch or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)
        self.found += re.findall(r"@import[^;]*", page)
        self.found += [u for u in re.findall(r"url\(\s*([^)]*)\)", page) if not u.startswith("#")]

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.found.append(tag)
        for name, value in attrs:
            local = (value or "").startswith(("#", "data:image/png;base64,"))
            if name.endswith(("src", "srcset", "href", "action")) and not local:
                self.found.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.found.append(name)


def _numbers(value, path=()):
    """Paths of all numbers below `value`."""
    if isinstance(value, dict | list):
        for key, element in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(element, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def _at(content, path):
    for key in path[:-1]:
        content = content[key]
    return content, path[-1]


def test_page_loads_nothing(page):
    assert _Loads(page).found == []
    assert "default-src 'none'" in page
    assert "data:image/png;base64," in page


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize(
    "spoiled",
    [
        '<img src="https://example.org/x.png">',
        "<script>1</script>",
        '<link rel="stylesheet" href="x.css">',
        "<style>a { background: url(//example.org/x) }</style>",
        '<svg><use xlink:href="http://example.org#x"/></svg>',
        '<b onclick="x()">',
    ],
)
def test_check_for_loads_finds_a_spoiled_page(content, spoiled):
    assert _Loads(render(content).replace("</main>", spoiled + "</main>")).found


@pytest.mark.slow
def test_changing_any_number_of_the_report_changes_the_page(content):
    before = render(content)
    unseen = []
    paths = [path for path in _numbers(content) if path != ("version",)]
    for path in paths:
        parent, key = _at(content, path)
        kept = parent[key]
        parent[key] = kept * 2 if isinstance(kept, int) and kept else kept * 0.9 + 1e-9
        if path[0] == "goals":  # Whether it is met follows from its numbers.
            parent["met"] = goal(*(parent[name] for name in GOAL)).met
        if render(content) == before:
            unseen.append(path)
        parent[key] = kept
        if path[0] == "goals":
            parent["met"] = goal(*(parent[name] for name in GOAL)).met
    assert unseen == []
    assert len(paths) > 60
    assert render(content) == before


@pytest.mark.slow
def test_changing_a_drawn_number_changes_the_page(content, full_content):
    content["history"] = {
        key: full_content["history"][key]
        for key in ("loss", "common_features/fashion/mmd", "learning_rate")
    }
    content["confusion_matrix"] = full_content["confusion_matrix"]
    before = render(content)
    for path in (
        ("history", "loss", 3),
        ("history", "common_features/fashion/mmd", 0),
        ("history", "learning_rate", -1),
        ("confusion_matrix", "counts", 16, 10),
        ("confusion_matrix", "counts", 2, 2),
    ):
        parent, key = _at(content, path)
        kept = parent[key]
        parent[key] = kept * 3
        assert render(content) != before, path
        parent[key] = kept
    assert render(content) == before


def test_page_shows_the_tables_numbers(content):
    page = re.sub(r"<[^>]*>", "", render(content))
    for text in ("98.15 ± 0.30", "90.95 ± 0.64", "−2.00", "91.72 ± 0.44", "551,234", "81.2 kB"):
        assert text in page
    assert "30, 31, crop" in page


def test_page_shows_what_the_canvas_costs_a_teacher_only_where_it_costs(content):
    assert "on the canvas" not in render(content)
    content["tasks"]["fashion"]["teacher_canvas_accuracy"] = 0.25
    page = render(content)
    assert "Teacher on the canvas, %" in page
    assert re.search(r"25\.00.{0,40}0\.97", page)


def test_page_escapes_names(full_content, pictures):
    full_content["confusion_matrix"]["labels"][0] = NASTY
    accuracy = full_content["artifacts"]["student_int8.tflite"]["accuracy"]
    for names in (full_content["tasks"], accuracy):
        names[NASTY] = names.pop("digits")
    full_content["artifacts"][NASTY] = full_content["artifacts"].pop("student.onnx")
    full_content["common_space"] = full_content["choice"] = None
    full_content["confusion_matrix"]["tasks"][:10] = [NASTY] * 10
    full_content["ablation"] = None
    full_content["versions"][NASTY] = full_content["recipe"] = full_content["notes"][0] = NASTY
    full_content["goals"][0]["name"] = NASTY
    full_content["history"] = {"loss": [2.0, 1.0], f"{NASTY.replace('/', '')}/{NASTY[:8]}": [1.0]}
    space = pictures.space
    label = np.where(space.label == "0", NASTY, space.label)
    renamed = CommonSpace(space.points, space.model, space.task, label, seed=5)

    page = render(full_content, Pictures(pictures.samples, renamed))

    assert "<script" not in page
    assert _Loads(page).found == []
    assert page.count("&lt;script&gt;alert(") > 8


def test_page_shows_which_method_was_chosen_and_by_what(full_content):
    page = render(full_content)
    section = page[page.index('id="choice"') : page.index('id="terms"')]
    assert section.count("chosen</small>") == 1
    assert section.index("amalgamation <small>chosen") < section.index("reused_heads</th>")
    assert "mean of the tasks, on 400 unlabelled images" in section
    for number in ("91.25", "88.75", "75.00", "62.50", "55,384"):
        assert number in section
    # 83.1 and 81.9 %, each ± 1.9 by 400 images.
    assert "differ by 1.25 points of agreement, no more than chance makes of 400" in section
    assert "Left out, as the loss diverged: standardized." in section
    full_content["choice"]["diverged"] = []
    assert "the loss diverged" not in render(full_content)
    full_content["choice"]["tried"][1]["agreement"]["digits"] = 0.25
    assert "no more than chance" not in render(full_content)
    full_content["choice"] = None
    assert 'id="choice"' not in render(full_content)


def test_page_says_plainly_what_was_not_run(content):
    content.update(ablation=None, common_space=None)

    page = render(content)

    for what in ("each term removed", "Loss curves", "confusion matrix", "Sample predictions"):
        assert re.search(rf"{what}[^.]*: not run \(<code>make demo-full</code> runs it\)", page)
    assert "make demo-full" not in render(content, full_run=None)


def test_page_shows_a_missed_goal_as_the_number_it_is(content):
    page = render(content)
    row = re.search(r"<tr><th[^>]*>fashion: student within 1 point.*?</tr>", page, re.DOTALL)
    assert row
    assert "−2.00 points" in row[0]
    assert "missed by 1.00 points" in row[0]


def test_page_has_a_text_for_every_picture(page):
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) == page.count("<img ") == 28
    figures = page.count("<figure")
    assert len(re.findall(r"<figure[^>]*role=\"img\" aria-label=\"[^\"]+\"", page)) == figures > 8


def test_ids_of_the_page_are_unique_and_every_reference_is_met(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page))
    assert len(ids) == len(set(ids))
    assert {a or b for a, b in references} <= set(ids)


def test_report_file_is_the_report_in_a_stable_order(content, tmp_path):
    content["history"] = {"loss": [3.0, 2.0, 1.0]}
    turned = {key: content[key] for key in reversed(content)}
    teachers = {**content["teachers"], "parameters": np.int64(551234)}
    turned["teachers"] = dict(reversed(teachers.items()))
    turned["history"] = {"loss": np.array([3.0, 2.0, 1.0])}

    one, _ = write_report(tmp_path / "one", Report.from_dict(content))
    other, _ = write_report(tmp_path / "other", Report.from_dict(turned))

    assert one.read_bytes() == other.read_bytes()
    written = json.loads(one.read_text())
    assert list(written["tasks"]) == ["digits", "fashion"]
    assert written == content


def test_same_report_gives_the_same_page(full_content, pictures, page):
    assert render(full_content, pictures) == page


def test_nothing_is_written_when_the_report_is_not_right_any_more(content, tmp_path):
    report = Report.from_dict(content)
    write_report(tmp_path, report)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    report.tasks["digits"] = dataclasses.replace(report.tasks["digits"], student_accuracy=99.0)

    with pytest.raises(ValueError, match="student_accuracy"):
        write_report(tmp_path, report)
    with pytest.raises(ValueError, match="student_accuracy"):
        write_report(tmp_path / "new", report)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_is_left_half_written_when_writing_fails(content, tmp_path):
    write_report(tmp_path, Report.from_dict(content))
    page = (tmp_path / "report.html").read_bytes()
    content["recipe"] = "\ud800"  # a lone surrogate has no UTF-8

    with pytest.raises(UnicodeEncodeError):
        write_report(tmp_path, Report.from_dict(content))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert (tmp_path / "report.html").read_bytes() == page
    assert json.loads((tmp_path / "report.json").read_text())["recipe"] == "synthetic"


def test_page_names_the_term_whose_removal_changes_nothing(content):
    page = render(content)
    assert "<b>Removing common_features/mmd changes nothing</b>" in page
    assert "<b>Removing common_features gains accuracy</b>" in page


def test_page_does_not_name_a_term_that_matters(content):
    content["ablation"] = content["ablation"][:2]
    page = render(content)
    assert "changes nothing</b>" not in page
    assert "No term is idle" in page
