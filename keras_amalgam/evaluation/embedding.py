"""The common space as a picture: where student and teachers place the same test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sklearn.manifold
import threadpoolctl

MAX_POINTS = 600
MIN_POINTS = 12


@dataclass(frozen=True)
class CommonSpace:
    """Points of a two-dimensional picture, one for each pair of model and image shown.

    Attributes:
        points: `(points, 2)`; only neighbourhoods mean something, neither axes nor distances do.
        model: Name of the model that placed each point, `(points,)`.
        task: Task of each point's image, `(points,)`.
        label: Class name of each point's image, `(points,)`.
        seed: Of the drawing of images and of t-SNE.
    """

    points: np.ndarray
    model: np.ndarray
    task: np.ndarray
    label: np.ndarray
    seed: int


def common_space(
    features: Mapping[str, np.ndarray],
    task_of_image: Sequence[str] | np.ndarray,
    class_of_image: Sequence[str] | np.ndarray,
    domains: Mapping[str, str] | None = None,
    seed: int = 0,
) -> CommonSpace:
    """Place the common features of all models in the plane by t-SNE.

    All models go into one t-SNE, so that points of different models can be compared. At most 600
    points are shown, the images drawn evenly from the classes.

    Args:
        features: Per model (student, then teachers) the features in the common space of the same
            images: `(images, units)` or maps `(images, height, width, channels)`. Maps are
                flattened
            and rows are scaled to length one, as the MMD term does.
        task_of_image: Name of each image's task, `(images,)`.
        class_of_image: Class name of each image, `(images,)`.
        domains: `{model: task}` for models to be shown on that task's images only: a teacher on its
            own domain. The others are shown on all images.
        seed: Of the drawing of images and of t-SNE.

    Returns:
        The points with their model, task and class.

    Raises:
        ValueError: If the models' features differ in images or units, or there are under 12 points.

    Reference:
        [van der Maaten and Hinton, 2008](https://jmlr.org/papers/v9/vandermaaten08a.html)
    """
    rows = {name: unit_rows(values) for name, values in features.items()}
    tasks, classes = np.asarray(task_of_image), np.asarray(class_of_image)
    shapes = {name: values.shape for name, values in rows.items()}
    if len(set(shapes.values())) != 1 or {len(tasks), len(classes)} != {
        shape[0] for shape in shapes.values()
    }:
        raise ValueError(
            f"Common features must be of the same images and units. Received: {shapes} for "
            f"{len(tasks)} tasks and {len(classes)} class names."
        )
    domains = domains or {}
    shows = {name: tasks == domains[name] if name in domains else tasks == tasks for name in rows}
    order = _in_turn(tasks, classes, seed)
    points_so_far = np.cumsum(np.sum([seen[order] for seen in shows.values()], axis=0))
    order = order[points_so_far <= MAX_POINTS]
    picked = {name: order[seen[order]] for name, seen in shows.items()}
    index = np.concatenate(list(picked.values()))
    stacked = np.concatenate([rows[name][images] for name, images in picked.items()])
    if len(stacked) < MIN_POINTS:
        raise ValueError(
            f"Too few points for a picture. Received: {len(stacked)}. Expected at least "
            f"{MIN_POINTS}; t-SNE needs neighbours. Show more images."
        )
    # One thread: on a busy machine the OpenMP threads of t-SNE wait for each other, up to a
    # hundred times longer than one thread takes for these few points.
    with threadpoolctl.threadpool_limits(1):
        points = sklearn.manifold.TSNE(
            perplexity=min(30.0, (len(stacked) - 1) / 3), init="pca", random_state=seed
        ).fit_transform(stacked)
    model = np.repeat(list(picked), [len(images) for images in picked.values()])
    return CommonSpace(points, model, tasks[index], classes[index], seed)


def class_retrieval(
    student: np.ndarray, teacher: np.ndarray, classes: Sequence[str] | np.ndarray
) -> float:
    """How often the teacher's feature nearest to the student's, of another image, has its class.

    Unlike a picture this is measured in the common space itself. Independent spaces give about
    1/classes.

    Args:
        student: Student's common features, `(images, ...)`.
        teacher: Teacher's common features of the same images, the same shape.
        classes: Class of each image, `(images,)`, at least two images.

    Returns:
        A fraction in 0..1.

    Raises:
        ValueError: If shapes differ or there are fewer than two images.
    """
    queries, keys, classes = unit_rows(student), unit_rows(teacher), np.asarray(classes)
    if queries.shape != keys.shape or classes.shape != queries.shape[:1] or len(classes) < 2:
        raise ValueError(
            f"Retrieval needs the same images from both models. Received: shapes {queries.shape} "
            f"and {keys.shape} for {classes.shape} classes. Expected at least two images, one "
            "class each."
        )
    similarity = queries @ keys.T
    np.fill_diagonal(similarity, -np.inf)  # the same image would be too easy
    return float(np.mean(classes[similarity.argmax(axis=1)] == classes))


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Features flattened to one row an image and scaled to length one; zero rows stay zero.

    Args:
        features: `(images, units)` or `(images, height, width, channels)`.

    Returns:
        `(images, units)`, float32.
    """
    features = np.asarray(features, dtype="float32")
    rows = features.reshape(len(features), -1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _in_turn(tasks: np.ndarray, classes: np.ndarray, seed: int) -> np.ndarray:
    """Indices of all images, in turn from every class, each class shuffled."""
    order = np.random.default_rng(seed).permutation(len(classes))
    seen: dict[tuple[str, str], int] = {}
    turns = np.empty(len(order), dtype="int64")
    for place, image in enumerate(order):
        key = (str(tasks[image]), str(classes[image]))
        turns[place] = seen[key] = seen.get(key, -1) + 1
    return order[np.argsort(turns, kind="stable")]
