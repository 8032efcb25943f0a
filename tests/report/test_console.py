import re

from keras_amalgam.report import format_table


def test_plain_table_is_aligned(report):
    lines = format_table(report).split("\n\n")[0].split("\n")

    assert lines[0].split("  ")[0] == "task"
    assert len({len(line) for line in lines}) == 1
    assert re.search(
        r"^fashion +90\.95 ± 0\.64 +88\.95 ± 0\.70 +−2\.00 +88\.35 ± 0\.72 +2,000$", lines[3]
    )


def test_markdown_table_has_a_cell_for_every_header(report):
    for entry in (report, *report["ablation"]):
        entry["tasks"]["a|b"] = entry["tasks"].pop("digits")

    tables = format_table(report, markdown=True).split("\n\n")[:-1]

    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n")}
        assert len(bars) == 1
    assert r"a\|b" in tables[0]


def test_table_says_what_was_not_run(report):
    report["tasks"]["digits"]["tflite_int8_accuracy"] = None

    table = format_table(report)

    assert re.search(r"digits .*not run", table)
    assert re.search(r"nothing was known of an image +not run", table)
    assert re.search(r"nothing was known of an image \(per task\) +71.25 ± 0.72", table)


def test_table_shows_a_missed_goal_as_the_number_it_is(report):
    line = next(line for line in format_table(report).split("\n") if "within 1 point" in line)
    assert "−2.00 points" in line
    assert line.endswith("missed by 1.00 points")


def test_every_accuracy_of_the_table_comes_from_the_report(report):
    before = format_table(report)
    report["tasks"]["fashion"]["student_accuracy"] = 0.7

    assert "70.00 ± 1.02" in format_table(report)
    assert "70.00" not in before


def test_table_shows_what_each_term_is_worth_if_that_was_run(report):
    (removed,) = [t for t in format_table(report).split("\n\n") if t.startswith("term removed")]
    assert re.search(r"^nothing \(all terms\) +98.15 +88.95 +91.72$", removed, re.MULTILINE)
    assert re.search(
        r"^soft_targets +11.35 +9.25 +5.15 +its removal costs accuracy$", removed, re.MULTILINE
    )
    report["ablation"] = []
    assert "term removed" not in format_table(report)


def test_table_shows_what_the_canvas_costs_a_teacher_only_where_it_costs(report):
    plain = format_table(report)
    for entry in report["tasks"].values():
        entry["teacher_canvas_accuracy"] = entry["teacher_accuracy"]
    assert format_table(report) == plain
    assert "canvas" not in plain

    report["tasks"]["fashion"]["teacher_canvas_accuracy"] = 0.25
    header, _, digits, fashion = format_table(report).split("\n\n")[0].split("\n")
    assert re.search(r"teacher % +on the canvas % +student %", header)
    assert re.search(r"^digits +99\.35 ± 0\.18 +99\.35 ± 0\.18 +98\.15", digits)
    assert re.search(r"^fashion +90\.95 ± 0\.64 +25\.00 ± 0\.97 +88\.95", fashion)
