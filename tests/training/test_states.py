"""State files: which of a folder's is gone on from, and which stay."""

import warnings

import numpy as np
import pytest

from keras_amalgam.training import state as states
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.state import Place, State

NUMBERS = np.arange(1000, dtype="float32")


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Writes the state after so many epochs, of a training with one variable."""
    monkeypatch.setattr(states, "_variables", lambda _: [("numbers", NUMBERS)])
    return lambda epoch, keep=3: states.save(tmp_path, State(Place(0, epoch)), None, keep)


def names(folder):
    return [path.name for path in sorted(folder.iterdir())]


def damage(path):
    """Turns over some bytes of the numbers: what is said of them stays readable."""
    content = bytearray(path.read_bytes())
    at = content.index(NUMBERS[500:].tobytes())
    content[at : at + 64] = bytes(255 - byte for byte in content[at : at + 64])
    path.write_bytes(content)


@pytest.mark.parametrize("how", [damage, lambda path: path.write_bytes(b"junk")])
def test_damaged_state_is_passed_over_with_a_warning(save, tmp_path, how):
    before, newest = save(1), save(2)
    how(newest)
    with pytest.warns(UserWarning, match=f"goes on from {before.name}: .*{newest.name}.* damaged"):
        found, path = states.latest(tmp_path)
    assert path == before and found.place == Place(0, 1)


def test_whole_states_are_read_without_a_warning(save, tmp_path):
    save(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert states.latest(tmp_path)[0].place == Place(0, 1)
    assert states.latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("keep", [1, 2])
def test_state_that_is_written_stays_whatever_lies_there_of_later_places(save, tmp_path, keep):
    for epoch in (7, 8, 9):
        save(epoch)
    for path in sorted(tmp_path.iterdir())[1:]:
        damage(path)
    save(8, keep)
    kept = [save(place, keep).name for place in (9, 10)]
    assert names(tmp_path) == kept[-keep:]


def test_folder_without_a_whole_state_is_refused_and_left_as_it_is(save, tmp_path):
    for epoch in (1, 2):
        damage(save(epoch))
    before = names(tmp_path)
    with pytest.raises(ValueError, match="is whole. Received: 2 damaged files, the newest state_"):
        Keeping(tmp_path).begun()
    assert names(tmp_path) == before


def test_state_of_another_version_is_refused_and_not_begun_anew(save, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "VERSION", states.VERSION + 1)
    save(1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a state of version 3. Expected: 2. Go on with that"):
        states.latest(tmp_path)


def test_difference_names_the_part_that_differs_in_lists_of_other_lengths():
    one = {"class": "SoftTargets", "temperature": 2.0, "note": "x" * 80}
    before, now = {"terms": [one, {"class": "CommonFeatures"}]}, {"terms": [one]}
    found = states.differences(before, now)
    assert found == ['terms.2: absent, was {"class": "CommonFeatures"}']
