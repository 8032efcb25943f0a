"""A folder of verified artifacts: all of it or nothing."""

import functools
import json

import pytest

from keras_amalgam import export
from keras_amalgam.export.verification import reference

pytestmark = pytest.mark.usefixtures("verified_here")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def labelled(student, images):
    said = student(images, training=False)
    return {head: (images, values.numpy().argmax(-1)) for head, values in said.items()}


@pytest.fixture(scope="module")
def exporters(images):
    return {
        "student.tflite": export.to_tflite,
        "student_int8.tflite": functools.partial(
            export.to_tflite, precision="int8", calibration=images
        ),
        "student.onnx": export.to_onnx,
    }


@pytest.fixture(scope="module")
def packaged(student, exporters, images, labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaged") / "dist"
    verified = export.package(
        student,
        folder,
        exporters,
        images,
        labelled=labelled,
        thresholds=export.Thresholds(max_accuracy_loss=5.0, max_bytes=100_000),
    )
    return folder, verified


def test_folder_holds_the_artifacts_and_one_report(packaged, student):
    folder, verified = packaged
    assert names(folder) == [
        "export.html",
        "export.json",
        "student.metadata.json",
        "student.onnx",
        "student.tflite",
        "student_int8.metadata.json",
        "student_int8.tflite",
    ]
    document = json.loads((folder / "export.json").read_text())
    assert document["student"] == "student" and document["versions"]["keras"]
    for name, one in verified.items():
        said = document["artifacts"][name]
        assert said == json.loads(json.dumps(one.to_dict()))
        assert said["bytes"] == (folder / name).stat().st_size
        assert said["accuracy"]["colour"]["student"] == 1.0


def test_student_is_asked_once_for_all_artifacts(student, exporters, images, tmp_path, monkeypatch):
    asked = []
    answers = reference.answers

    def counted(*arguments):
        asked.append(arguments)
        return answers(*arguments)

    monkeypatch.setattr(reference, "answers", counted)
    files = {name: exporters[name] for name in ("student.tflite", "student.onnx")}
    export.package(student, tmp_path / "dist", files, images[:4])
    assert len(asked) == 2  # On what an application hands over, and as it was evaluated.


def test_table_and_page_say_what_was_measured(packaged):
    from keras_amalgam.export.verification import report

    folder, verified = packaged
    table, page = report.table(verified), (folder / "export.html").read_text()
    for name, one in verified.items():
        median = f"{one.measured['latency_ms']['one_thread']['median']:.3g}"
        (row,) = [line for line in table.splitlines() if line.startswith(f"{name} ")]
        assert median in row and one.artifact.precision in row
        assert f">{median}<" in page
    assert "student_int8.tflite: colour" in table
    assert "Thresholds: max_accuracy_loss 5, max_bytes 100000." in page
    held_to = "an error of 25 % of the largest logit, a mean of 5 %, the same class on 90 %"
    assert f"of student_int8.tflite {held_to}" in page
    assert "<script" not in page and "://" not in page


@pytest.mark.slow
def test_missed_threshold_leaves_nothing_and_says_all_that_is_missed(
    student, exporters, images, tmp_path
):
    with pytest.raises(ValueError, match=r"thresholds are missed.*student\.tflite: .*too large"):
        export.package(
            student,
            tmp_path / "dist",
            {name: exporters[name] for name in ("student.tflite", "student.onnx")},
            images,
            thresholds=export.Thresholds(max_bytes=1000),
        )
    assert names(tmp_path) == []


def test_earlier_folder_is_kept_when_the_new_one_fails(packaged, student, exporters, images):
    folder, _ = packaged
    before = (folder / "export.json").read_text()
    with pytest.raises(FileExistsError, match="exists already"):
        export.package(student, folder, exporters, images)
    with pytest.raises(ValueError, match="thresholds are missed"):
        export.package(
            student,
            folder,
            {"student.onnx": exporters["student.onnx"]},
            images,
            thresholds=export.Thresholds(max_error=1e-12),
            overwrite=True,
        )
    assert (folder / "export.json").read_text() == before


@pytest.mark.slow
def test_files_that_the_report_does_not_list_are_never_replaced(
    student, exporters, images, tmp_path
):
    only, folder = {"student.tflite": exporters["student.tflite"]}, tmp_path / "dist"
    limits = export.Thresholds(max_bytes=100_000)
    folder.mkdir()  # Empty: nothing is lost.
    export.package(student, folder, only, images, thresholds=limits)
    document = json.loads((folder / "export.json").read_text())
    assert document["files"] == names(folder)
    assert document["thresholds"]["max_bytes"] == 100_000
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"export.json and only what was written with it"):
        export.package(student, folder, only, images, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    export.package(student, folder, only, images, overwrite=True)


@pytest.mark.parametrize("given", [{}, {"a/b.tflite": export.to_tflite}])
def test_names_must_be_plain(given, student, images, tmp_path):
    with pytest.raises(ValueError, match="`exporters` names what to write"):
        export.package(student, tmp_path / "dist", given, images)
    assert names(tmp_path) == []


@pytest.mark.slow
def test_first_fallback_that_keeps_the_thresholds_takes_the_place(
    student, exporters, images, tmp_path
):
    other = {
        "student_dynamic.tflite": functools.partial(export.to_tflite, precision="dynamic"),
        "student_float16.tflite": functools.partial(export.to_tflite, precision="float16"),
        "student_unneeded.tflite": export.to_tflite,
    }
    verified = export.package(
        student,
        tmp_path / "dist",
        {key: exporters[key] for key in ("student.tflite", "student_int8.tflite")},
        images,
        thresholds=export.Thresholds(max_error=0.01),
        fallbacks={"student_int8.tflite": other},
    )
    assert list(verified) == ["student.tflite", "student_float16.tflite"]
    placed = verified["student_float16.tflite"]
    assert placed.measured["heads"]["colour"]["max_abs_error"] <= 0.01
    assert placed.artifact.path == tmp_path / "dist" / "student_float16.tflite"
    assert list(placed.instead_of) == ["student_int8.tflite", "student_dynamic.tflite"]
    assert all(
        "disagrees with the student" in text
        for missed in placed.instead_of.values()
        for text in missed
    )
    assert names(tmp_path / "dist") == [
        "export.html",
        "export.json",
        "student.metadata.json",
        "student.tflite",
        "student_float16.metadata.json",
        "student_float16.tflite",
    ]
    document = json.loads((tmp_path / "dist" / "export.json").read_text())
    said = document["artifacts"]["student_float16.tflite"]["instead_of"]
    assert list(said) == ["student_int8.tflite", "student_dynamic.tflite"]
    page = (tmp_path / "dist" / "export.html").read_text()
    assert "<b>student_float16.tflite</b> stands for student_int8.tflite" in page


@pytest.mark.slow
def test_no_fallback_is_tried_where_none_is_needed(student, exporters, images, tmp_path):
    def never(*_, **__):
        raise AssertionError("It was written.")

    fallbacks = {"student.tflite": {"other.tflite": never}}
    only = {"student.tflite": exporters["student.tflite"]}
    verified = export.package(student, tmp_path / "dist", only, images, fallbacks=fallbacks)
    assert list(verified) == ["student.tflite"]
    assert verified["student.tflite"].instead_of == {}


@pytest.mark.slow
def test_fallback_that_misses_as_well_fails_and_one_that_cannot_be_written_is_passed_over(
    student, exporters, images, tmp_path
):
    strict = functools.partial(export.to_tflite, precision="float16", tolerance=1e-12)
    only = {"student_int8.tflite": exporters["student_int8.tflite"]}
    arguments = {"thresholds": export.Thresholds(max_error=1e-4)}
    with pytest.raises(ValueError, match="disagrees with the Keras model"):
        fallbacks = {"student_int8.tflite": {"half.tflite": strict}}
        export.package(student, tmp_path / "dist", only, images, fallbacks=fallbacks, **arguments)
    assert names(tmp_path) == []
    with pytest.raises(ValueError) as raised:
        export.package(student, tmp_path / "dist", only, images, fallbacks=fallbacks, **arguments)
    said = str(raised.value)
    assert "Nothing can stand for 'student_int8.tflite'" in said
    assert "student_int8.tflite: Task 'colour' disagrees" in said and "half.tflite: " in said
    fallbacks = {"student_int8.tflite": {"half.tflite": strict, "whole.tflite": export.to_tflite}}
    verified = export.package(
        student, tmp_path / "dist", only, images, fallbacks=fallbacks, **arguments
    )
    (one,) = verified.values()
    assert "1e-12" in one.instead_of["half.tflite"][0]
    assert "/." not in one.instead_of["half.tflite"][0]


@pytest.mark.slow
def test_fallback_without_a_form_in_its_precision_is_passed_over(
    student, exporters, images, tmp_path
):
    """Label ids have no int16 form."""
    ids = functools.partial(export.to_tflite, calibration=images, top_k=2)
    others = {
        "int16.tflite": functools.partial(ids, precision="int16"),
        "float16.tflite": functools.partial(ids, precision="float16"),
    }
    verified = export.package(
        student,
        tmp_path / "dist",
        {"int8.tflite": functools.partial(ids, precision="int8", tolerance=1e-12)},
        images,
        fallbacks={"int8.tflite": others},
    )
    assert "no integer form" in verified["float16.tflite"].instead_of["int16.tflite"][0]


@pytest.mark.parametrize(
    "fallbacks",
    [
        {"unwritten.tflite": {"other.tflite": export.to_tflite}},
        {"student.tflite": {"student.onnx": export.to_onnx}},
    ],
)
def test_fallbacks_of_nothing_or_under_taken_names_are_refused(
    student, exporters, images, fallbacks, tmp_path
):
    with pytest.raises(ValueError, match="Expected: keys of `exporters`, and new names"):
        export.package(student, tmp_path / "dist", exporters, images, fallbacks=fallbacks)
    assert names(tmp_path) == []


@pytest.mark.slow
def test_what_earlier_fallbacks_missed_is_said_as_well(student, exporters, images, tmp_path):
    fallbacks = {
        "student_int8.tflite": {
            "half.tflite": functools.partial(export.to_tflite, precision="float16")
        }
    }
    only = {"student_int8.tflite": exporters["student_int8.tflite"]}
    strict = export.Thresholds(max_error=1e-9)
    with pytest.raises(ValueError, match="thresholds are missed") as raised:
        export.package(
            student, tmp_path / "dist", only, images, thresholds=strict, fallbacks=fallbacks
        )
    assert "half.tflite: Task 'colour'" in str(raised.value)
    assert "student_int8.tflite: Task 'colour'" in str(raised.value)


@pytest.mark.parametrize(
    ("taken", "other"),
    [
        ("export.json", None),
        ("export.html", None),
        ("student.metadata.json", "student.tflite"),
        ("student.labels.json", "student.keras"),
    ],
)
def test_names_of_what_is_written_anyway_are_refused(taken, other, student, images, tmp_path):
    given = {taken: export.to_saved_model} | ({other: export.to_tflite} if other else {})
    with pytest.raises(ValueError, match=f"is written anyway. Received: \\['{taken}'\\]"):
        export.package(student, tmp_path / "dist", given, images)
    assert names(tmp_path) == []


@pytest.mark.slow
def test_bundle_in_the_folder_can_be_verified_where_it_is(student, images, tmp_path):
    given = {"serving": export.to_serving}
    verified = export.package(student, tmp_path / "new" / "dist", given, images[:4])
    artifact = verified["serving"].artifact
    assert artifact.path == tmp_path / "new" / "dist" / "serving" / student.name / "1"
    assert export.verify(artifact, student, images[:4], repeats=1).missed == ()


@pytest.mark.slow
def test_failed_packaging_leaves_no_folder_above_the_one_asked_for(student, images, tmp_path):
    strict = export.Thresholds(max_bytes=1)
    with pytest.raises(ValueError, match="is too large"):
        export.package(
            student,
            tmp_path / "new" / "dist",
            {"a.keras": export.to_keras},
            images[:4],
            thresholds=strict,
        )
    assert names(tmp_path) == []
