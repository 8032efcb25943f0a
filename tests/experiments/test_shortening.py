"""Trainings of a number of steps, or of as many as fit."""

import dataclasses

import pytest

from keras_amalgam.experiments.shortening import check_one_stage, cut_short, steps_in


def test_hours_become_the_steps_that_fit_beside_what_follows(one, measured):
    assert steps_in(1120.0, measured, one) == 2000
    with pytest.raises(ValueError, match="fits into 10 s. Expected: more than 2 min, as reading"):
        steps_in(10.0, measured, one)


def test_hours_are_shared_by_all_methods_at_their_own_paces(one, measured):
    (method,) = one.methods
    other = dataclasses.replace(method, name="other")
    both = dataclasses.replace(one, methods=[method, other])
    measured = dataclasses.replace(measured, paces={"main": [0.5], "other": [1.5]})
    assert steps_in(1120.0, measured, both) == 500


@pytest.mark.parametrize(("steps", "epochs"), [(3, 1), (4, 1), (9, 3)])
def test_training_is_cut_short_inside_its_last_epoch(one, steps, epochs):
    (stage,) = cut_short(one, steps).methods[0].stages
    assert (stage.epochs, stage.steps, stage.length(4)) == (epochs, steps, steps)


def test_steps_of_several_stages_are_refused(recipe):
    for refused in (lambda: cut_short(recipe, 10), lambda: check_one_stage(recipe)):
        with pytest.raises(ValueError, match="several stages in \\['main'\\]"):
            refused()
