"""The step in Keras and its parts: a process that does as many as it is asked for.

    python -m benchmarks.speed.keras_step CASE TERMS FOLDER

It writes its weights into the folder, for the step in PyTorch.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_amalgam as ka
from benchmarks.speed import serving
from benchmarks.speed.cases import CASES, SEED, TERMS, Case, Terms
from benchmarks.speed.profile import profiled
from keras_amalgam import teachers
from keras_amalgam.experiments import digits_fashion
from keras_amalgam.models import backbones
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals


class Parts:
    """A step with live teachers, and what it consists of.

    Args:
        case: Networks and images.
        terms: What is imitated.
    """

    def __init__(self, case: Case, terms: Terms) -> None:
        keras.utils.set_random_seed(SEED)
        self.case, self.terms = case, terms
        self.pixels = ka.Preprocessing((case.size, case.size), scale=1 / 127.5, mean=1.0)
        self.teachers, self.backbone, tap = _networks(case, self.pixels)
        self.student = ka.build_student(self.backbone, self.teachers, self.pixels)
        tap = "pooled" if case.features_are_vectors else f"{self.backbone.name}/{tap}"
        self.model = ka.Amalgamator(
            self.student, self.teachers, student_tap=tap, terms=_made(terms)
        )
        self.model.compile(optimizer=keras.optimizers.Adam(serving.RATE))
        self.batch = {"image": case.images(), "source": case.source()}

    def steps(self) -> dict[str, Callable[[], Any]]:
        """By name what does one step."""
        stored = self.batch | {"signals": self._signals()}
        return {
            "live": _training_step(self.model, self.batch),
            "stored": _training_step(self.model, stored),
            "student": self._supervised(),
            "student_forward": self._forward(),
            "teachers": self._teachers_alone(),
            "terms": self._terms_alone(),
        } | self._distillers()

    def first_losses(self) -> list[float]:
        """The losses of the first steps with live teachers."""
        losses = []
        for _ in range(serving.COMPARED):
            self.model.reset_metrics()  # Which are means over all steps since.
            losses.append(self.model.train_on_batch(self.batch, return_dict=True)["loss"])
        return losses

    def write_weights(self, path: Path) -> None:
        """What PyTorch needs to begin from: heads, the compact backbone, the common space."""
        held = {}
        for teacher in self.teachers:
            kernel, bias = self.student.get_layer(teacher.name).get_weights()
            held |= {f"{teacher.name}/kernel": kernel, f"{teacher.name}/bias": bias}
        if self.case.width is not None:
            layers = [layer for layer in self.backbone.layers if layer.weights]
            for number, layer in enumerate(layers):
                for part, weight in enumerate(layer.get_weights()):
                    held[f"backbone/{number}/{part}"] = weight
        for number, kernel in enumerate(kernels(self.model)):
            held[f"space/{number}"] = kernel
        np.savez(path, **held)

    def _signals(self) -> dict[str, Any]:
        _, signals = self.model.signals(self.batch)
        return {
            name: {
                "answers": {key: np.asarray(value) for key, value in one.answers.items()},
                "features": {key: np.asarray(value) for key, value in one.features.items()},
            }
            for name, one in signals.items()
        }

    def _supervised(self) -> Callable[[], Any]:
        """The student's own step with labels, by plain Keras."""
        student = keras.models.clone_model(self.student)
        labels = {
            teacher.name: np.arange(self.case.batch, dtype="int32") % self.case.classes
            for teacher in self.teachers
        }
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        student.compile(keras.optimizers.Adam(serving.RATE), dict.fromkeys(labels, loss))
        return _training_step(student, (self.batch["image"], labels))

    def _forward(self) -> Callable[[], Any]:
        passed = tf.function(lambda images: self.student(images, training=False))
        images = tf.constant(self.batch["image"])
        return lambda: np.asarray(tf.nest.flatten(passed(images))[0])

    def _teachers_alone(self) -> Callable[[], Any]:
        models = [teacher.signals(self.case.channels) for teacher in self.teachers]
        passed = tf.function(lambda images: [model(images, training=False) for model in models])
        images = tf.constant(self.batch["image"])
        return lambda: np.asarray(tf.nest.flatten(passed(images))[0])

    def _terms_alone(self) -> Callable[[], Any]:
        """The losses of given signals, and the way back to the student's and the terms' weights."""
        student, others = self.model.signals(self.batch)
        batch = Batch.of(self.batch)
        weights = [one for term in self.model.terms for one in term.trainable_variables]
        optimizer = keras.optimizers.Adam(serving.RATE)
        optimizer.build(weights)

        @tf.function
        def step(answers: Any, features: Any, theirs: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch([answers, features])
                signals = {name: Signals(*one) for name, one in theirs.items()}
                losses = self.model.term_losses(
                    Signals(answers, features), signals, batch, training=True
                )
                loss = sum(losses[term.name] for term in self.model.terms)
            gradients, back = tape.gradient(loss, (weights, [answers, features]))
            optimizer.apply(gradients, weights)
            return loss, back

        theirs = {name: (one.answers, one.features) for name, one in others.items()}
        return lambda: float(step(student.answers, student.features, theirs)[0])

    def _distillers(self) -> dict[str, Callable[[], Any]]:
        """Keras' own distillation of the first teacher, and the same by soft targets of ours."""
        if self.terms.units is not None or self.case.taken:
            return {}
        case, teacher = self.case, self.teachers[0]
        pixels = self.batch["image"].astype("float32")
        images = keras.Input(pixels.shape[1:])
        plain = keras.Model(images, teacher.model(self.pixels.build(images, case.channels)))
        student = ka.build_student(keras.models.clone_model(self.backbone), [teacher], self.pixels)
        alone = keras.Model(images, student(images)[teacher.name])
        distiller = keras.distillation.Distiller(
            plain, alone, keras.distillation.LogitsDistillation(1.0), 1.0, student_loss_weight=0.5
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.Adam(serving.RATE), loss)
        labels = np.arange(case.batch, dtype="int32") % case.classes
        model = ka.Amalgamator(
            ka.build_student(keras.models.clone_model(self.backbone), [teacher], self.pixels),
            [teacher], terms=[ka.SoftTargets()],
        )  # fmt: skip
        model.compile(optimizer=keras.optimizers.Adam(serving.RATE))
        return {
            "distiller": _training_step(distiller, (pixels, labels)),
            "one_teacher": _training_step(model, {"image": self.batch["image"]}),
        }


def kernels(model: ka.Amalgamator) -> Iterator[np.ndarray]:
    """The common space's kernels: adapters, extractor, its skip, decoders."""
    for term in model.terms:
        if isinstance(term, ka.CommonFeatures):
            blocks = term.extractor.blocks
            layers = [one.linear for one in (*term.student_adapters, *term.teacher_adapters)]
            layers += [layer for block in blocks for layer in (block.first, block.second)]
            layers += [block.skip for block in blocks if block.skip is not None]
            layers += [layer for one in term.decoders for layer in (one.hidden, one.linear)]
            yield from (layer.get_weights()[0] for layer in layers)


def _networks(case: Case, pixels: ka.Preprocessing) -> tuple[list[ka.Teacher], keras.Model, str]:
    """Teachers, the student's backbone and its tap: the modules of the case, converted."""
    if case.is_demo:
        recipe = digits_fashion.recipe()
        return recipe.teachers, backbones.compact(digits_fashion.IMAGE_SHAPE), "map"
    modules, student = case.modules()
    shape = (1, case.channels, case.size, case.size)
    made = []
    for name, module in modules.items():
        # Not compared here: that the losses are PyTorch's says more.
        model = teachers.from_torch(module, shape, output="output_1", verify=False)
        classes = [f"{name} {number}" for number in range(case.classes)]
        made.append(
            ka.Teacher(model, name=name, class_names=classes, tap=case.tap, preprocessing=pixels)
        )
    if case.width is not None:
        size = (case.size, case.size, case.channels)
        return made, backbones.compact(size, width=case.width), "map"
    backbone = teachers.from_torch(student, shape, verify=False)
    return made, backbone, backbone.layers[-1].name


def _made(terms: Terms) -> list[ka.AmalgamationTerm]:
    soft = [ka.SoftTargets(one, name=f"{one}_targets") for one in terms.soft]
    space = [ka.CommonFeatures(terms.units, terms.weight)] if terms.units else []
    return [*soft, *space]


def _training_step(model: keras.Model, data: Any) -> Callable[[], float]:
    """A step as `fit` does it, on the same batch each time."""
    batches = iter(tf.data.Dataset.from_tensors(data).repeat())
    if not isinstance(data, Mapping):
        model.train_on_batch(*data)
    else:
        model.train_on_batch(data)
    step: Any = model.make_train_function() or model.train_function
    return lambda: float(step(batches)["loss"])


def main() -> None:
    """Serve steps."""
    case, terms, folder = sys.argv[1:]
    parts = Parts(CASES[case], TERMS[terms])
    parts.write_weights(Path(folder) / "weights.npz")
    losses = parts.first_losses()  # Before other steps train the same weights.
    steps = parts.steps()
    serving.serve(steps, losses, lambda: profiled(steps["live"]))


if __name__ == "__main__":
    main()
