"""Losses that compare how values are related, whatever their scale."""

from typing import Any

from keras import ops

from keras_amalgam.losses.soft_target import check_temperature

# Added to the product of two lengths, as in the authors' code: classes that nobody predicts count
# less, and so do their gradients.
EPSILON = 1e-8
# A vector that varies by less than this share of its size varies by float32 rounding alone.
ROUNDING = 1e-6


def pearson_distance(x: Any, y: Any, axis: int = -1, weights: Any = None) -> Any:
    """One minus the Pearson correlation of two arrays along an axis.

    `1 − <x − x̄, y − ȳ> / (‖x − x̄‖ ‖y − ȳ‖ + 1e-8)`: zero for `y = a·x + b` with a > 0, one for
    uncorrelated values, two for a < 0. A constant vector is correlated with nothing: its distance
    is one, and it has no gradient.

    Args:
        x: Any shape.
        y: Of the same shape.
        axis: The axis along which the values are correlated; it is gone from the result.
        weights: What each pair of values counts, at least zero, of a shape that broadcasts to
            `x`'s; by default all count alike.

    Returns:
        Distances from 0 to 2, of `x`'s shape without `axis`, computed and returned in float32.

    Raises:
        ValueError: If the ranks differ, or the lengths along `axis`.

    Reference:
        [Huang et al., 2022](https://arxiv.org/abs/2205.10536)
    """
    if len(x.shape) != len(y.shape) or x.shape[axis] != y.shape[axis]:
        raise ValueError(
            f"`x` and `y` must have one shape. Received: {tuple(x.shape)} and {tuple(y.shape)}, "
            f"to be correlated along axis {axis}."
        )
    x, length_x = _centred(x, axis, weights)
    y, length_y = _centred(y, axis, weights)
    return 1.0 - ops.sum(x * y, axis=axis) / (length_x * length_y + EPSILON)


def relational_losses(
    student_logits: Any, teacher_logits: Any, temperature: float = 1.0, counts: Any = None
) -> tuple[Any, Any]:
    """Distances of a student's and a teacher's predictions by their relations, times temperature².

    Both logits are softened, `softmax(logits / T)`. The first loss correlates the classes within an
    image (inter-class relations), the second the images of the batch within a class (intra-class
    relations). Only the order and proportions of the teacher's probabilities are imitated, so a
    student too small to reach them is not pulled towards their exact values. Between two classes
    the first loss tells only which is the likelier, and has no gradient.

    Args:
        student_logits: Shape `(batch, classes)`, at least two classes.
        teacher_logits: Shape `(batch, classes)`.
        temperature: Softmax divisor, positive.
        counts: One for each image that the second loss relates to others, zero for those left out,
            shape `(batch,)`; by default all.

    Returns:
        `T² · pearson_distance` per image, shape `(batch,)`, and per class, shape `(classes,)`, both
        float32. The second is zero where there is but one image, which relates to no other.

    Raises:
        ValueError: If `temperature` is not positive, the classes differ, or there is only one.

    Reference:
        [Huang et al., 2022](https://arxiv.org/abs/2205.10536)
    """
    check_temperature(temperature)
    classes = student_logits.shape[-1]
    if classes != teacher_logits.shape[-1] or classes < 2:
        raise ValueError(
            "Student and teacher logits must have the same classes, at least two. Received: shapes "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}."
        )
    student = ops.softmax(ops.cast(student_logits, "float32") / temperature)
    teacher = ops.softmax(ops.cast(teacher_logits, "float32") / temperature)
    per_sample = temperature**2 * pearson_distance(student, teacher, axis=1)
    weights = None if counts is None else ops.cast(counts, "float32")[:, None]
    per_class = temperature**2 * pearson_distance(student, teacher, axis=0, weights=weights)
    images = ops.shape(student)[0] if counts is None else ops.sum(counts)
    return per_sample, ops.where(images > 1, per_class, 0.0)


def _centred(x: Any, axis: int, weights: Any) -> tuple[Any, Any]:
    """An array without its mean, times the weights' roots, and its lengths.

    Zeros and zero where it is constant.
    """
    x = ops.cast(x, "float32")
    if weights is None:
        mean = ops.mean(x, axis=axis, keepdims=True)
        size = ops.sum(ops.square(x), axis=axis, keepdims=True)
        x = x - mean
    else:
        total = ops.maximum(ops.sum(weights, axis=axis, keepdims=True), EPSILON)
        mean = ops.sum(weights * x, axis=axis, keepdims=True) / total
        size = ops.sum(weights * ops.square(x), axis=axis, keepdims=True)
        x = (x - mean) * ops.sqrt(weights)
    squared = ops.sum(ops.square(x), axis=axis, keepdims=True)
    constant = squared <= ROUNDING**2 * size
    # The root's slope at zero is infinite; times the zero from `where`, XLA makes NaN of it.
    length = ops.sqrt(ops.where(constant, 1.0, squared))
    x, length = ops.where(constant, 0.0, x), ops.where(constant, 0.0, length)
    return x, ops.squeeze(length, axis=axis)
