"""What oneDNN is worth: training steps with and without it, in alternation.

    python -m benchmarks.onednn [--repeats 20] [--case demo --case resnet18]

TensorFlow reads the setting once, so each setting has a process of its own. Both are ready before
anything is timed, and do their steps in turn, so that what else the machine does meets both; the
ratio is the median over the repeats. Compare no figures of different machines.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from keras_amalgam.onednn import VARIABLE

SETTINGS = {"off": "0", "on": "1"}


def demo_step() -> Callable[[], Any]:
    """The demo's own step, both teachers in it."""
    import keras_amalgam as ka
    from keras_amalgam.experiments import digits_fashion

    recipe = digits_fashion.recipe()
    stage = recipe.methods[0].stages[0]
    taps = ka.taps.as_taps(recipe.student_tap)
    model = ka.Amalgamator(
        recipe.student(), recipe.teachers, terms=stage.terms(), student_taps=taps
    )
    model.compile(optimizer=stage.optimizer(1000))
    batch = next(iter(recipe.streams["train"]))
    return lambda: model.train_on_batch(batch)


def resnet18_step(size: int = 64, batch: int = 32) -> Callable[[], Any]:
    """A step of a network like ResNet-18, as a converted one trains as a student."""
    import keras
    import numpy as np

    images = keras.Input((size, size, 3))
    x = _normalised(keras.layers.Conv2D(64, 7, strides=2, padding="same", use_bias=False)(images))
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(keras.layers.ReLU()(x))
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            x = _residual(x, channels, strides=2 if stage and not block else 1)
    logits = keras.layers.Dense(50)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=loss)
    random = np.random.default_rng(0)
    pixels = random.random((batch, size, size, 3), dtype=np.float32)
    labels = random.integers(0, 50, batch)
    return lambda: model.train_on_batch(pixels, labels)


def _normalised(x: Any) -> Any:
    import keras

    return keras.layers.BatchNormalization()(x)


def _residual(x: Any, channels: int, strides: int) -> Any:
    import keras

    def convolution(tensor: Any, side: int, strides: int) -> Any:
        layer = keras.layers.Conv2D(channels, side, strides=strides, padding="same", use_bias=False)
        return _normalised(layer(tensor))

    y = keras.layers.ReLU()(convolution(x, 3, strides))
    y = convolution(y, 3, 1)
    fits = strides == 1 and x.shape[-1] == channels
    return keras.layers.ReLU()(keras.layers.Add()([x if fits else convolution(x, 1, strides), y]))


CASES = {"demo": demo_step, "resnet18": resnet18_step}


def serve(case: str) -> None:
    """Be one of the two processes: a line in, a step done, its milliseconds out."""
    from keras_amalgam.onednn import uses_onednn

    step = CASES[case]()
    for _ in range(3):  # Traced, and the memory pools filled.
        step()
    print("on" if uses_onednn() else "off", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        print(1000 * (time.perf_counter() - started), flush=True)


def started(case: str, setting: str) -> subprocess.Popen:
    """A process of `serve` under a setting, ready."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.onednn", "--serve", case],
        env=os.environ | {VARIABLE: SETTINGS[setting], "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if (answer := answer_of(worker)) != setting:
        raise SystemExit(f"TensorFlow has no choice here: asked for {setting}, it is {answer}.")
    return worker


def answer_of(worker: subprocess.Popen) -> str:
    """A worker's next line."""
    line = worker.stdout.readline().strip() if worker.stdout else ""
    if not line:
        raise SystemExit("A measuring process ended. Run it by hand with --serve CASE.")
    return line


def asked(worker: subprocess.Popen) -> float:
    """The milliseconds of one step."""
    if worker.stdin:
        worker.stdin.write("\n")
        worker.stdin.flush()
    return float(answer_of(worker))


def measure(case: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every step under each setting, taken in turn."""
    workers = {setting: started(case, setting) for setting in SETTINGS}
    try:
        rounds = [
            {setting: asked(worker) for setting, worker in workers.items()} for _ in range(repeats)
        ]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return {setting: [one[setting] for one in rounds] for setting in SETTINGS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--serve", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    print("case        off, ms   on, ms   off / on")
    for case in arguments.case or CASES:
        times = measure(case, arguments.repeats)
        off, on = (statistics.median(times[setting]) for setting in SETTINGS)
        ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
        print(f"{case:10}  {off:7.0f}  {on:7.0f}  {ratio:9.2f}", flush=True)


if __name__ == "__main__":
    main()
