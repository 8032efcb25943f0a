"""`export.predict` says what each artifact's own runtime says of photographs."""

import dataclasses
import functools
import io
import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

import keras_amalgam as ka
from keras_amalgam import export
from keras_amalgam.export.prediction.choosing import choose
from keras_amalgam.images.resizing import Resize

SIDE = 16
NAMES = {"colour": ("red", "green", "blue"), "side": ("left", "right")}


def tinted(count, seed):
    """Noisy photographs of one colour, bright on one side; with the numbers of both."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        colour, side = number % 3, number % 2
        photo = rng.integers(0, 90, (3 * SIDE + number, 4 * SIDE, 3))
        photo[..., colour] += 60
        half = photo.shape[1] // 2
        photo[:, side * half : (side + 1) * half] += 90
        yield photo.astype(np.uint8), colour, side


def student_of(names=NAMES, resize=Resize):
    """A student that tells the colour and the brighter side of a photograph."""
    image = keras.Input((None, None, 3))
    begin = resize((SIDE, SIDE)) if resize is Resize else resize(SIDE, SIDE)
    x = keras.layers.Rescaling(1 / 255)(begin(image))
    colour = keras.layers.Dense(3, name="colour")
    side = keras.layers.Dense(2, name="side")
    heads = {
        "colour": colour(keras.layers.GlobalAveragePooling2D()(x)),
        "side": side(keras.layers.Flatten()(x)),
    }
    model = keras.Model(image, heads, name="tints")
    colour.set_weights([12 * np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    places = np.zeros((SIDE, SIDE, 3, 2), "float32")
    places[:, : SIDE // 2, :, 0] = places[:, SIDE // 2 :, :, 1] = 5 / (SIDE * SIDE)
    side.set_weights([places.reshape(-1, 2), np.zeros(2, "float32")])
    model.class_names = names
    return model


@pytest.fixture(scope="module")
def student():
    return student_of()


@dataclasses.dataclass(frozen=True)
class Made:
    folder: Path
    photos: Path


@pytest.fixture(scope="module")
def calibration():
    photos = [Image.fromarray(photo).resize((SIDE, SIDE)) for photo, *_ in tinted(24, seed=1)]
    return np.stack([np.asarray(photo) for photo in photos])


@pytest.fixture(scope="module")
def made(student, calibration, tmp_path_factory):
    """Three artifacts, of three runtimes, and photographs of several sizes."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos" / "more").mkdir(parents=True)
    for number, (photo, *_) in enumerate(tinted(4, seed=0)):
        place = "photos/more" if number == 3 else "photos"
        Image.fromarray(photo).save(folder / place / f"{number}.png")
    export.to_keras(student, folder / "tints.keras")
    export.to_onnx(student, folder / "tints.onnx", layout="NCHW")
    integers = {"image_dtype": "int8", "head_dtype": "int8", "joint": True, "top_k": 2}
    export.to_tflite(student, folder / "tints.tflite", "int8", calibration, **integers)
    return Made(folder, folder / "photos")


def opened(photo):
    return ImageOps.exif_transpose(Image.open(photo)).convert("RGB")


def in_litert(path, photo):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    image, answers = runner.get_input_details()["image"], runner.get_output_details()
    small = np.asarray(opened(photo).resize((SIDE, SIDE), Image.Resampling.BILINEAR), "float32")
    _, zero_point = image["quantization"]
    given = (small[None] + zero_point).astype(image["dtype"])
    outputs = {}
    for head, values in runner(image=given).items():
        scale, zero_point = answers[head]["quantization"]
        outputs[head] = (values.astype("float64") - zero_point) * scale if scale else values
    return outputs


def in_onnxruntime(path, photo):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.asarray(opened(photo), "float32")[None]
    if session.get_inputs()[0].shape[1] == 3:
        image = image.transpose(0, 3, 1, 2)
    heads = [output.name for output in session.get_outputs()]
    return dict(zip(heads, session.run(heads, {"image": image}), strict=True))


@functools.cache
def loaded_in_keras(path):
    return keras.saving.load_model(path, compile=False)


def in_keras(path, photo):
    outputs = loaded_in_keras(path)(np.asarray(opened(photo), "float32")[None], training=False)
    return {head: values.numpy() for head, values in outputs.items()}


@functools.cache
def loaded_in_tensorflow(path):
    import tensorflow as tf

    return tf.saved_model.load(str(path))


def in_tensorflow(path, photo):
    import tensorflow as tf

    loaded = loaded_in_tensorflow(path)
    if "encoded" in loaded.signatures:
        outputs = loaded.signatures["encoded"](image=tf.constant([photo.read_bytes()]))
    else:
        image = tf.constant(np.asarray(opened(photo), "float32")[None])
        outputs = loaded.signatures["serving_default"](image=image)
    return {head: values.numpy() for head, values in outputs.items()}


RUNTIMES = {".tflite": in_litert, ".onnx": in_onnxruntime, ".keras": in_keras}


def softmax(logits):
    shares = np.exp(np.asarray(logits, "float64"))
    return shares / shares.sum()


def spread(scores, length):
    """Scores by number, as an array in the order of the numbers."""
    assert len(scores) == length
    assert [one.score for one in scores] == sorted((one.score for one in scores), reverse=True)
    return np.array([one.score for one in sorted(scores, key=lambda one: one.number)])


def assert_says_as_its_runtime(said, runtime, path, names=NAMES):
    for one in said.images:
        outputs = runtime(path, one.image)
        assert set(one.tasks) == set(names)
        for task, classes in names.items():
            assert {score.name for score in one.tasks[task]} == set(classes)
            assert all(classes[score.number] == score.name for score in one.tasks[task])
            expected = softmax(outputs[task][0])
            np.testing.assert_allclose(spread(one.tasks[task], len(classes)), expected, atol=1e-5)
        joint = outputs.get("joint", np.concatenate([outputs[task] for task in names], axis=-1))
        np.testing.assert_allclose(spread(one.joint, 5), softmax(joint[0]), atol=1e-5)


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_scores_are_those_of_the_artifacts_own_runtime(made, suffix):
    path = made.folder / f"tints{suffix}"
    said = export.predict(path, made.photos, top=9)
    assert [str(one.image.relative_to(made.photos)) for one in said.images] == [
        "0.png",
        "1.png",
        "2.png",
        "more/3.png",
    ]
    assert said.artifact == str(path) and not said.unreadable
    assert_says_as_its_runtime(said, RUNTIMES[suffix], path)
    for one, (_, colour, side) in zip(said.images, tinted(4, seed=0), strict=True):
        assert one.tasks["colour"][0].name == NAMES["colour"][colour]
        assert one.tasks["side"][0].name == NAMES["side"][side]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8", "int16"])
def test_scores_are_litert_s_in_every_precision(made, student, calibration, tmp_path, precision):
    given = calibration if precision.startswith("int") else None
    path = export.to_tflite(student, tmp_path / "tints.tflite", precision, given).path
    assert_says_as_its_runtime(export.predict(path, made.photos, top=9), in_litert, path)


@pytest.mark.slow
def test_scores_are_those_of_the_other_formats(made, student, tmp_path):
    batches = export.to_tflite(student, tmp_path / "open.tflite", batch=None, top_k=1).path
    onnx = export.to_onnx(student, tmp_path / "tints.onnx").path
    saved = export.to_saved_model(student, tmp_path / "tints").path
    for path, runtime in (
        (batches, in_litert),
        (onnx, in_onnxruntime),
        (saved, in_tensorflow),
    ):
        said = export.predict(path, made.photos, top=9)
        assert_says_as_its_runtime(said, runtime, path)


@pytest.mark.slow
def test_bundle_is_asked_about_the_files_themselves(made, student, tmp_path):
    version = export.to_serving(student, tmp_path / "serving").path
    opened(made.photos / "0.png").save(tmp_path / "0.bmp")
    said = export.predict(tmp_path / "serving", [made.photos, tmp_path / "0.bmp"], top=9)
    assert said.format == "serving" and said.artifact == str(version)
    *of_png, of_bmp = said.images
    assert of_bmp.tasks == of_png[0].tasks
    assert_says_as_its_runtime(dataclasses.replace(said, images=of_png), in_tensorflow, version)


def test_newest_version_of_a_bundles_only_model_is_asked(tmp_path):
    def version(name):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").touch()

    (tmp_path / "models.config").touch()
    for name in ("tints/1", "tints/9", "tints/10"):
        version(name)
    (tmp_path / "tints" / "11").mkdir()  # No model is in it.
    for path, artifact, wanted in (
        ("", None, "tints/10"),
        ("", "tints", "tints/10"),
        ("", "tints/1", "tints/1"),
        ("tints", None, "tints/10"),
        ("tints", "9", "tints/9"),
    ):
        assert choose(tmp_path / path, artifact) == tmp_path / wanted
    version("other/1")
    with pytest.raises(ValueError, match=r"Several artifacts.*'other', 'other/1', 'tints'"):
        choose(tmp_path)
    assert choose(tmp_path, "other") == tmp_path / "other" / "1"


def test_teacher_is_asked_with_its_own_preprocessing(made, tmp_path):
    network = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    network.layers[-1].set_weights([2 * np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    preprocessing = ka.Preprocessing(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    teacher = ka.Teacher(network, "tint", NAMES["colour"], preprocessing=preprocessing)
    teacher.save(tmp_path / "tint")
    said = export.predict(tmp_path / "tint", made.photos)
    assert said.format == "teacher" and said.images == export.predict(teacher, made.photos).images
    for one in said.images:
        small = opened(one.image).resize((8, 8), Image.Resampling.BILINEAR)
        scaled = (np.asarray(small) / 255 - (0.5, 0.4, 0.3)) / 0.2
        expected = softmax(2 * scaled.mean(axis=(0, 1)))
        # Pillow rounds to whole grey levels between height and width.
        np.testing.assert_allclose(spread(one.tasks["tint"], 3), expected, atol=0.01)
        assert one.joint == ()


def test_student_in_memory_says_what_its_file_says(made, student):
    photo = made.photos / "0.png"
    said = export.predict(student, photo)
    assert said.images == export.predict(made.folder / "tints.keras", photo).images
    assert said.artifact == "tints" and said.class_names == NAMES


def test_student_that_shrinks_plainly_gets_images_of_its_own_size(made):
    plain = student_of(resize=keras.layers.Resizing)
    checked = np.zeros((4 * SIDE, 4 * SIDE, 3), np.uint8)
    # What lies between the pixels that a plain resize looks at.
    checked[::4, :, 0] = checked[3::4, :, 0] = 255
    Image.fromarray(checked).save(made.folder / "rows.png")
    (one,) = export.predict(plain, made.folder / "rows.png").images
    small = opened(made.folder / "rows.png").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    expected = np.asarray(plain(np.asarray(small, "float32")[None], training=False)["colour"])[0]
    np.testing.assert_allclose(spread(one.tasks["colour"], 3), softmax(expected), atol=1e-5)
    plainly = np.asarray(plain(checked[None].astype("float32"), training=False)["colour"])[0]
    assert np.abs(softmax(plainly) - softmax(expected)).max() > 0.1


@pytest.mark.parametrize("orientation", [2, 3, 6])
@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_photograph_is_turned_as_exif_says(made, tmp_path, suffix, orientation):
    upright = opened(made.photos / "1.png")
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.transpose(stored).save(tmp_path / "turned.png", exif=exif)
    upright.transpose(stored).save(tmp_path / "stored.png")
    path = made.folder / f"tints{suffix}"
    files = [made.photos / "1.png", tmp_path / "turned.png", tmp_path / "stored.png"]
    plain, turned, as_stored = export.predict(path, files).images
    assert turned.tasks == plain.tasks
    assert as_stored.tasks["side"] != plain.tasks["side"]


def test_other_class_names_are_other_names(made, tmp_path):
    """The twin: permuted in the labels beside the file, the names of the same scores differ."""
    shutil.copy(made.folder / "tints.keras", tmp_path)
    beside = tmp_path / "tints.labels.json"
    beside.write_text(json.dumps({**NAMES, "colour": ["green", "blue", "red"]}))
    (said,) = export.predict(tmp_path / "tints.keras", made.photos / "0.png").images
    (right,) = export.predict(made.folder / "tints.keras", made.photos / "0.png").images
    assert right.tasks["colour"][0].name == "red" and said.tasks["colour"][0].name == "green"
    scores, others = ([one.score for one in x.tasks["colour"]] for x in (said, right))
    assert scores == others
    swapped = export.predict(tmp_path / "tints.keras", made.photos / "0.png", top=9)
    with pytest.raises(AssertionError):
        assert_says_as_its_runtime(swapped, in_keras, made.folder / "tints.keras")


def test_classes_without_names_are_numbers(made, tmp_path):
    shutil.copy(made.folder / "tints.keras", tmp_path)
    said = export.predict(tmp_path / "tints.keras", made.photos / "2.png", top=1)
    assert said.class_names == {"colour": (), "side": ()}
    (blue,) = said.images[0].tasks["colour"]
    assert (blue.number, blue.name, blue.title) == (2, None, "2")
    assert said.images[0].joint == ()
    named = export.predict(tmp_path / "tints.keras", made.photos / "2.png", class_names=NAMES)
    assert named.images[0].tasks["colour"][0].name == "blue" and named.images[0].joint


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_student_of_ours_is_not_doubted_even_without_its_labels(
    made, make, tmp_path, channels, cuts
):
    shape = (SIDE, SIDE, channels)
    features = keras.Sequential([keras.Input(shape), keras.layers.Conv2D(4, 3)])
    teacher = make.teacher("digits", ("0", "1", "2"))
    way = ka.Preprocessing(size=shape[:2], scale=1 / 127.5, mean=1.0, crop_to_aspect_ratio=cuts)
    student = ka.build_student(features, [teacher], way)
    student.save(tmp_path / "bare.keras")
    said = export.predict(tmp_path / "bare.keras", made.photos / "0.png")
    assert said.class_names == {"digits": ()} and said.notes == ()
    # The twin: the same network without what normalises.
    plain = keras.Model(features.inputs, {"digits": keras.layers.Flatten()(features.outputs[0])})
    assert export.predict(plain, made.photos / "0.png").notes
    plain.class_names = {"digits": tuple(map(str, range(plain.output["digits"].shape[-1])))}
    assert export.predict(plain, made.photos / "0.png").notes == ()


def test_input_of_whole_numbers_takes_pixels_as_they_are(made):
    image = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.ops.cast(image, "float32"))
    network = keras.Model(image, {"a": keras.layers.Dense(2)(x)})
    assert export.predict(network, made.photos / "0.png").notes == ()


def test_class_that_two_tasks_know_counts_once_in_the_joint_decision(made):
    names = {"colour": ("red", "green", "blue"), "side": ("red", "right")}
    path = made.folder / "tints.keras"
    (one,) = export.predict(path, made.photos / "0.png", top=9, class_names=names).images
    outputs = in_keras(path, made.photos / "0.png")
    colour, side = outputs["colour"][0], outputs["side"][0]
    red = np.log((np.exp(colour[0]) + np.exp(side[0])) / 2)
    expected = softmax([red, colour[1], colour[2], side[1]])
    np.testing.assert_allclose(spread(one.joint, 4), expected, atol=1e-5)
    assert {score.name: score.tasks for score in one.joint}["red"] == ("colour", "side")


def test_embedding_is_no_task(made, student):
    outputs = {**student.output, "embedding": student.layers[-3].output}
    with_embedding = keras.Model(student.inputs, outputs, name="tints")
    with_embedding.class_names = {**NAMES, "embedding": ()}
    (said,) = export.predict(with_embedding, made.photos / "0.png").images
    assert set(said.tasks) == {"colour", "side"}
    assert (said,) == export.predict(student, made.photos / "0.png").images


def test_keras_file_of_a_folder_is_asked_unless_another_is_chosen(made):
    assert export.predict(made.folder, made.photos / "0.png").format == "keras"
    said = export.predict(made.folder, made.photos, artifact="tints.tflite")
    assert said.images == export.predict(made.folder / "tints.tflite", made.photos).images


def test_first_artifact_that_misses_nothing_stands_for_its_folder(made, tmp_path):
    for name in ("a.onnx", "b.onnx", "unlisted.onnx"):
        shutil.copy(made.folder / "tints.onnx", tmp_path / name)
    with pytest.raises(ValueError, match=r"Choose it with `artifact=`"):
        export.predict(tmp_path, made.photos)
    artifacts = {"a.onnx": {"missed": ["slow"]}, "gone.keras": {"missed": []}}
    artifacts["b.onnx"] = {"missed": []}
    (tmp_path / "export.json").write_text(json.dumps({"artifacts": artifacts}))
    assert export.predict(tmp_path, made.photos).artifact == str(tmp_path / "b.onnx")
    with pytest.raises(ValueError, match=r"Expected: one of \['a.onnx', 'b.onnx'\]"):
        export.predict(tmp_path, made.photos, artifact="unlisted.onnx")


def test_images_that_cannot_be_read_are_named(made, tmp_path):
    shutil.copytree(made.photos, tmp_path / "photos")
    content = (made.photos / "0.png").read_bytes()
    (tmp_path / "photos" / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    said = export.predict(made.folder / "tints.onnx", tmp_path / "photos")
    assert len(said.images) == 4
    assert {path.name: why for path, why in said.unreadable.items()} == {
        "cut.png": "image file is truncated",
        "gone.png": "dangling link",
    }
    with pytest.raises(ValueError, match=r"No image can be read. Received: 1 .*cut\.png' \(image"):
        export.predict(made.folder / "tints.onnx", tmp_path / "photos" / "cut.png")


def test_values_are_json_ready(made):
    said = export.predict(made.folder / "tints.tflite", made.photos / "0.png", top=1)
    assert json.loads(json.dumps(said.to_dict())) == {
        "artifact": str(made.folder / "tints.tflite"),
        "format": "tflite",
        "class_names": {task: list(names) for task, names in NAMES.items()},
        "predictions": [
            {
                "image": str(made.photos / "0.png"),
                "tasks": {
                    task: [{"class": one.name, "number": one.number, "score": one.score}]
                    for task, (one,) in said.images[0].tasks.items()
                },
                "joint": [
                    {
                        "class": said.images[0].joint[0].name,
                        "number": said.images[0].joint[0].number,
                        "score": said.images[0].joint[0].score,
                        "tasks": list(said.images[0].joint[0].tasks),
                    }
                ],
            }
        ],
        "unreadable": {},
        "notes": [],
    }


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_damaged_artifact_is_refused(made, tmp_path, suffix):
    content = (made.folder / f"tints{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match=r"Received.*(Export|Copy|export)"):
        export.predict(tmp_path / f"cut{suffix}", made.photos)


def test_foreign_or_fitting_no_names_is_refused(made, tmp_path):
    image = keras.Input((8, 8, 3), name="pixels")
    x = keras.layers.Flatten()(image)
    answers = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="kind")(x))
    answers.save(tmp_path / "probabilities.keras")
    with pytest.raises(ValueError, match="does not give logits. Received: probabilities"):
        export.predict(tmp_path / "probabilities.keras", made.photos)
    with pytest.raises(ValueError, match="do not fit at task 'side'. Received: 3 names"):
        export.predict(
            made.folder / "tints.onnx", made.photos, class_names={"side": ("a", "b", "c")}
        )
    with pytest.raises(ValueError, match="do not fit at task 'sides'.*colour.*side"):
        export.predict(made.folder / "tints.onnx", made.photos, class_names={"sides": ("a", "b")})
    with pytest.raises(TypeError, match="are not a list. Received: the text 'ab'"):
        export.predict(made.folder / "tints.onnx", made.photos, class_names={"side": "ab"})


def test_answers_that_are_no_scores_are_refused(made):
    broken = student_of()
    broken.get_layer("colour").set_weights([np.full((3, 3), np.nan), np.zeros(3)])
    with pytest.raises(ValueError, match="no scores at 'colour'. Received: a largest logit of nan"):
        export.predict(broken, made.photos)


def test_file_of_another_interface_is_refused(made, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 4, 4, 3])
    kind = helper.make_tensor_value_info("kind", TensorProto.FLOAT, ["n", 48])
    node = helper.make_node("Flatten", ["pixels"], ["kind"])
    graph = helper.make_graph([node], "other", [pixels], [kind])
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "o.onnx")
    with pytest.raises(ValueError, match=r"does not run on an image.*image.*wrote"):
        export.predict(tmp_path / "o.onnx", made.photos)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be opened. Received: .*empty"):
        export.predict(tmp_path / "empty", made.photos)


def test_file_with_code_is_refused(made, tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda x: x * 2)(keras.layers.Flatten()(image))
    keras.Model(image, keras.layers.Dense(2)(x)).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match="is a Lambda, which is code inside a file"):
        export.predict(tmp_path / "code.keras", made.photos)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"top": 0}, ValueError, "`top` must be a number of classes. Received: 0"),
        ({"top": True}, ValueError, "`top` must be a number of classes. Received: True"),
        ({"path": "nowhere.keras"}, ValueError, "no artifact to ask. Received: 'nowhere.keras'"),
        ({"path": "photos"}, ValueError, "There is no artifact in the folder. Received: 'photos'"),
        ({"path": "photos/0.png"}, ValueError, "not an artifact of keras-amalgam"),
        ({"artifact": "tints.onnx"}, ValueError, "which is an artifact itself"),
        ({"images": []}, ValueError, "There is no image to ask about"),
        ({"images": "nowhere"}, ValueError, "no such image. Received: 'nowhere', which is not"),
        ({"images": "empty"}, ValueError, "`images` holds no images"),
        ({"images": [np.zeros((4, 4, 3))]}, TypeError, "Received: a ndarray. Expected: paths"),
        ({"class_names": ["a"]}, TypeError, "which task each list belongs to. Received: a list"),
    ],
)
def test_wrong_argument_is_refused(made, monkeypatch, arguments, error, said):
    monkeypatch.chdir(made.folder)
    (made.folder / "empty").mkdir(exist_ok=True)
    given = {"path": "tints.keras", "images": "photos", **arguments}
    with pytest.raises(error, match=said):
        export.predict(given.pop("path"), given.pop("images"), **given)


def test_file_that_gives_other_label_ids_is_refused(made, monkeypatch):
    from keras_amalgam.export.prediction import opening

    right = opening.of_path

    def permuted(path):
        one = right(path)

        def answer(content, pixels):
            outputs = one.answer(content, pixels)
            return outputs | {"colour_ids": outputs["colour_ids"][..., ::-1]}

        return dataclasses.replace(one, answer=answer)

    monkeypatch.setattr(opening, "of_path", permuted)
    with pytest.raises(ValueError, match="label ids that are not those of its largest logits"):
        export.predict(made.folder / "tints.tflite", made.photos)


def test_description_in_the_file_says_how_other_shapes_are_brought_to_size(made, tmp_path):
    """A photograph three times as wide as high, bright left and right of its middle square."""
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, :SIDE] = 250
    wide[:, 2 * SIDE - 4 : 2 * SIDE] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    path = tmp_path / "tints.tflite"
    flatbuffer = made.folder / "tints.tflite"
    with zipfile.ZipFile(flatbuffer) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(files["metadata.json"])
    described["inputs"]["image"]["photograph"]["other_shapes"] = "cut about the centre"
    content = flatbuffer.read_bytes()
    path.write_bytes(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (files | {"metadata.json": json.dumps(described).encode()}).items():
            archive.writestr(name, text)
    squeezed = export.predict(flatbuffer, tmp_path / "wide.png").images[0]
    cut = export.predict(path, tmp_path / "wide.png").images[0]
    assert squeezed.tasks["side"][0].name == "left" and cut.tasks["side"][0].name == "right"


def test_page_holds_the_pictures_upright_and_the_names(made, tmp_path):
    import base64
    import re

    from keras_amalgam.export.prediction import page

    exif = Image.Exif()
    exif[0x0112] = 6
    opened(made.photos / "1.png").save(tmp_path / "<turned>.jpg", exif=exif)
    said = export.predict(made.folder / "tints.onnx", [made.photos, tmp_path / "<turned>.jpg"])
    page.write(said, tmp_path / "new" / "page.html")
    text = (tmp_path / "new" / "page.html").read_text()
    for one in said.images:
        for score in [*one.joint, *one.tasks["colour"], *one.tasks["side"]]:
            assert f"<span>{score.name}" in text and page.percent(score.score) in text
    assert "&lt;turned&gt;.jpg" in text and "<turned>" not in text
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures]
    assert sizes == [opened(one.image).size for one in said.images]
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert page.is_own(tmp_path / "new" / "page.html")
    assert not page.is_own(made.photos / "0.png")
