"""Fixtures that several folders share."""

import collections
import contextlib
import functools
import gc
import io
import json
import os
import pathlib
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from keras_amalgam.onednn import prefer_onednn

# Before anything imports TensorFlow, and for every process that a test starts.
prefer_onednn()

GOLDEN = pathlib.Path(__file__).parent / "golden" / "common_feature_reference.npz"


# They come first, so that no worker is left alone with one of them at the end.
LONGEST = (
    "experiments/test_demo.py",
    "networks/test_networks.py",
    "experiments/test_own_teachers.py",
    "teachers/keras_files/test_keras_applications.py",
    "experiments/test_job.py",
    "teachers/torch_modules/test_torch_attention.py",
    "experiments/test_runs.py",
    "export/serving/test_bundle.py",
    "export/serving/test_serving.py",
    "training/test_resuming.py",
    "export/test_killed.py",
    "kills/test_kills.py",
    "experiments/test_runtime_recipe.py",
    "test_readme.py",
    "export/verification/test_verify.py",
    "models/test_runtime_teacher.py",
    "training/test_amalgamator.py",
)


def _sample(items, number):
    """So many of them, by the golden ratio: even steps would meet one value of a parameter."""
    if number >= len(items):
        return items
    return [items[place] for place in {int(len(items) * (n * 0.618 % 1)) for n in range(number)}]


@pytest.hookimpl(tryfirst=True)  # Before `-m` chooses.
def pytest_collection_modifyitems(items):
    """Leaves a sample of each matrix in `make test`, and one in `make test-slow` where told so."""
    matrices = collections.defaultdict(list)
    for item in items:
        if item.get_closest_marker("matrix"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    for variants in matrices.values():
        told = variants[0].get_closest_marker("matrix").kwargs
        quick = [item for item in variants if not item.get_closest_marker("slow")]
        kept = _sample(quick, told.get("keep", 1))
        others = [item for item in variants if item not in kept]
        sampled = _sample(others, told.get("slow", len(others)))
        for item in others:
            item.add_marker(pytest.mark.slow)
            if item not in sampled:
                item.add_marker(pytest.mark.variant)
    ranks = {str(pathlib.Path(__file__).parent / name): rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(str(item.path), len(LONGEST)))


@pytest.fixture(scope="session")
def golden():
    """Reference values of the method; maps and weights in Keras' layout."""
    values = {}
    with np.load(GOLDEN) as archive:
        for key in archive.files:
            value = archive[key]
            if key.startswith("weight_oihw:"):
                value = value.transpose(2, 3, 1, 0)
            elif key.endswith("_nchw"):
                value = value.transpose(0, 2, 3, 1)
            values[key.removeprefix("weight_oihw:").removesuffix("_nchw")] = value
    return values


def assert_golden(actual, expected):
    """Element-wise relative error means nothing near zero, so the largest entry is the measure."""
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    error, bound = np.abs(actual - expected).max(), 2e-5 * np.abs(expected).max()
    assert error <= bound, f"largest error {error:.3g}, allowed {bound:.3g}"


@pytest.fixture(name="assert_golden", scope="session")
def assert_golden_fixture():
    """The golden comparison, as a fixture because test modules cannot import each other."""
    return assert_golden


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _frozen_heap():
    """What earlier modules left behind is not searched again.

    TensorFlow collects garbage at each conversion; a worker that has run a thousand tests would
    spend a fifth of its time on that.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def verified_here(request, monkeypatch):
    """Verification runs its artifacts in this process: starting one takes longer than most tests.

    For tests of what verification concludes. That it runs in a process of its own, and what it
    measures there, is for tests marked `fresh_process` and for those without this fixture.
    """
    if request.node.get_closest_marker("fresh_process"):
        return
    from keras_amalgam.export.verification import processes, runner

    class InThisProcess:
        stdout, returncode = (), 0

        def __init__(self, words, **_):
            self.job = json.loads(pathlib.Path(words[-1]).read_text())

        def communicate(self, line=None):
            if line is not None:
                monkeypatch.setattr(sys, "stdin", io.StringIO(line))
                runner.main(self.job)

        def kill(self):
            """There is nothing to kill."""

    here = SimpleNamespace(Popen=InThisProcess, PIPE=None)
    monkeypatch.setattr(processes, "subprocess", here)
    monkeypatch.setattr(runner, "import_runtime", lambda kind, threads: None)


USERS_SETTINGS = {
    "channels_first": {"image_data_format": "channels_first"},
    "float16": {"floatx": "float16", "dtype_policy": "float16"},
    "float64": {"floatx": "float64", "dtype_policy": "float64"},
    "mixed_float16": {"dtype_policy": "mixed_float16"},
    "mixed_bfloat16": {"dtype_policy": "mixed_bfloat16"},
}
ALL_AT_ONCE = {
    "image_data_format": "channels_first",
    "floatx": "float64",
    "dtype_policy": "mixed_float16",
}


def keras_settings():
    """What is set globally in Keras, JSON-ready."""
    import keras

    return {
        "image_data_format": keras.config.image_data_format(),
        "floatx": keras.config.floatx(),
        "dtype_policy": keras.config.dtype_policy().name,
    }


def set_keras(settings):
    """Set Keras globally, as its users do."""
    import keras

    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)


@contextlib.contextmanager
def changed_keras(changes):
    """A user's settings, which the block must leave as they are; afterwards Keras' own again."""
    before = keras_settings()
    set_keras(changes)
    users = keras_settings()
    try:
        yield
        assert keras_settings() == users
    finally:
        set_keras(before)


@pytest.fixture(params=USERS_SETTINGS)
def one_setting(request):
    """A context for each thing that users set globally in Keras."""
    return lambda: changed_keras(USERS_SETTINGS[request.param])


@pytest.fixture(scope="session")
def all_settings():
    """A context in which a user has set everything otherwise at once."""
    return lambda: changed_keras(ALL_AT_ONCE)


def small_teacher(name, classes, size=(12, 12), width=6, seed=1):
    """A real, if tiny and untrained, convolutional teacher of grey images with batch norm."""
    import keras

    import keras_amalgam as ka

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*size, 1))
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", name=f"{name}_conv")(inputs)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    x = keras.layers.ReLU(name=f"{name}_map")(x)
    x = keras.layers.GlobalAveragePooling2D(name=f"{name}_pooled")(x)
    logits = keras.layers.Dense(len(classes), kernel_initializer="he_normal")(x)
    return ka.Teacher(
        keras.Model(inputs, logits, name=name),
        name=name,
        class_names=classes,
        tap=f"{name}_map",
        preprocessing=ka.Preprocessing(size=size, mean=0.3, std=0.4),
    )


def small_student(teachers, batch_norm=True, regularizer=None, size=12):
    """A depthwise-separable student with a tap called `student_map`."""
    import keras

    import keras_amalgam as ka

    keras.utils.set_random_seed(7)
    inputs = keras.Input((size, size, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", kernel_regularizer=regularizer)(inputs)
    x = keras.layers.BatchNormalization()(x) if batch_norm else x
    x = keras.layers.ReLU()(x)
    x = keras.layers.SeparableConv2D(8, 3, padding="same")(x)
    x = keras.layers.ReLU(name="student_map")(x)
    return ka.build_student(keras.Model(inputs, x, name="backbone"), teachers)


def remembering_network(images, preprocessing, classes=3):
    """A network of colour images whose batch norm remembers some under a preprocessing.

    Args:
        images: All of one size, which is the network's.
        preprocessing: Of numbers per channel or for all.
    """
    import keras

    scale, offset = preprocessing.scale_and_offset()
    pixels = images.reshape(-1, 3) * np.asarray(scale) + np.asarray(offset)
    inputs = keras.Input(images.shape[1:])
    norm = keras.layers.BatchNormalization(name="norm")
    x = keras.layers.Conv2D(4, 3, name="map")(norm(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x))
    norm.set_weights([np.ones(3), np.zeros(3), pixels.mean(0), pixels.var(0)])
    return model


def colour_images(count=16, size=16, seed=0):
    """Raw images, uint8, each around a colour of its own."""
    rng = np.random.default_rng(seed)
    images = rng.normal([124, 116, 104], 40, (count, 1, 1, 3)) + rng.normal(
        0, 40, (count, size, size, 3)
    )
    return np.clip(images, 0, 255).astype("uint8")


def grey_images(count=16, size=12, seed=0):
    """Raw images, uint8, a different brightness each."""
    rng = np.random.default_rng(seed)
    images = rng.random((count, size, size, 1)) * rng.random((count, 1, 1, 1)) * 255
    return images.astype("uint8")


@pytest.fixture
def teachers():
    """Two tiny teachers of different sizes and classes."""
    return [
        small_teacher("digits", ["0", "1", "2"]),
        small_teacher("shapes", ["circle", "square"], size=(16, 16), width=5, seed=2),
    ]


@pytest.fixture
def make():
    """The builders above, as test modules cannot import each other."""
    return SimpleNamespace(
        teacher=small_teacher,
        student=small_student,
        images=grey_images,
        colour_images=colour_images,
        remembering_network=remembering_network,
    )


@pytest.fixture
def eagerly(monkeypatch):
    """Without graphs, which take seconds to trace: for claims that they would not change."""
    import keras_amalgam as ka

    compile_ = functools.partialmethod(ka.Amalgamator.compile, run_eagerly=True)
    monkeypatch.setattr(ka.Amalgamator, "compile", compile_)


@pytest.fixture
def stop_at():
    """Makes a callback that sends this process a signal at one step, counted over all stages."""
    import keras

    class StopAt(keras.callbacks.Callback):
        def __init__(self, step, number=signal.SIGINT):
            super().__init__()
            self.step, self.number, self.seen = step, number, 0

        def on_train_batch_end(self, batch, logs=None):
            self.seen += 1
            if self.seen == self.step:
                os.kill(os.getpid(), self.number)

    return StopAt


@pytest.fixture
def build(teachers, make):
    """An amalgamator over the tiny teachers, compiled."""

    import keras

    import keras_amalgam as ka

    def build(terms=None, student=None, compile_with=None, eagerly=False, **student_arguments):
        student = student or make.student(teachers, **student_arguments)
        terms = terms or [ka.SoftTargets(), ka.CommonFeatures(units=4, weight=0.5)]
        model = ka.Amalgamator(student, teachers, student_tap="student_map", terms=terms)
        # For claims that a graph, which takes seconds to trace, would not change.
        compiled = {"run_eagerly": eagerly} | (compile_with or {})
        model.compile(optimizer=keras.optimizers.SGD(0.05), **compiled)
        return model

    return build
