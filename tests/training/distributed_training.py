"""Trains on two logical CPU devices and on one; run by test_distribution.py in its own process.

Logical devices must be set before TensorFlow starts, and a process bears one MirroredStrategy.

Usage: python distributed_training.py RESULT.npz
"""

import contextlib
import pathlib
import runpy
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_amalgam as ka

CONFTEST = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "conftest.py"))
LOCAL = {"units": 3, "weight": 0.5}


def build(terms, learning_rate, strategy=None):
    """The same amalgamator, to the bit, on one device or on several."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        teachers = [
            CONFTEST["small_teacher"]("digits", ["0", "1", "2"]),
            CONFTEST["small_teacher"]("shapes", ["circle", "square"], size=(16, 16), seed=2),
        ]
        student = CONFTEST["small_student"](teachers, batch_norm=False)
        keras.utils.set_random_seed(3)
        model = ka.Amalgamator(student, teachers, "student_map", terms())
        # One device runs without a graph: quicker for so few steps.
        model.compile(keras.optimizers.SGD(learning_rate), run_eagerly=strategy is None)
    return model


def flat(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def train(model, images, batch_size=8, epochs=2):
    """The weights before and after, and what was logged."""
    start = flat(model)
    logs = model.fit(images, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0).history
    logs = {key.replace("/", "-"): np.array(values) for key, values in logs.items()}
    return {"start": start, "end": flat(model)} | logs


def main(path):
    # Two devices must exist before the strategy; GPUs would only make it another test.
    tf.config.set_visible_devices([], "GPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images, results = CONFTEST["grey_images"](13), {}
    soft, common = ka.SoftTargets, ka.CommonFeatures
    cases = {
        "soft_targets": (lambda: [soft(), soft("source", 2.0, name="by_source")], 0.3),
        "adapted": (lambda: [soft(fit_temperatures=True), ka.StandardizedHeads(dropping=0.0)], 0.3),
        "global_batch": (lambda: [soft(), common(**LOCAL, global_batch=True)], 0.01),
    }
    data = {"image": images, "source": np.arange(13, dtype="int32") % 3 - 1}
    for name, (terms, learning_rate) in cases.items():
        results[f"{name}/one"] = train(build(terms, learning_rate), data)
        results[f"{name}/two"] = train(build(terms, learning_rate, strategy), data)
    local = {"terms": lambda: [common(**LOCAL)], "learning_rate": 0.01}
    for name, shard in (("first", images[:3]), ("second", images[3:5]), ("both", images[:5])):
        results[f"local/{name}"] = train(build(**local), shard, epochs=1)
    two = build(**local, strategy=strategy)
    results["local/two"] = train(two, images[:5], epochs=1)
    arrays = {f"{a}/{b}": value for a, part in results.items() for b, value in part.items()}
    np.savez(path, **arrays)
    two.fit(images[:1], batch_size=1, verbose=0)  # Ends with the error that is asked for.


if __name__ == "__main__":
    main(sys.argv[1])
