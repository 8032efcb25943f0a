import numpy as np
import pytest

from keras_amalgam.evaluation import draw_samples

NAMES = ["x", "y", "z"]
LABELS = np.arange(30) % 3
IMAGES = np.arange(30, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")


def _logits(wrong):
    answers = LABELS.copy()
    answers[wrong] = (answers[wrong] + 1) % 3
    return 2.0 * np.eye(3)[answers]


def _draw(**arguments):
    wrong = [4, 9, 17, 20]
    return draw_samples("task", (IMAGES, LABELS), _logits([]), _logits(wrong), NAMES, **arguments)


def test_samples_carry_their_own_image_label_and_answers():
    for sample in _draw(num_random=30, num_mistakes=4):
        position = int(sample.image[0, 0, 0])
        right = position not in (4, 9, 17, 20)
        assert sample.label == NAMES[position % 3] == sample.teacher.label
        assert (sample.student.label == sample.label) is right


def test_samples_of_mistakes_are_mistakes_and_no_more_than_there_are():
    samples = _draw(num_random=5, num_mistakes=9)
    mistakes = [sample for sample in samples if sample.mistake]

    assert len(samples) == 9
    assert sorted(int(sample.image[0, 0, 0]) for sample in mistakes) == [4, 9, 17, 20]
    assert all(sample.student.label != sample.label for sample in mistakes)


def test_confidence_is_the_softmax_of_the_answer():
    expected = np.exp(2) / (np.exp(2) + 2)
    assert _draw()[0].student.confidence == pytest.approx(expected)


def test_samples_are_drawn_by_the_seed():
    drawn = [[int(s.image[0, 0, 0]) for s in _draw(seed=seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_samples_refuse_logits_of_other_images():
    with pytest.raises(ValueError, match="same images"):
        draw_samples("task", (IMAGES, LABELS), np.zeros((29, 3)), np.zeros((30, 3)), NAMES)
