"""What is read off a confusion matrix, against counts made by hand."""

from keras_amalgam.evaluation import ConfusionMatrix
from keras_amalgam.evaluation.confusion import Mistake

MATRIX = ConfusionMatrix(
    labels=("a", "b", "+"),
    tasks=("letters", "letters", "signs"),
    counts=((7, 2, 1), (0, 9, 4), (3, 0, 5)),
)


def test_mistakes_come_the_most_frequent_first_with_the_images_of_their_class():
    assert MATRIX.mistakes() == [
        Mistake("b", "+", 4, 13),
        Mistake("+", "a", 3, 8),
        Mistake("a", "b", 2, 10),
        Mistake("a", "+", 1, 10),
    ]


def test_crossing_counts_images_taken_for_another_tasks_class_alone():
    assert MATRIX.crossing == 1 + 4 + 3
    assert MATRIX.total == 31
    same = ConfusionMatrix(labels=MATRIX.labels, tasks=("one",) * 3, counts=MATRIX.counts)
    assert same.crossing == 0
