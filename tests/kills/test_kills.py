"""A few of the kills of `make test-kills`: at a random moment, and around writing a state."""

import pytest

from tests.kills import killing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an unbroken run, and what it ended with."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, killing.finish(folder)


def test_run_killed_before_anything_is_in_place_begins_when_it_is_given_again(whole, tmp_path):
    events = killing.events_of(whole[0])
    event = next(number for number, name in enumerate(events, 1) if name != "fsync")
    outcome = killing.killed_at_event(tmp_path, event, "before", events[event - 1], whole[1])
    assert outcome.killed and outcome.same and outcome.trained == 0


@pytest.mark.parametrize("part", [0.3, 0.8], ids=["in training", "in packaging"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_run_killed_around_a_rename_goes_on_to_the_same_end(whole, tmp_path, part, when):
    events = killing.events_of(whole[0])
    renames = [number for number, name in enumerate(events, 1) if name != "fsync"]
    event = renames[int(len(renames) * part)]
    outcome = killing.killed_at_event(tmp_path, event, when, events[event - 1], whole[1])
    assert outcome.killed and outcome.same
    assert 0 <= outcome.lost <= 1 and outcome.trained > 0
