"""Cross-entropy between a student's and a teacher's softened distributions."""

from typing import Any

from keras import ops


def soft_target_loss(student_logits: Any, teacher_logits: Any, temperature: float = 1.0) -> Any:
    """Cross-entropy of the student to the teacher's soft target, times temperature².

    `-T² Σ_c p_c log q_c` with `p = softmax(teacher_logits / T)`, `q = softmax(student_logits / T)`.
    The factor T² keeps the gradient's size when the temperature changes. Gradients reach both
    arguments; a frozen teacher's logits are constants.

    Args:
        student_logits: Shape `(batch, classes)`.
        teacher_logits: Shape `(batch, classes)`.
        temperature: Softmax divisor, positive.

    Returns:
        One value per sample, shape `(batch,)`, float32, at least zero.

    Raises:
        ValueError: If `temperature` is not positive or the shapes differ.

    Reference:
        [Hinton et al., 2015](https://arxiv.org/abs/1503.02531)
    """
    check_temperature(temperature)
    if student_logits.shape[-1] != teacher_logits.shape[-1]:
        raise ValueError(
            "Student and teacher logits must have the same classes. Received: shapes "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}."
        )
    target = ops.softmax(ops.cast(teacher_logits, "float32") / temperature)
    log_q = ops.log_softmax(ops.cast(student_logits, "float32") / temperature)
    return ops.sum(cross_entropy_by_class(log_q, target, temperature), axis=-1)


def cross_entropy_by_class(log_q: Any, target: Any, temperature: float) -> Any:
    """Each class's addend of the soft-target loss, so that shares of it can be told apart.

    Args:
        log_q: The student's logarithms of probabilities, shape `(batch, classes)`, softened.
        target: Probabilities, shape `(batch, classes)`, softened.
        temperature: What both were softened by, positive.

    Returns:
        `-T² p log q`, shape `(batch, classes)`.
    """
    return -(temperature**2) * target * log_q


def standardized_logits(logits: Any) -> Any:
    """Logits with mean zero and standard deviation one in each row.

    `(z − mean) / (std + 1e-7)` with the deviation of the population (divided by the number of
    classes). Softened after it, a student imitates the shape of a teacher's logits without having
    to reach their scale. A row of equal logits has no shape: it becomes zeros and has no gradient.

    Args:
        logits: Shape `(batch, classes)`.

    Returns:
        Shape `(batch, classes)`, float32.

    Reference:
        [Sun et al., 2024](https://arxiv.org/abs/2403.01427)
    """
    logits = ops.cast(logits, "float32")
    # Equal logits become exact zeros, which their mean, rounded, would not make of them.
    logits = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    logits = logits - ops.mean(logits, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(logits), axis=-1, keepdims=True)
    constant = variance <= 0.0
    # The root's slope at zero is infinite; times the zero from `where`, XLA makes NaN of it.
    deviation = ops.sqrt(ops.where(constant, 1.0, variance))
    return ops.where(constant, 0.0, logits / (deviation + 1e-7))


def check_temperature(temperature: float) -> None:
    """Raise a `ValueError` unless the temperature is positive."""
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
