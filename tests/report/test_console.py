import re

from keras_amalgam.report import Report, format_table


def table_of(content, **options):
    return format_table(Report.from_dict(content), **options)


def test_plain_table_is_aligned(content):
    lines = table_of(content).split("\n\n")[0].split("\n")

    assert lines[0].split("  ")[0] == "task"
    assert len({len(line) for line in lines}) == 1
    assert re.search(
        r"^fashion +90\.95 ± 0\.64 +88\.95 ± 0\.70 +−2\.00 +88\.35 ± 0\.72 +2,000$", lines[3]
    )


def test_markdown_table_has_a_cell_for_every_header(content):
    renamed = [content["tasks"], content["artifacts"]["student_int8.tflite"]["accuracy"]]
    for names in [*renamed, *(run["task_accuracy"] for run in content["ablation"])]:
        names["a|b"] = names.pop("digits")
    content["common_space"] = content["choice"] = None

    tables = table_of(content, markdown=True).split("\n\n")[:-1]

    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n")}
        assert len(bars) == 1
    assert r"a\|b" in tables[0]


def test_table_says_what_was_not_run(content):
    content["artifacts"]["student_int8.tflite"]["accuracy"]["digits"] = None

    table = table_of(content)

    assert re.search(r"digits .*not run", table)
    assert re.search(r"nothing was known of an image \(joint\) +not run", table)
    assert re.search(r"nothing was known of an image \(per task\) +71.25 ± 0.72", table)


def test_table_shows_a_missed_goal_as_the_number_it_is(content):
    line = next(line for line in table_of(content).split("\n") if "within 1 point" in line)
    assert "−2.00 points" in line
    assert line.endswith("missed by 1.00 points")


def test_every_accuracy_of_the_table_comes_from_the_report(content):
    before = table_of(content)
    content["tasks"]["fashion"]["student_accuracy"] = 0.7

    assert "70.00 ± 1.02" in table_of(content)
    assert "70.00" not in before


def test_table_shows_what_each_term_is_worth_if_that_was_run(content):
    (removed,) = [t for t in table_of(content).split("\n\n") if t.startswith("term removed")]
    assert re.search(r"^nothing \(all terms\) +98.15 +88.95 +91.72$", removed, re.MULTILINE)
    assert re.search(
        r"^soft_targets +11.35 +9.25 +5.15 +its removal costs accuracy$", removed, re.MULTILINE
    )
    content["ablation"] = None
    assert "term removed" not in table_of(content)


def test_table_shows_what_the_canvas_costs_a_teacher_only_where_it_costs(content):
    plain = table_of(content)
    fashion = content["tasks"]["fashion"]
    content["tasks"]["digits"]["teacher_own_pipeline_accuracy"] = 0.9935
    assert table_of(content) == plain
    assert "canvas" not in plain

    fashion["teacher_canvas_accuracy"] = 0.25
    header, _, digits, fashion = table_of(content).split("\n\n")[0].split("\n")
    assert re.search(r"teacher % +on the canvas % +student %", header)
    assert re.search(r"^digits +99\.35 ± 0\.18 +99\.35 ± 0\.18 +98\.15", digits)
    assert re.search(r"^fashion +90\.95 ± 0\.64 +25\.00 ± 0\.97 +88\.95", fashion)


def test_column_of_an_artifact_bears_the_precision_it_was_written_in(content):
    small = content["artifacts"].pop("student_int8.tflite")
    content["artifacts"]["student_int16.tflite"] = {**small, "precision": "int16"}

    accuracies, _, _, costs, *_ = table_of(content).split("\n\n")

    assert re.search(r"difference +int16 % +test images", accuracies)
    assert re.search(r"^latency +student, TFLite int16 +0.231 ms$", costs, re.MULTILINE)
    assert "int8" not in accuracies + costs


def test_two_artifacts_of_one_precision_are_told_apart_by_their_names(content):
    other = {**content["artifacts"]["student_int8.tflite"], "format": "onnx"}
    other["accuracy"] = {"digits": 0.5, "fashion": 0.25}
    content["artifacts"]["student_int8.onnx"] = other

    header, _, _, fashion = table_of(content).split("\n\n")[0].split("\n")

    assert re.search(r"student_int8\.tflite % +student_int8\.onnx % +test images", header)
    assert re.search(r"88\.35 ± 0\.72 +25\.00 ± 0\.97 +2,000$", fashion)


def test_students_are_named_by_what_they_knew_in_training(content):
    content["student"]["ownership"] = "per_task"
    content["joint_accuracy"]["compared"] = []
    joint = table_of(content).split("\n\n")[1]
    assert re.search(r"each image's collection was known +not run", joint)
    assert re.search(r"nothing was known of an image +91\.72 ± 0\.44", joint)
