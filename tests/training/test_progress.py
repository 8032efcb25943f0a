"""What a training says of itself, against numbers worked out by hand."""

from types import SimpleNamespace

import pytest

from keras_amalgam.training import progress as module
from keras_amalgam.training.progress import Length, Progress, in_words, losses_in_words
from keras_amalgam.training.state import Place

LOGS = {"loss": 0.71, "soft_targets": 0.51, "soft_targets/a": 0.2, "soft_targets/b": 0.31,
        "common": 0.2, "common/a": 0.2, "common/a/mmd": 0.1}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to."""
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.time)
    return now


def made(begun=None, seconds=0.0, lines=None, **changes):
    length = Length(**{"epochs": [2, 3], "total": 50, "steps": 10, "batch_size": 4, **changes})
    callback = Progress(length, begun or Place(), seconds, [].append if lines is None else lines)
    callback.set_model(SimpleNamespace(steps_per_execution=1))
    return callback


def test_speed_is_that_of_the_steps_after_the_first_ones_which_build_graphs(clock):
    progress = made()
    for batch in range(8):
        clock.time += 30.0 if batch < 3 else 0.5
        progress.on_train_batch_end(batch, LOGS)
    assert progress.seconds_per_step == pytest.approx(0.5)
    assert progress.images_per_second == pytest.approx(8.0)
    # 50 steps in all, 8 done: 42 steps of half a second.
    assert "epoch 1/5 step 8/10, 8 images/s, 21 s left: loss 0.71 = " in progress.line(LOGS)


def test_time_left_is_told_right_after_a_resume_and_counts_what_follows(clock):
    begun = Place(1, 1, 5)  # 2 epochs, 1 epoch and 5 steps are done: 35 of 50.
    progress = made(begun, seconds=70.0, later=lambda seconds: 100 * seconds)
    assert progress.seconds_per_step == pytest.approx(2.0)
    assert "epoch 4/5 step 5/10, 2 images/s, 4 min left" in progress.line(LOGS)  # 30 s and 200 s.


def test_a_fresh_training_claims_no_speed(clock):
    line = made().line(LOGS)
    assert "images/s" not in line and "left" not in line


def test_steps_of_an_earlier_process_are_not_counted_as_fast_ones(clock):
    progress = made(Place(0, 0, 6), seconds=12.0)
    for batch in range(6):
        clock.time += 0.001
        progress.on_train_batch_end(batch, LOGS)
    assert progress.seconds_per_step == pytest.approx(2.0)


def test_lines_come_every_quarter_of_a_minute_and_at_the_end_of_an_epoch(clock):
    lines = []
    progress = made(lines=lines.append)
    for batch in range(10):
        clock.time += 4.0
        progress.on_train_batch_end(batch, LOGS)
    assert [line.partition(":")[0].partition(",")[0] for line in lines] == [
        "epoch 1/5 step 4/10",
        "epoch 1/5 step 8/10",
    ]
    progress.on_epoch_end(0, LOGS)
    assert lines[-1].startswith("epoch 1/5 step 10/10")


def test_losses_are_said_by_term_and_teacher():
    said = "loss 0.71 = soft_targets 0.51 (a 0.2, b 0.31) + common 0.2 (a 0.2)"
    assert losses_in_words(LOGS) == said


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (89, "89 s"), (720, "12 min"), (12000, "3 h 20 min")]
)
def test_times_are_said_as_people_do(seconds, words):
    assert in_words(seconds) == words
