"""How sure teachers are, and what makes them equally so: found without a label."""

from collections.abc import Sequence

import numpy as np

# Powers of e: divisors between a millionth and a million times the temperature.
_LIMIT = np.log(1e6)
_HALVINGS = 60


def equal_entropies(logits: Sequence[np.ndarray], temperature: float) -> np.ndarray:
    """Divisors of teachers' logits that give all of them the same mean entropy.

    The entropy of `softmax(logits / temperature)` is taken as a part of the largest possible, the
    logarithm of the number of classes. Divided by its divisor, each teacher's mean over its images
    is what the mean over all teachers was before.

    Args:
        logits: Of each teacher, `(images, classes)`, finite, at least one image and two classes.
        temperature: Positive.

    Returns:
        One positive divisor per teacher; one where logits are the same for all classes.
    """
    before = [_entropy(values, temperature) for values in logits]
    target = float(np.mean(before))
    return np.array(
        [
            _divisor(values, temperature, target) if np.ptp(values, axis=-1).any() else 1.0
            for values in logits
        ]
    )


def _divisor(logits: np.ndarray, temperature: float, target: float) -> float:
    """By bisection: the entropy grows with the divisor."""
    low, high = -_LIMIT, _LIMIT
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _entropy(logits, temperature * np.exp(middle)) < target:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def _entropy(logits: np.ndarray, temperature: float) -> float:
    """Mean entropy of the softmax over the images, from 0 to 1."""
    scaled = np.asarray(logits, "float64") / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    total = exponentials.sum(axis=-1, keepdims=True)
    log_p = scaled - np.log(total)
    entropies = -(exponentials / total * log_p).sum(axis=-1)
    return float(entropies.mean() / np.log(logits.shape[-1]))
