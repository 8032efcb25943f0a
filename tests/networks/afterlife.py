"""What a converted model must be good for afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from keras_amalgam import export
from keras_amalgam.export.signatures import describe

_TOLERANCE = 1e-4

# Runs where this package cannot be imported.
_RELOAD = """
import sys
sys.modules["keras_amalgam"] = None
import json
import keras
import numpy as np

model = keras.saving.load_model("model.keras")
images = np.load("images.npy")
outputs = keras.tree.flatten(model(images, training=False))
np.savez("outputs.npz", *[np.asarray(output) for output in outputs])
before = [np.asarray(weight) for weight in model.trainable_weights]
model.compile(keras.optimizers.SGD(1e-4), "mse")
targets = keras.tree.map_structure(lambda x: np.zeros(x.shape, "float32"), model(images))
loss = float(np.asarray(model.train_on_batch(images, targets)).reshape(-1)[0])
after = [np.asarray(weight) for weight in model.trainable_weights]
changed = sum(not np.array_equal(a, b) for a, b in zip(before, after))
finite = all(np.isfinite(weight).all() for weight in after)
found = {"loss": loss, "changed": changed, "weights": len(before), "finite": bool(finite)}
open("found.json", "w").write(json.dumps(found))
"""


def reload_and_train(model: keras.Model, images: np.ndarray, scratch: Path) -> None:
    """Save, load in a fresh process without this package, predict the same, train a step.

    Raises:
        ValueError: If the process fails, its outputs differ, or the step leaves weights as they
            were or makes them or the loss infinite.
    """
    model.save(scratch / "model.keras")
    np.save(scratch / "images.npy", images)
    command = [sys.executable, "-c", _RELOAD]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(" ".join(done.stderr.strip().splitlines()[-3:]))
    expected = [np.asarray(output) for output in keras.tree.flatten(model(images, training=False))]
    with np.load(scratch / "outputs.npz") as received:
        for ours, theirs in zip(expected, received.values(), strict=True):
            error = np.abs(ours - theirs).max() / max(1e-12, np.ptp(ours))
            if not error <= _TOLERANCE:
                raise ValueError(f"the reloaded model differs by {error:.2g} of the range")
    found = json.loads((scratch / "found.json").read_text())
    if not (np.isfinite(found["loss"]) and found["finite"] and found["changed"]):
        raise ValueError(f"the training step gives {found}")


def to_tflite(model: keras.Model, images: np.ndarray, scratch: Path) -> None:
    """Write as TFLite with its own operators alone, and compare with LiteRT."""
    whole, raw = _from_raw_images(model, images)
    export.to_tflite(
        whole,
        scratch / "model.tflite",
        image_shape=raw.shape[1:3],
        class_names=_class_names(whole),
        images=raw[:1],
        tolerance=_bound(model, images),
    )


def to_onnx(model: keras.Model, images: np.ndarray, scratch: Path) -> None:
    """Write as ONNX again, and compare with onnxruntime."""
    whole, raw = _from_raw_images(model, images)
    export.to_onnx(
        whole,
        scratch / "model.onnx",
        class_names=_class_names(whole),
        images=raw,
        tolerance=_bound(model, images),
    )


STEPS = {"reload, train": reload_and_train, "TFLite": to_tflite, "ONNX": to_onnx}


def _from_raw_images(model: keras.Model, images: np.ndarray) -> tuple[keras.Model, np.ndarray]:
    """The model behind a rescaling, and images in 0..255: what the exporters take."""
    low, high = float(images.min()), float(images.max())
    scale = (high - low) / 255
    raw = keras.Input(model.input_shape[1:], name="image")
    outputs = model(keras.layers.Rescaling(scale, low)(raw), training=False)
    if not isinstance(outputs, dict):
        outputs = {"logits": outputs}
    return keras.Model(raw, outputs), np.clip((images - low) / scale, 0, 255)


def _bound(model: keras.Model, images: np.ndarray) -> float:
    """The tolerance in the units of the outputs, as the exporters take it."""
    outputs = keras.tree.flatten(model(images, training=False))
    return _TOLERANCE * min(float(np.ptp(np.asarray(output))) for output in outputs)


def _class_names(model: keras.Model) -> dict[str, list[str]]:
    """Names for the heads' units, which the exporters want."""
    heads = describe(model).heads
    return {head: [str(index) for index in range(shape[-1] or 1)] for head, shape in heads.items()}
