"""What a few steps tell of a whole run."""

import dataclasses

import numpy as np
import pytest

from keras_amalgam.experiments import estimate as module
from keras_amalgam.experiments import shortening
from keras_amalgam.experiments.estimate import estimate
from keras_amalgam.training import train
from keras_amalgam.training.keeping import Keeping

pytestmark = pytest.mark.usefixtures("eagerly", "few_steps")


def test_stages_are_measured_as_they_are_trained(recipe):
    method = recipe.methods[0]
    stages = (method.stages[0], dataclasses.replace(method.stages[1], freeze=("student",)))
    measured = module._measure(recipe, dataclasses.replace(method, stages=stages))
    assert len(measured.paces) == 2 and min(measured.paces) > 0
    with pytest.raises(ValueError, match="nothing to freeze of this name. Received: 'nothing'"):
        wrong = dataclasses.replace(stages[1], freeze=("nothing",))
        module._measure(recipe, dataclasses.replace(method, stages=(stages[0], wrong)))


def test_median_of_steady_steps_is_told_apart_from_the_first_ones():
    times = iter([0.0, 9.0, 10.0, 10.1, 10.2, 10.3])
    timed = module._Timed(lambda: next(times))
    for batch in range(5):
        timed.on_train_batch_end(batch)
    assert timed.pace == pytest.approx(0.1)
    assert timed.once == pytest.approx(9.0 - 0.1), "One step is let pass."


def test_sentence_says_time_memory_and_disk(measured):
    assert measured.sentence == (
        "A step takes 500 ms, 128 images/s: about 10 min of training and 2 min of evaluation and "
        "packaging, 2.00 GB of memory in training, up to 3.00 MB on the disk."
    )


def test_estimate_of_the_disk_counts_the_states_that_stay(one, tmp_path):
    small, large = estimate(one, keep=1).disk, estimate(one, keep=5).disk
    method = shortening.cut_short(one, 1).methods[0]
    train(
        method, one.teachers, one.student, one.student_tap, one.streams["train"],
        keeping=Keeping(tmp_path, keep=1), verbose=0,
    )  # fmt: skip
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        state = sum(arrays[name].nbytes for name in arrays.files if name != "about")
    assert (large - small) / 4 == pytest.approx(state, rel=0.1)
