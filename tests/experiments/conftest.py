"""A recipe that runs in seconds, of both kinds of teachers' images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.experiments import Recipe
from keras_amalgam.experiments.estimate import Estimate
from keras_amalgam.terms import CommonFeatures, SoftTargets
from keras_amalgam.training import Method, Stage, cosine_adamw


def both():
    return [SoftTargets(ownership="source"), CommonFeatures(units=2, weight=0.1)]


@pytest.fixture
def recipe(teachers, make):
    images = {"image": make.images(32), "source": np.arange(32, dtype="int32") % 2}
    stage = Stage(both, 1, cosine_adamw(1e-2))
    without = Stage(lambda: both()[:1], 1, cosine_adamw(1e-2))
    untaught = Stage(lambda: both()[1:], 1, cosine_adamw(1e-2))
    blind = Stage(lambda: [SoftTargets("per_task")], 1, cosine_adamw(1e-2))
    test = {
        teacher.name: tf.data.Dataset.from_tensor_slices(
            (make.images(24, seed=n), np.arange(24) % len(teacher.class_names))
        ).batch(8)
        for n, teacher in enumerate(teachers)
    }
    return Recipe(
        name="tiny",
        teachers=teachers,
        student=lambda: make.student(teachers),
        student_tap="student_map",
        streams={"train": tf.data.Dataset.from_tensor_slices(images).batch(8)},
        evaluation=test,
        methods=[
            Method("main", (stage, stage)),
            Method("all", (stage,)),
            Method("without", (without,), removes="common_features"),
            Method("untaught", (untaught,), removes="soft_targets"),
            Method("blind", (blind,)),
        ],
    )


@pytest.fixture
def one(recipe):
    """Of one method of one stage."""
    stage = recipe.methods[0].stages[0]
    method = dataclasses.replace(recipe.methods[0], stages=(dataclasses.replace(stage, epochs=5),))
    return dataclasses.replace(recipe, methods=[method])


@pytest.fixture
def measured():
    """What might have been measured of it."""
    return Estimate(
        paces={"main": [0.5]}, batch_size=64, once=20.0, training=600.0, after=100.0,
        memory=2 * 10**9, disk=3 * 10**6,
    )  # fmt: skip


@pytest.fixture
def few_steps(monkeypatch):
    """Few are timed, without graphs."""
    monkeypatch.setattr("keras_amalgam.experiments.estimate.STEPS", 4)
    monkeypatch.setattr("keras_amalgam.experiments.estimate.STEADY", 1)
