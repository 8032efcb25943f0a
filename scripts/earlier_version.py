"""Write what a version leaves on disk, and the numbers it computes with it.

    python -m scripts.earlier_version FOLDER

Was run at commit 47b55a6 for `tests/golden/earlier_version`, whose files later versions must load.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_amalgam as ka
from keras_amalgam import export


def teacher(name: str, classes: list[str], seed: int, size: tuple[int, int]) -> ka.Teacher:
    """A tiny convolutional teacher of grey images."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*size, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=f"{name}_conv")(inputs)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    x = keras.layers.ReLU(name=f"{name}_map")(x)
    x = keras.layers.GlobalAveragePooling2D(name=f"{name}_pooled")(x)
    x = keras.layers.Dense(len(classes), name=f"{name}_logits")(x)
    return ka.Teacher(
        keras.Model(inputs, x, name=name),
        name=name,
        class_names=classes,
        tap=f"{name}_map",
        preprocessing=ka.Preprocessing(size=size, mean=0.3, std=0.4),
    )


def amalgamator(teachers: list[ka.Teacher]) -> ka.Amalgamator:
    """With both terms and an optimizer that has a state."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="c1")(inputs)
    x = keras.layers.BatchNormalization(name="b1")(x)
    x = keras.layers.ReLU(name="student_map")(x)
    student = ka.build_student(keras.Model(inputs, x, name="backbone"), teachers)
    terms = [ka.SoftTargets(temperature=2.0), ka.CommonFeatures(units=4, weight=0.5)]
    model = ka.Amalgamator(student, teachers, "student_map", terms=terms)
    model.compile(optimizer=keras.optimizers.AdamW(1e-2))
    return model


def write(folder: Path) -> None:
    """Write teachers, student, checkpoint and what they give."""
    folder.mkdir(parents=True, exist_ok=True)
    teachers = [
        teacher("digits", ["0", "1", "2"], 1, (12, 12)),
        teacher("shapes", ["circle", "square"], 2, (16, 16)),
    ]
    for one in teachers:
        one.save(folder / one.name)
    model = amalgamator(teachers)
    images = np.random.default_rng(0).integers(0, 256, (16, 12, 12, 1), dtype=np.uint8)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(images, epochs=2, **options)
    model.save(folder / "amalgamator.keras")
    export.to_keras(model.student, folder / "student.keras")
    found = {f"student/{k}": v for k, v in model.student.predict(images, verbose=0).items()}
    for one in teachers:
        signals = one.signals(1).predict(images, verbose=0)
        found |= {
            f"teacher/{one.name}/logits": signals["answers"][one.name],
            f"teacher/{one.name}/features": signals["features"]["features"],
        }
    history = model.fit(images, epochs=1, **options).history
    found |= {f"next/{k.replace('/', '|')}": np.array(v) for k, v in history.items()}
    np.savez_compressed(folder / "expected.npz", images=images, **found)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
