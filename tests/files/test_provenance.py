"""What a card says of where its network came from, and the statistics kept beside it."""

import dataclasses
import json

import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam.models.teacher import Provenance

STATISTICS = {
    "/layer1/bn": {"mean": [0.5, -1.25], "variance": [2.0, 0.125]},
    "../bn2": {"mean": [0.0], "variance": [1.0]},
}


@pytest.fixture
def teacher(make):
    """A teacher of a network that came from somewhere and whose batch norms were folded."""
    made = make.teacher("digits", ("a", "b", "c"))
    made.provenance = Provenance(
        "digits.onnx",
        "0" * 64,
        "pytorch 2",
        "test 1",
        opset=17,
        license="MIT",
        batch_norm=STATISTICS,
    )
    return made


def test_statistics_of_folded_batch_norms_are_kept_beside_the_card_with_their_hash(
    teacher, tmp_path
):
    teacher.save(tmp_path / "t")
    card = json.loads((tmp_path / "t" / "card.json").read_text())["provenance"]
    assert card["license"] == "MIT"
    assert card["batch_norm"]["names"] == list(STATISTICS)
    assert len(card["batch_norm"]["sha256"]) == 64
    with np.load(tmp_path / "t" / card["batch_norm"]["file"], allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["0_mean"], [0.5, -1.25])
        assert sorted(arrays) == ["0_mean", "0_variance", "1_mean", "1_variance"]
    assert ka.Teacher.load(tmp_path / "t").provenance == teacher.provenance


def test_changed_or_missing_statistics_are_refused(teacher, tmp_path):
    teacher.save(tmp_path / "t")
    path = tmp_path / "t" / "batch_norm.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    with pytest.raises(ValueError, match="not those of their card"):
        ka.Teacher.load(tmp_path / "t")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="No statistics of batch normalizations"):
        ka.Teacher.load(tmp_path / "t")


def test_a_card_written_before_there_were_licenses_and_statistics_is_read(teacher, tmp_path):
    teacher.save(tmp_path / "t")
    path = tmp_path / "t" / "card.json"
    card = json.loads(path.read_text())
    del card["provenance"]["license"], card["provenance"]["batch_norm"]
    path.write_text(json.dumps(card))
    expected = dataclasses.replace(teacher.provenance, license=None, batch_norm={})
    assert ka.Teacher.load(tmp_path / "t").provenance == expected


def test_a_parity_report_is_written_with_the_teacher(teacher, tmp_path):
    teacher.save(tmp_path / "t", parity={"passed": True})
    assert json.loads((tmp_path / "t" / "parity.json").read_text()) == {"passed": True}
    assert ka.Teacher.load(tmp_path / "t").name == "digits"


def test_only_an_earlier_teacher_is_replaced(teacher, make, tmp_path):
    teacher.save(tmp_path / "t", parity={})
    make.teacher("other", ("a", "b")).save(tmp_path / "t", overwrite=True)
    assert ka.Teacher.load(tmp_path / "t").name == "other"
    assert not (tmp_path / "t" / "parity.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"neither an empty directory nor one that holds"):
        teacher.save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "kept.txt").read_text() == "mine"
