"""Use the installed package as a stranger would: outside the repository, both ways in and out."""

import pathlib
import tempfile

import keras
import numpy as np

import keras_amalgam as ka
from keras_amalgam import data, export, teachers
from keras_amalgam.experiments import digits_fashion

home = pathlib.Path(ka.__file__).parent
if "site-packages" not in str(home):
    raise SystemExit(f"The package was not imported from its installation, but from {home}.")

recipe = digits_fashion.recipe()
model = ka.Amalgamator(
    recipe.student(),
    recipe.teachers,
    student_tap=recipe.student_tap,
    terms=[ka.SoftTargets(), ka.CommonFeatures(units=8)],
)
model.compile(optimizer=keras.optimizers.AdamW(1e-3))
images = data.from_tfds("demo_digits", "unlabelled", data.demo_data_dir()).take(256).batch(64)
history = model.fit(images, verbose=2).history
with tempfile.TemporaryDirectory() as folder:
    artifact = export.to_tflite(model.student, f"{folder}/student.tflite", image_shape=(28, 28))
print(
    f"wheel: loss {history['loss'][-1]:.3f}, TFLite within {artifact.parity['max_abs_error']:.1e}"
)
if not np.isfinite(history["loss"][-1]) or not teachers.__name__.startswith("keras_amalgam."):
    raise SystemExit("The installed package does not work.")
