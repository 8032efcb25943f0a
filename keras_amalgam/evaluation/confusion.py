"""Which class was called which, over the classes of all tasks."""

from dataclasses import dataclass

from keras_amalgam.evaluation.quantities import Count, Text


@dataclass(frozen=True)
class Mistake:
    """Images of one class that were taken for another.

    Attributes:
        label: Name of the true class.
        taken_for: Name of the class predicted.
        count: How many images.
        of: How many images the true class has.
    """

    label: str
    taken_for: str
    count: int
    of: int


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """Joint decisions of the student: how many images of each class were called which.

    Attributes:
        labels: Names of the classes, row by row and column by column.
        tasks: The task of each label.
        counts: Images of the true class (row) called a class (column).
    """

    labels: tuple[Text, ...]
    tasks: tuple[Text, ...]
    counts: tuple[tuple[Count, ...], ...]

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(map(sum, self.counts))

    @property
    def crossing(self) -> int:
        """Number of images taken for a class of another task."""
        return sum(
            number
            for task, row in zip(self.tasks, self.counts, strict=True)
            for other, number in zip(self.tasks, row, strict=True)
            if task != other
        )

    def mistakes(self) -> list[Mistake]:
        """What was taken for something else, the most frequent first."""
        found = [
            Mistake(label, self.labels[column], number, sum(row))
            for place, (label, row) in enumerate(zip(self.labels, self.counts, strict=True))
            for column, number in enumerate(row)
            if place != column and number
        ]
        return sorted(found, key=lambda mistake: -mistake.count)
