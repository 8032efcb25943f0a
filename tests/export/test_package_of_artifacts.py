"""A folder of verified artifacts: all of it or nothing."""

import functools
import json

import pytest

from keras_amalgam import export


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
    assert "<script" not in page and "://" not in page


def test_missed_threshold_leaves_nothing_and_says_all_that_is_missed(
    student, exporters, images, tmp_path
):
    with pytest.raises(ValueError, match=r"2 thresholds are missed.*student\.tflite: .*too large"):
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


@pytest.mark.parametrize("given", [{}, {"a/b.tflite": export.to_tflite}])
def test_names_must_be_plain(given, student, images, tmp_path):
    with pytest.raises(ValueError, match="`exporters` names what to write"):
        export.package(student, tmp_path / "dist", given, images)
    assert names(tmp_path) == []
