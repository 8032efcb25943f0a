"""The bundle's folder: versions, configuration, and what is left when something fails."""

import shutil
import sys
import threading
import time

import keras
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_amalgam import export
from keras_amalgam.export.parity import DEFAULT_BOUNDS
from keras_amalgam.export.preparation import prepare
from keras_amalgam.export.serving import endpoints, warmup

BOUNDS = DEFAULT_BOUNDS["float32"]


def configuration(bundle):
    text = (bundle / "models.config").read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def entry_of(bundle, name):
    return next(e for e in configuration(bundle).model_config_list.config if e.name == name)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.mark.slow
def test_configuration_serves_down_to_the_oldest_labelled_version_and_one_more(bundle):
    entry = entry_of(bundle, "student")
    assert (entry.base_path, entry.model_platform) == ("/models/student", "tensorflow")
    assert entry.model_version_policy.latest.num_versions == 3
    assert entry_of(bundle, "open-size").model_version_policy.latest.num_versions == 2
    assert dict(entry.version_labels) == {"stable": 1, "canary": 2}
    assert dict(entry_of(bundle, "open-size").version_labels) == {"stable": 7}


@pytest.mark.slow
def test_bundle_holds_what_a_server_reads(bundle, class_names):
    assert sorted(path.name for path in bundle.iterdir()) == [
        "README.md",
        "batching_params.pbtxt",
        "models.config",
        "open-size",
        "student",
    ]
    assert export.read_labels(bundle / "student" / "1") == class_names
    readme = (bundle / "README.md").read_text()
    assert all(word in readme for word in ("/v1/models/student:", "/v1/models/open-size:"))
    assert not [path for path in tree(bundle) if path.split("/")[-1].startswith(".")]


@pytest.mark.slow
def test_record_has_the_agreement_of_every_signature(student, images, tmp_path):
    artifact = export.to_serving(student, tmp_path / "a" / "b", 3, images=images[:5])
    assert artifact.path == tmp_path / "a" / "b" / "student" / "3"
    assert artifact.format == "serving"
    assert set(artifact.parity["signatures"]) == {
        "serving_default",
        "uint8",
        "encoded",
        "classify",
    }
    assert all(one["max_abs_error"] <= 1e-4 for one in artifact.parity["signatures"].values())


@pytest.mark.slow
def test_version_is_never_overwritten(student, copy):
    before = tree(copy)
    with pytest.raises(ValueError, match=r"exists already.*version=2 .*holds \[1, 2\]"):
        export.to_serving(student, copy, 2)
    assert tree(copy) == before


@pytest.mark.slow
def test_next_free_version_becomes_the_stable_one(student, copy):
    assert export.to_serving(student, copy).path.name == "3"
    assert dict(entry_of(copy, "student").version_labels) == {"stable": 3, "canary": 2}


@pytest.mark.slow
def test_old_versions_are_pruned_but_labelled_ones_stay(student, copy):
    export.to_serving(student, copy)
    export.to_serving(student, copy)
    export.to_serving(student, copy, keep=1)
    assert sorted(path.name for path in (copy / "student").iterdir()) == ["2", "5"]
    # Both that are there, with those between them that the last export found, and one more.
    assert entry_of(copy, "student").model_version_policy.latest.num_versions == 5
    assert (copy / "open-size" / "7").is_dir()


@pytest.mark.slow
def test_what_an_operator_set_by_hand_stays(student, copy):
    config = configuration(copy)
    entry = next(e for e in config.model_config_list.config if e.name == "student")
    entry.base_path = "/elsewhere"
    entry.model_version_policy.latest.num_versions = 9
    (copy / "models.config").write_text(text_format.MessageToString(config))
    (copy / "batching_params.pbtxt").write_text("max_batch_size { value: 8 }\n")
    export.to_serving(student, copy)
    entry = entry_of(copy, "student")
    assert entry.base_path == "/elsewhere"
    assert entry.model_version_policy.latest.num_versions == 9
    assert (copy / "batching_params.pbtxt").read_text() == "max_batch_size { value: 8 }\n"


@pytest.mark.slow
def test_versions_that_an_operator_named_stay_named_with_the_labelled_ones(student, copy):
    config = configuration(copy)
    entry = next(e for e in config.model_config_list.config if e.name == "student")
    entry.model_version_policy.specific.versions.extend([1, 90])
    (copy / "models.config").write_text(text_format.MessageToString(config))
    export.to_serving(student, copy)
    assert list(entry_of(copy, "student").model_version_policy.specific.versions) == [1, 2, 3]


@pytest.mark.slow
def test_models_and_versions_of_others_stay_and_are_counted(student, tmp_path):
    (tmp_path / "foreign" / "3").mkdir(parents=True)
    (tmp_path / "student" / "00000009").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"exists already.*version=9 .*holds \[9\]"):
        export.to_serving(student, tmp_path, 9)
    assert export.to_serving(student, tmp_path).path.name == "10"
    assert "## foreign" not in (tmp_path / "README.md").read_text()
    assert {"foreign/3", "student/00000009"} <= set(tree(tmp_path))


@pytest.mark.slow
def test_exports_at_once_get_a_version_each(student, tmp_path):
    begun, results = threading.Event(), []

    def first():
        def look_at_it(_):
            begun.set()
            time.sleep(2)  # Time for the other one to find the same number free.

        results.append(export.to_serving(student, tmp_path, label="one", check=look_at_it))

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(60)
    results.append(export.to_serving(student, tmp_path, label="two"))
    thread.join()
    assert sorted(one.path.name for one in results) == ["1", "2"]
    assert all((one.path / "saved_model.pb").is_file() for one in results)
    assert dict(entry_of(tmp_path, "student").version_labels) == {"one": 1, "two": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 0}, "positive whole number. Received: 0"),
        ({"version": "1"}, "positive whole number. Received: '1'"),
        ({"name": "a/b"}, "`name` cannot stand in a server's address. Received: 'a/b'"),
        ({"name": "12"}, "`name` cannot stand"),
        ({"label": ""}, "`label` cannot stand"),
        ({"keep": 0}, "keep=0. Expected: 1 or more"),
        ({"keep": "2"}, "keep='2'. Expected: 1 or more"),
        ({"version": True}, "positive whole number. Received: True"),
        ({"top_k": 1.5}, "top_k=1.5. Expected: 1 or more"),
        ({"top_k": 0}, "top_k=0. Expected: 1 or more"),
        ({"images": np.zeros((1, 5, 5, 3), "uint8")}, "does not fit the model's input"),
    ],
)
@pytest.mark.slow
def test_refusal_leaves_nothing(arguments, message, student, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_serving(student, tmp_path / "new" / "bundle", **arguments)
    assert tree(tmp_path) == []


@pytest.mark.slow
def test_disagreement_leaves_nothing(student, tmp_path, monkeypatch):
    run = endpoints.run

    def shifted(*arguments):
        said = run(*arguments)
        answers = {head: logits + 1.0 for head, logits in said["serving_default"].items()}
        return said | {"serving_default": answers}

    monkeypatch.setattr(endpoints, "run", shifted)
    with pytest.raises(ValueError, match="Bundle '.*1', signature 'serving_default', disagrees"):
        export.to_serving(student, tmp_path / "new" / "bundle")
    assert tree(tmp_path) == []


@pytest.mark.slow
def test_configuration_that_cannot_be_read_is_refused_and_kept(student, copy):
    (copy / "models.config").write_text("model_config_list { nonsense: 1 }")
    before = tree(copy)
    with pytest.raises(ValueError, match="configuration cannot be read.*nonsense"):
        export.to_serving(student, copy)
    assert tree(copy) == before
    assert (copy / "models.config").read_text() == "model_config_list { nonsense: 1 }"


@pytest.mark.slow
def test_failure_keeps_the_bundle_as_it_was(student, copy, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(endpoints, "check", interrupted)
    before, config = tree(copy), (copy / "models.config").read_text()
    with pytest.raises(KeyboardInterrupt):
        export.to_serving(student, copy)
    assert tree(copy) == before
    assert (copy / "models.config").read_text() == config


@pytest.mark.slow
def test_watching_server_never_sees_a_part_of_a_version(student, copy):
    whole, seen, done = set(tree(copy / "student" / "1")), {}, threading.Event()

    def watch():
        # As TF Serving does: whatever is named by a number is a version and is loaded at once.
        while not done.is_set():
            for folder in (copy / "student").iterdir():
                if folder.name.isdecimal() and folder.name not in seen:
                    seen[folder.name] = set(tree(folder))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    export.to_serving(student, copy)
    time.sleep(0.1)
    done.set()
    watcher.join()
    assert seen["3"] == whole


def test_missing_definitions_are_named_before_anything_is_written(student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.predict_pb2", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-amalgam\[serving\]'"):
        export.to_serving(student, tmp_path / "bundle")
    assert tree(tmp_path) == []


def test_head_that_is_a_map_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, {"seg": keras.layers.Conv2D(2, 1, name="seg")(image)})
    with pytest.raises(ValueError, match=r"maps at \['seg'\]"):
        export.to_serving(model, tmp_path, class_names={"seg": ("a", "b")})


@pytest.mark.slow
def test_bundle_of_a_sabotaged_student_does_not_pass(twin, student, class_names, images, tmp_path):
    path = export.to_serving(twin, tmp_path, class_names=class_names, images=images).path
    job = prepare(student, class_names).compared_on(images)
    photographs, _ = endpoints._seen_in_files(job, None)
    every = endpoints.run(path, images, photographs)
    for name in ("serving_default", "uint8", "encoded", "classify"):
        given = {name: every[name]}
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(ValueError, match=f"signature '{name}', disagrees"),
        ):
            patch.setattr(endpoints, "run", lambda *_, given=given: given)
            endpoints.check(path, job, BOUNDS, "The twin")


@pytest.mark.slow
def test_classes_in_another_order_do_not_pass(student, class_names, images, tmp_path):
    reordered = class_names | {"colour": class_names["colour"][::-1]}
    path = export.to_serving(student, tmp_path, class_names=reordered, images=images).path
    with pytest.raises(ValueError, match="signature 'classify', disagrees.*head 'colour'"):
        endpoints.check(path, prepare(student, class_names).compared_on(images), BOUNDS, "The twin")


def test_warm_up_that_cannot_be_written_is_an_os_error(images, tmp_path):
    (tmp_path / warmup.FOLDER / warmup.FILE_NAME).mkdir(parents=True)
    with pytest.raises(OSError, match="warm-up requests cannot be written"):
        warmup.write(tmp_path, "student", images)
