"""A converted teacher's inference against onnxruntime's and torch's, and what limits it.

    python -m benchmarks.conversion [--table docs/conversion_speed.md] [--repeats 20] [NETWORK …]

Each network of `tests.networks` is run on fixed shapes by onnxruntime (optimised, as it comes), by
torch and as converted: a `tf.function` of the model, with and without folded batch normalizations,
and, where Keras has the architecture itself, that. All are called in turn in every repeat, so that
what else the machine does meets all of them; the ratios are the medians over the repeats. Then
both runtimes' own profilers say how the time divides among kinds of operators. Compare no figures
of different machines.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import torch
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmarks import conversion_report
from benchmarks.operator_kinds import by_kind
from keras_amalgam import teachers
from tests.networks import exporting, measuring
from tests.networks.catalogue import Network, networks
from tests.networks.transformers_configs import CONFIGS

# Name, way of writing, and the same architecture in Keras itself.
NETWORKS = {
    "resnet50": ("script 13", "ResNet50"),
    "mobilenet_v2": ("script 17", "MobileNetV2"),
    "efficientnet_b0": ("script 13", "EfficientNetB0"),
    "convnext_tiny": ("script 17", "ConvNeXtTiny"),
    "vit_tiny": ("script 17", None),
    "swin_tiny": ("script 13", None),
    "regnet_y_4gf": ("script 17", None),
}
BATCHES = (1, 8)
THREADS = os.cpu_count() or 1


@dataclasses.dataclass
class Speed:
    """One network at one batch size.

    Args:
        network: Its name.
        batch: Number of images.
        milliseconds: Median of a call, by what ran it.
        ratios: Median, over the repeats, of a call to the same repeat's call of the converted
            model's: how many times as long the converted model takes.
        kinds: Milliseconds in each kind of operator, of the converted model and of onnxruntime.
    """

    network: str
    batch: int
    milliseconds: dict[str, float]
    ratios: dict[str, float]
    kinds: dict[str, dict[str, float]]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NETWORKS)}; by default all")
    parser.add_argument("--folder", type=Path, default=Path(".networks"), help="of the networks")
    parser.add_argument("--table", type=Path, help="the Markdown file to write")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    machine = (THREADS, os.getloadavg()[0])
    groups = [grouped(number, arguments.repeats) for number in (2, 8, 32)]
    speeds = []
    for name in arguments.names or NETWORKS:
        speeds += measure(networks()[name], arguments.folder.resolve(), arguments.repeats)
        keras.backend.clear_session()
        if arguments.table:  # After each, so that nothing is lost.
            arguments.table.write_text(conversion_report.markdown(speeds, groups, machine))
    print(conversion_report.markdown(speeds, groups, machine))


def measure(network: Network, folder: Path, repeats: int) -> list[Speed]:
    """One network, at every batch size."""
    written, native = NETWORKS[network.name]
    path = measuring.written_file(network, written, folder)
    models = {
        "converted": teachers.from_onnx(path, verify=False),
        "folded": teachers.from_onnx(path, fold_batch_norm=True, verify=False),
    }
    if native:
        made = getattr(keras.applications, native)
        models["Keras' own"] = made(weights=None, classifier_activation=None)
    module = exporting.from_config(*_config(network.name), "eager")
    speeds = []
    for batch in BATCHES:
        images = measuring.patterns(network, network.size, batch)
        calls = {key: _keras_call(model, images) for key, model in models.items()}
        calls["onnxruntime"] = _onnx_call(path, images)
        calls["torch"] = _torch_call(module, images)
        times = in_turn(calls, repeats)
        medians = {key: 1e3 * statistics.median(values) for key, values in times.items()}
        kinds = {"converted": tf_kinds(models["converted"], images)}
        kinds["onnxruntime"] = onnx_kinds(path, images)
        speeds.append(Speed(network.name, batch, medians, _ratios(times), kinds))
        print(network.name, batch, {key: round(ms, 1) for key, ms in medians.items()}, flush=True)
    return speeds


def _config(name: str) -> tuple[str, dict[str, Any]]:
    return CONFIGS[name].model, CONFIGS[name].options


def _ratios(times: Mapping[str, list[float]]) -> dict[str, float]:
    """How many times as long the converted model takes as each of the others."""
    return {
        key: statistics.median(a / b for a, b in zip(times["converted"], values, strict=True))
        for key, values in times.items()
    }


def in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, all of them called in turn in every repeat."""
    for call in calls.values():
        for _ in range(2):
            call()
    times = defaultdict(list)
    for _ in range(repeats):
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - started)
    return times


def _traced(model: keras.Model, images: np.ndarray) -> Any:
    function = tf.function(lambda x: model(x, training=False), jit_compile=False)
    return function.get_concrete_function(tf.TensorSpec(images.shape, tf.float32))


def _keras_call(model: keras.Model, images: np.ndarray) -> Callable[[], Any]:
    function, tensor = _traced(model, images), tf.constant(images)
    return lambda: function(tensor).numpy()


def _session(path: Path, profile: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.enable_profiling = bool(profile)
    if profile:
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnx_call(path: Path, images: np.ndarray) -> Callable[[], Any]:
    session = _session(path)
    feed = {session.get_inputs()[0].name: np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
    return lambda: session.run(None, feed)


def _torch_call(module: torch.nn.Module, images: np.ndarray) -> Callable[[], Any]:
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def call() -> Any:
        with torch.inference_mode():
            return module(tensor)

    return call


def tf_kinds(model: keras.Model, images: np.ndarray, runs: int = 5) -> dict[str, float]:
    """Where TensorFlow's time goes, operator by operator, none beside another."""
    frozen = convert_variables_to_constants_v2(_traced(model, images))
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=THREADS, inter_op_parallelism_threads=1
    )
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    timed = []
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            feed = {frozen.inputs[0].name: images}
            names = [tensor.name for tensor in frozen.outputs]
            session.run(names, feed)
            session.run(names, feed)
            for _ in range(runs):
                found = tf.compat.v1.RunMetadata()
                session.run(names, feed, options=options, run_metadata=found)
                for device in found.step_stats.dev_stats:
                    for node in device.node_stats:
                        # The label reads `name = Operator(inputs)`.
                        operator = node.timeline_label.partition(" = ")[2].partition("(")[0]
                        timed.append((operator, node.op_end_rel_micros))
    return by_kind(timed, runs)


def onnx_kinds(path: Path, images: np.ndarray, runs: int = 5) -> dict[str, float]:
    """Where onnxruntime's time goes."""
    with tempfile.TemporaryDirectory() as scratch:
        session = _session(path, f"{scratch}/profile")
        feed = {session.get_inputs()[0].name: np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
        for _ in range(runs + 2):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    timed: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            timed[event["name"]].append((event["args"]["op_name"], event["dur"]))
    # The first runs are slower.
    return by_kind((entry for entries in timed.values() for entry in entries[2:]), runs)


def grouped(groups: int, repeats: int, width: int = 128, side: int = 28) -> dict[str, float]:
    """Keras' own grouped convolution against one convolution for each group.

    Returns:
        Milliseconds of the result, and of result and gradient, of either; and the median ratios,
        own form to split form.
    """
    x = keras.Input((side, side, width))
    own = keras.Model(x, keras.layers.Conv2D(width, 3, padding="same", groups=groups)(x))
    part = width // groups
    parts = [x[..., index * part : (index + 1) * part] for index in range(groups)]
    results = [keras.layers.Conv2D(part, 3, padding="same")(few) for few in parts]
    split = keras.Model(x, keras.layers.Concatenate()(results))
    images = tf.constant(np.random.default_rng(0).normal(size=(8, side, side, width)), tf.float32)

    def trained(model: keras.Model) -> Callable[[], Any]:
        @tf.function
        def step() -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model(images, training=True) ** 2)
            return [tf.reduce_sum(g) for g in tape.gradient(loss, model.trainable_weights)]

        return lambda: [value.numpy() for value in step()]

    forward = {"own": _keras_call(own, images.numpy()), "split": _keras_call(split, images.numpy())}
    both = {"own": trained(own), "split": trained(split)}
    found: dict[str, float] = {"groups": groups}
    for name, calls in (("forward", forward), ("gradient", both)):
        times = in_turn(calls, max(5, repeats // 2))
        for key, values in times.items():
            found[f"{name} {key}"] = 1e3 * statistics.median(values)
        pairs = zip(times["own"], times["split"], strict=True)
        found[f"{name} ratio"] = statistics.median(a / b for a, b in pairs)
    return found


if __name__ == "__main__":
    main()
