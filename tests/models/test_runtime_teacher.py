"""Teachers in their own runtime train a student as converted ones do, outside of its graph."""

import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

import keras_amalgam as ka
from keras_amalgam import data, evaluation, teachers

SHAPES = ["circle", "square", "star"]
COLOURS = ["red", "blue"]
NORMAL = ka.Preprocessing(size=(10, 8), mean=(0.2, 0.4, 0.6), std=0.4)
IMAGES = np.random.default_rng(5).integers(0, 256, (10, 12, 12, 3)).astype("uint8")


def write_network(path, classes, seed=0, operator=("Relu", "")):
    """A convolution, `operator` as its tap, global pooling and a dense layer, channels first."""
    rng = np.random.default_rng(seed)
    constants = {
        "w": rng.normal(size=(5, 3, 3, 3)),
        "b": rng.normal(size=5),
        "head": rng.normal(size=(5, classes)),
    }
    kind, domain = operator
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], name="/stem/Conv", strides=[2, 2]),
        helper.make_node(kind, ["c"], ["map"], name="/body/act", domain=domain),
        helper.make_node("GlobalAveragePool", ["map"], ["p"], name="/pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="/flat"),
        helper.make_node("MatMul", ["f", "head"], ["logits"], name="/head"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 10, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(v.astype("float32"), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two networks."""
    folder = tmp_path_factory.mktemp("networks")
    return write_network(folder / "shapes.onnx", 3), write_network(folder / "colours.onnx", 2, 1)


def converted(path, name, classes, **changes):
    model = teachers.from_onnx(path, verify=False)
    return ka.Teacher(model, name, classes, **{"tap": "body", "preprocessing": NORMAL} | changes)


def in_runtime(path, name, classes, **changes):
    settings = {"tap": "body", "preprocessing": NORMAL}
    return teachers.runtime_teacher(path, name, classes, **settings | changes)


@pytest.fixture
def mixed(files):
    """A converted teacher and one in its runtime."""
    return [converted(files[0], "shapes", SHAPES), in_runtime(files[1], "colours", COLOURS)]


def amalgamator(some, **compiled):
    keras.utils.set_random_seed(3)
    images = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="student_map")(images)
    student = ka.build_student(keras.Model(images, x), some)
    terms = [ka.SoftTargets(ownership="per_task"), ka.CommonFeatures(units=3, weight=0.1)]
    model = ka.Amalgamator(student, some, student_tap="student_map", terms=terms)
    model.compile(optimizer=keras.optimizers.SGD(0.02), **compiled)
    return model


def batches(images=IMAGES, size=4):
    return tf.data.Dataset.from_tensor_slices(images).batch(size)


def losses(some, images=None, **fit):
    """The history of two epochs, as an array."""
    model = amalgamator(some)
    history = model.fit(batches() if images is None else images, epochs=2, verbose=0, **fit).history
    return np.array([history[key] for key in sorted(history)])


@pytest.fixture(scope="module")
def expected(files):
    """What two converted teachers give."""
    both = [converted(files[0], "shapes", SHAPES), converted(files[1], "colours", COLOURS)]
    return losses(both)


@pytest.mark.slow
def test_losses_are_those_of_converted_teachers(mixed, expected):
    np.testing.assert_allclose(losses(mixed), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_losses_of_runtime_teachers_alone_are_those_of_converted_ones(mixed, files, expected):
    both = [in_runtime(files[0], "shapes", SHAPES), mixed[1]]
    np.testing.assert_allclose(losses(both), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        ka.Preprocessing(size=(10, 8), mean=(0.2, 0.4, 0.6), std=0.4, channels="bgr"),
        ka.Preprocessing(size=(10, 8), mean=0.4, std=0.4),
    ],
    ids=["channels swapped", "wrong mean"],
)
def test_teacher_that_is_fed_wrongly_has_other_losses(wrong, mixed, files, expected):
    other = in_runtime(files[1], "colours", COLOURS, preprocessing=wrong)
    assert np.abs(losses([mixed[0], other]) / expected - 1).max() > 1e-2


@pytest.mark.slow
def test_arrays_and_sources_train_as_data_sets_do(mixed, expected):
    got = losses(mixed, IMAGES, batch_size=4, shuffle=False)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    sourced = {"image": IMAGES, "source": np.arange(10, dtype="int32") % 2}
    np.testing.assert_allclose(losses(mixed, batches(sourced)), expected, rtol=1e-4, atol=1e-6)
    shuffled = losses(mixed, IMAGES, batch_size=4)
    assert np.abs(shuffled / expected - 1).max() > 1e-4


@pytest.mark.slow
def test_evaluation_and_validation_run_the_teacher_too(mixed):
    model = amalgamator(mixed)
    options = {"validation_data": IMAGES[:6], "validation_batch_size": 3, "verbose": 0}
    history = model.fit(batches(), **options).history
    for images in (batches(IMAGES[:6], 3), IMAGES[:6]):
        again = model.evaluate(images, batch_size=3, return_dict=True, verbose=0)
        assert again["loss"] == pytest.approx(history["val_loss"][0], rel=1e-5)
    _, by_name = model.signals(IMAGES[:2])
    said = evaluation.teachers_predictor(mixed)(IMAGES[:2])
    for teacher in mixed:
        np.testing.assert_allclose(
            said[teacher.name], by_name[teacher.name].answers[teacher.name], atol=1e-5
        )
    assert set(model(IMAGES[:2])) == {"shapes", "colours"}


@pytest.mark.slow
def test_xla_compiles_the_step_as_the_teacher_is_not_in_it(files):
    model = amalgamator([in_runtime(files[1], "colours", COLOURS)], jit_compile=True)
    before = model.evaluate(batches(), verbose=0)
    assert model.fit(batches(), epochs=2, verbose=0).history["loss"][-1] < before[0]


def test_step_without_signals_is_refused_and_with_them_runs(mixed):
    model = amalgamator(mixed)
    with pytest.raises(ValueError, match=r"without the signals of \['colours'\]"):
        model.train_on_batch(IMAGES[:4])
    batch = next(iter(data.with_runtime_signals(batches(), mixed)))
    assert set(batch["signals"]) == {"colours"}
    assert np.isfinite(model.train_on_batch(batch)[0])


def test_signals_of_another_teacher_are_refused(mixed, files):
    other = in_runtime(files[0], "colours", SHAPES)
    given = data.with_runtime_signals(batches(), [other])
    with pytest.raises(ValueError, match="not those of teacher 'colours'"):
        amalgamator(mixed).fit(given, verbose=0)
    stranger = in_runtime(files[0], "strangers", SHAPES)
    given = data.with_runtime_signals(batches(), [stranger, mixed[1]])
    with pytest.raises(ValueError, match="not those of teacher 'strangers'"):
        amalgamator(mixed).fit(given, verbose=0)


class Counting:
    """A real runtime whose calls are counted, and which can be made to fail."""

    def __init__(self, runtime, fails_after=None):
        self.runtime, self.images, self.fails_after = runtime, 0, fails_after
        self.image_shape, self.output = runtime.image_shape, runtime.output
        self.taps, self.origin = runtime.taps, runtime.origin

    def run(self, images):
        self.images += len(images)
        if self.fails_after is not None and self.images > self.fails_after:
            raise StopIteration("the lamp burned out")  # TensorFlow takes it for the data's end.
        return self.runtime.run(images)


def counting_teacher(path, **changes):
    runtime = Counting(teachers.open_runtime(path, taps=["body"]), **changes)
    return ka.RuntimeTeacher(runtime, "colours", COLOURS, tap="body", preprocessing=NORMAL)


@pytest.mark.slow
def test_cached_signals_are_computed_once(files, mixed, expected):
    teacher = counting_teacher(files[1])
    some = [mixed[0], teacher]
    cached = data.with_runtime_signals(batches(), some).cache()
    assert sum(len(batch["image"]) for batch in cached) == 10
    counted = teacher.runtime.images
    np.testing.assert_allclose(losses(some, cached), expected, rtol=1e-4, atol=1e-6)
    assert teacher.runtime.images == counted
    losses(some)
    assert teacher.runtime.images >= counted + 2 * 10


@pytest.mark.slow
def test_failure_in_mid_training_names_the_teacher(files):
    teacher = counting_teacher(files[1])
    model = amalgamator([teacher])
    teacher.runtime.fails_after = teacher.runtime.images + 8
    with pytest.raises(RuntimeError, match=r"Teacher 'colours' failed.*the lamp burned out"):
        model.fit(batches(), epochs=9, verbose=0)


def test_answer_without_a_batch_is_refused(files):
    teacher = counting_teacher(files[1])
    teacher.runtime.run = lambda images: {"logits": np.zeros((1, 2)), "body": np.zeros((1, 4))}
    with pytest.raises(RuntimeError, match=r"Received: .*for 4 images. The first axis"):
        amalgamator([teacher]).signals(IMAGES[:4])


def test_what_cannot_bring_signals_along_is_refused(mixed):
    model = amalgamator(mixed)
    with pytest.raises(TypeError, match="Teacher 'colours'.*Received: generator.*from_generator"):
        model.fit((batch for batch in [IMAGES]), verbose=0)
    with pytest.raises(ValueError, match="validation_split=0.5. Use validation_data"):
        model.fit(IMAGES, validation_split=0.5, verbose=0)
    with pytest.raises(TypeError, match="Received: ndarray"):
        data.with_runtime_signals(IMAGES, mixed)


def test_order_of_the_sources_is_still_checked_behind_the_signals(mixed):
    sources = {name: data.from_arrays(IMAGES) for name in ("colours", "shapes")}
    given = data.with_runtime_signals(data.stream(sources, batch_size=4), mixed)
    model = amalgamator(mixed)
    model.terms[0].ownership = "source"
    with pytest.raises(ValueError, match="Sources and teachers must be in one order"):
        model.fit(given.prefetch(1), verbose=0)


@pytest.mark.slow
def test_training_goes_on_with_the_same_file_only(mixed, files, tmp_path):
    model = amalgamator(mixed)
    model.fit(batches(), verbose=0)
    model.save(tmp_path / "training.keras")
    again = ka.Amalgamator.load(tmp_path / "training.keras", mixed)
    a, b = (m.fit(batches(), verbose=0).history["loss"] for m in (model, again))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    other = write_network(tmp_path / "colours.onnx", 2, seed=2)
    for changed in (in_runtime(other, "colours", COLOURS), converted(files[1], "colours", COLOURS)):
        with pytest.raises(ValueError, match="another teacher 'colours'.*weights_sha256"):
            ka.Amalgamator.load(tmp_path / "training.keras", [mixed[0], changed])


@pytest.mark.slow
def test_saved_teacher_trains_on_in_a_fresh_process(mixed, expected, tmp_path):
    for teacher in mixed:
        teacher.save(tmp_path / teacher.name)
    np.save(tmp_path / "images.npy", IMAGES)
    code = (
        "import sys, json, importlib.util, numpy as np\n"
        "spec = importlib.util.spec_from_file_location('here', sys.argv[1])\n"
        "here = importlib.util.module_from_spec(spec); spec.loader.exec_module(here)\n"
        "some = [here.teachers.load(name) for name in ('shapes', 'colours')]\n"
        "print(json.dumps(here.losses(some, here.batches(np.load('images.npy'))).tolist()))"
    )
    command = [sys.executable, "-c", code, __file__]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-4)


@pytest.mark.slow
def test_runtime_teacher_sees_photographs_as_the_converted_one_does(files):
    cut = ka.Preprocessing(size=(10, 8), std=0.4, crop_fraction=0.5, crop_to_aspect_ratio=True)
    both = [
        converted(files[0], "shapes", SHAPES, preprocessing=cut),
        in_runtime(files[0], "run", SHAPES, preprocessing=cut),
    ]
    sizes = [(30, 40), (50, 20), (20, 16)] * 4
    rng = np.random.default_rng(2)
    photographs = [rng.integers(0, 256, (*size, 3)).astype("uint8") for size in sizes]
    canvas = data.canvas_for(both, (10, 8), sizes=sizes)
    assert canvas == (20, 16, 3, "crop")
    images = data.stream(data.from_arrays(photographs), batch_size=12, canvas=canvas)
    (batch,) = data.with_runtime_signals(images, both)
    shown = both[0].answers(3)(batch["image"])[both[0].name]
    np.testing.assert_allclose(batch["signals"]["run"]["answers"]["run"], shown, atol=1e-3)
    answers = [int(np.argmax(both[0].answers(3)(one[None])[both[0].name])) for one in photographs]
    labels = np.where(np.arange(12) < 9, answers, (np.array(answers) + 1) % 3)
    test = data.labelled_from_arrays(photographs, labels, batch_size=1)
    assert [evaluation.own_accuracy(teacher, test) for teacher in both] == [0.75, 0.75]


def test_signals_of_a_cache_are_those_of_the_runtime(mixed, tmp_path):
    cache = data.SignalCache.build(tmp_path / "cache", data.from_arrays(IMAGES), mixed)
    (batch,) = cache.stream(batch_size=10, epoch=data.Epoch(shuffle=False)).as_numpy_iterator()
    assert (batch["image"] == IMAGES).all()
    for teacher in mixed:
        live = teacher.signals(3)(IMAGES)
        stored = batch["signals"][teacher.name]
        name = teacher.name
        assert stored["answers"][name] == pytest.approx(np.asarray(live["answers"][name]), abs=1e-5)
