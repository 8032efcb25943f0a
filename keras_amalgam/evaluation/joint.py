"""Accuracy over the whole label space, the task of an image being unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import sklearn.metrics

from keras_amalgam.evaluation.confusion import ConfusionMatrix
from keras_amalgam.evaluation.predictions import Labelled, Predict, collect, task_accuracy
from keras_amalgam.tasks.label_space import LabelSpace


@dataclass(frozen=True)
class Evaluation:
    """What one model says about the test images of all tasks, or of some.

    Attributes:
        logits: `{task of the images: {head: (images, classes)}}`.
        labels: `{task: (images,)}`, in the task's own class order.
        label_space: The classes of all tasks.
    """

    logits: Mapping[str, Mapping[str, np.ndarray]]
    labels: Mapping[str, np.ndarray]
    label_space: LabelSpace

    def save(self, file: IO[bytes]) -> None:
        """Write logits and labels in NumPy's `.npz` form."""
        arrays = {f"labels/{task}": labels for task, labels in self.labels.items()}
        for task, heads in self.logits.items():
            arrays |= {f"logits/{task}/{head}": values for head, values in heads.items()}
        np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, file: IO[bytes], label_space: LabelSpace) -> "Evaluation":
        """Read what `save` wrote.

        Args:
            file: Opened for reading.
            label_space: The classes of all tasks, of names without `/`.
        """
        logits: dict[str, dict[str, np.ndarray]] = {}
        labels = {}
        with np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                kind, task, *head = key.split("/")
                if kind == "labels":
                    labels[task] = arrays[key]
                else:
                    logits.setdefault(task, {})[head[0]] = arrays[key]
        return cls(logits, labels, label_space)

    @property
    def task_accuracy(self) -> dict[str, float]:
        """Per task: fraction right on its own test images among its own classes."""
        return {
            task: task_accuracy(self.logits[task][task], labels)
            for task, labels in self.labels.items()
        }

    @property
    def num_images(self) -> dict[str, int]:
        """Per task: how many test images."""
        return {task: len(labels) for task, labels in self.labels.items()}

    @property
    def is_complete(self) -> bool:
        """Whether every task of the label space has test images."""
        return set(self.labels) == set(self.label_space.tasks)

    @property
    def joint_accuracy(self) -> float | None:
        """Fraction right over all test images and the whole label space.

        `None` where a task has no test images: the joint decision would be judged without those
        images that it mistakes for another task's.
        """
        if not self.is_complete:
            return None
        return float(np.mean(self.joint_predictions == self.joint_labels))

    @property
    def confusion_matrix(self) -> np.ndarray:
        """Images of true joint class (row) called joint class (column), `(classes, classes)`."""
        return confusion_matrix(self.joint_labels, self.joint_predictions, self.label_space)

    def named_confusion_matrix(self) -> ConfusionMatrix | None:
        """The confusion matrix with the name and the task of each class.

        `None` where the joint accuracy is.
        """
        if not self.is_complete:
            return None
        space = self.label_space
        return ConfusionMatrix(
            labels=tuple(space.names),
            tasks=tuple(space.speakers(name)[0] for name in space.names),
            counts=tuple(map(tuple, self.confusion_matrix.tolist())),
        )

    @property
    def joint_predictions(self) -> np.ndarray:
        """Joint class of every test image, task after task, `(images,)`."""
        parts = [joint_predictions(self.logits[task], self.label_space) for task in self.labels]
        return np.concatenate(parts)

    @property
    def joint_labels(self) -> np.ndarray:
        """True joint class of every test image, task after task, `(images,)`."""
        parts = [self.label_space.indices[task][labels] for task, labels in self.labels.items()]
        return np.concatenate(parts)


def agreement(one: Evaluation, other: Evaluation) -> dict[str, float]:
    """How often two models choose the same class on a task's own test images.

    Args:
        one: The student's evaluation, say.
        other: The teachers' evaluation on the same images.

    Returns:
        Per task a fraction in 0..1.
    """
    return {
        task: task_accuracy(one.logits[task][task], other.logits[task][task].argmax(axis=1))
        for task in one.labels
    }


def evaluate(
    predict: Predict, test: Mapping[str, Labelled], label_space: LabelSpace, batch_size: int = 256
) -> Evaluation:
    """Show every task's test images to a model, once.

    Args:
        predict: Images to `{task: logits}`, for every task; see `predictor`, `teachers_predictor`.
        test: Labelled test images of each task, labels in the task's own class order.
        label_space: The classes of all tasks.
        batch_size: How many images at once; used for arrays only.

    Returns:
        The logits and labels, from which the accuracies follow.

    Raises:
        ValueError: If a task has no classes in the label space, no head, or no test image, or a
            label is none of its classes.
    """
    unknown = [task for task in test if task not in label_space.indices]
    if unknown or not test:
        raise ValueError(
            f"Test images don't fit the label space. Received: tasks {list(test)}. Expected one or "
            f"more of {list(label_space.tasks)}. Name the test data after the tasks."
        )
    logits, labels = {}, {}
    for task, labelled in test.items():
        logits[task], labels[task] = collect(predict, labelled, batch_size)
        silent = [name for name in label_space.tasks if name not in logits[task]]
        if silent:
            raise ValueError(
                f"A model evaluated over the label space must speak for every task. Received: "
                f"heads {list(logits[task])}. Missing: {silent}. For one task alone use `collect`."
            )
        task_accuracy(logits[task][task], labels[task])  # refuses labels that are no class
    return Evaluation(logits, labels, label_space)


def joint_predictions(logits: Mapping[str, np.ndarray], label_space: LabelSpace) -> np.ndarray:
    """The class of largest joint logit.

    Args:
        logits: Per task, `(images, classes of the task)`, all of the same images.
        label_space: The classes of all tasks.

    Returns:
        Joint class indices `(images,)`.
    """
    return np.asarray(label_space.join(logits)).argmax(axis=1)


def joint_accuracy(
    logits_by_task: Mapping[str, np.ndarray],
    labels: np.ndarray,
    task_of_image: Sequence[str] | np.ndarray,
    label_space: LabelSpace,
) -> float:
    """Fraction of images whose largest joint logit is the label's, the task being unknown.

    Args:
        logits_by_task: Per task, `(images, classes of the task)`, all of the same images.
        labels: Class of each image among its own task's classes, `(images,)`.
        task_of_image: Name of each image's task, `(images,)`; used to place the label, never to
            predict.
        label_space: The classes of all tasks.

    Returns:
        A fraction in 0..1.

    Raises:
        ValueError: If labels, tasks and logits differ in number or a label is none of its classes.
    """
    labels, tasks = np.asarray(labels), np.asarray(task_of_image)
    predictions = joint_predictions(logits_by_task, label_space)
    if not len(predictions) or labels.shape != predictions.shape or tasks.shape != labels.shape:
        raise ValueError(
            f"Logits, labels and tasks don't fit. Received: {len(predictions)} rows of logits, "
            f"labels of shape {labels.shape}, tasks of shape {tasks.shape}. Expected one of each "
            "per image."
        )
    truth = np.full(labels.shape, -1)
    for task, places in label_space.indices.items():
        own = tasks == task
        if own.any() and not 0 <= labels[own].min() <= labels[own].max() < len(places):
            raise ValueError(
                f"A label of task '{task}' is none of its classes. Received: labels "
                f"{labels[own].min()} to {labels[own].max()} for {len(places)} classes."
            )
        truth[own] = places[labels[own]]
    if (truth < 0).any():
        raise ValueError(
            f"A task is not in the label space. Received: {sorted(set(tasks.tolist()))}. Expected: "
            f"{list(label_space.tasks)}."
        )
    return float(np.mean(predictions == truth))


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, label_space: LabelSpace
) -> np.ndarray:
    """How many images of each joint class were called which.

    Args:
        labels: True joint class indices `(images,)`.
        predictions: Predicted joint class indices `(images,)`.
        label_space: The classes of all tasks.

    Returns:
        Counts `(classes, classes)`, row: true class, column: predicted class.
    """
    return sklearn.metrics.confusion_matrix(labels, predictions, labels=np.arange(len(label_space)))
