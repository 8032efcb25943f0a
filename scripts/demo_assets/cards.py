"""The cards of the demo's teachers: what stands in `digits.json` and `fashion.json`.

Everything but the description in `DESCRIBED` is measured on the shipped file or read from it.
"""

import hashlib
import json
import pathlib
import zipfile

import keras
import numpy as np
import onnx
import onnxruntime
import sources

DESCRIBED = {
    "digits": {
        "file": "digits.onnx",
        "class_names": list(sources.DIGIT_NAMES),
        "preprocessing": {
            "size": [28, 28],
            "scale": 1 / 255,
            "mean": 0.1307,
            "std": 0.3081,
            "interpolation": "bilinear",
            "antialias": False,
            "crop_fraction": 1.0,
            "channels": "grey",
        },
        "tap": "node_relu_8",
    },
    "fashion": {
        "file": "fashion.keras",
        "class_names": list(sources.FASHION_NAMES),
        "preprocessing": {
            "size": [32, 32],
            "scale": 1 / 255,
            "mean": 0.5,
            "std": 0.5,
            "interpolation": "bilinear",
            "antialias": False,
            "crop_fraction": 1.0,
            "channels": "grey",
        },
        "tap": "tokens",
    },
}


def read_card(teachers: pathlib.Path, name: str) -> dict:
    """The card of teacher `name` in the folder `teachers`."""
    return json.loads((teachers / f"{name}.json").read_text(encoding="utf-8"))


def write_card(teachers: pathlib.Path, card: dict) -> None:
    """Writes `card` beside its teacher."""
    path = teachers / f"{card['name']}.json"
    beside = path.with_suffix(".part.json")
    beside.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    beside.rename(path)


def logits_of(path: pathlib.Path, preprocessing: dict, images: np.ndarray) -> np.ndarray:
    """What the teacher in the file `path` answers to raw images, in its own runtime.

    Args:
        path: An `.onnx` file, run by onnxruntime, or a `.keras` file.
        preprocessing: As a card states it.
        images: Raw images `(number, 28, 28, 1)` uint8.

    Returns:
        Logits, shape `(number, 10)`.
    """
    x = images.astype("float32")
    if tuple(preprocessing["size"]) != x.shape[1:3]:
        resizing = keras.layers.Resizing(
            *preprocessing["size"], interpolation=preprocessing["interpolation"]
        )
        x = keras.ops.convert_to_numpy(resizing(x))
    x = (x * preprocessing["scale"] - preprocessing["mean"]) / preprocessing["std"]
    x = x.astype("float32")
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        parts = np.array_split(np.moveaxis(x, -1, 1), max(1, len(x) // 250))
        return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])
    return keras.saving.load_model(path, compile=False).predict(x, batch_size=250, verbose=0)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of `labels` that is the largest logit's index."""
    return float((logits.argmax(1) == labels).mean())


def facts_of_onnx(path: pathlib.Path, tap: str) -> dict:
    """Parameters and provenance of an ONNX file.

    Raises:
        ValueError: If it has no node named `tap`.
    """
    model = onnx.load(path)
    nodes = [node.name for node in model.graph.node]
    if tap not in nodes:
        raise ValueError(f"{path.name} has no node '{tap}'. Expected the tap to be one of {nodes}.")
    weights = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    return {
        "parameters": sum(int(np.prod(w.dims)) for w in weights),
        "provenance": {
            "framework": model.producer_name,
            "versions": {model.producer_name: model.producer_version},
            "opset": model.opset_import[0].version,
            "script": "scripts/demo_assets/train_digits.py",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }


def facts_of_keras(path: pathlib.Path, tap: str) -> dict:
    """Parameters and provenance of a `.keras` file.

    Raises:
        ValueError: If it has no layer named `tap`.
    """
    model = keras.saving.load_model(path, compile=False)
    model.get_layer(tap)
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    return {
        "parameters": model.count_params(),
        "provenance": {
            "framework": "keras",
            "versions": {"keras": metadata["keras_version"]},
            "script": "scripts/demo_assets/train_fashion.py",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }


def measured_card(
    teachers: pathlib.Path, name: str, collection: sources.Collection, shipped: sources.Labelled
) -> dict:
    """The card of teacher `name`, with every number measured now.

    Args:
        teachers: The folder of the teachers' files.
        name: `"digits"` or `"fashion"`.
        collection: The images as their source has them.
        shipped: The demo's test images as the repository has them.
    """
    described = DESCRIBED[name]
    path = teachers / described["file"]
    facts = (facts_of_onnx if path.suffix == ".onnx" else facts_of_keras)(path, described["tap"])
    scores = {}
    for key, data in (("test", collection.official_test), ("demo_test", shipped)):
        logits = logits_of(path, described["preprocessing"], data.images.reshape(-1, 28, 28, 1))
        scores[key] = round(accuracy(logits, data.labels), 4)
    return {
        "name": name,
        **described,
        "outputs": "logits",
        "accuracy": {
            "test": scores["test"],
            "images": len(collection.official_test.labels),
            "demo_test": scores["demo_test"],
            "demo_images": len(shipped.labels),
        },
        "trained_on": len(collection.taught.labels),
        "bytes": path.stat().st_size,
        **facts,
    }
