"""What a student decides, as further outputs of an artifact: the joint prediction and label ids."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_amalgam.export.arguments import is_whole
from keras_amalgam.export.labels import Labels, classified
from keras_amalgam.tasks.label_space import LabelSpace

JOINT = "joint"
"""Name of the output over the whole label space."""
IDS = "_ids"
"""What an output of label ids is called behind its head."""

Function = Callable[[Any], dict[str, Any]]


def outputs_of(labels: Labels, joint: bool, top_k: int) -> Labels:
    """The labels of every output of logits: those of the heads and of the joint prediction.

    Args:
        labels: Head to class names.
        joint: Whether the joint prediction is an output.
        top_k: How many label ids are asked for; 0 for none.

    Raises:
        ValueError: If a head bears the name of a further output, `top_k` is negative, or the joint
            prediction meets a head that names a class twice.
    """
    if not is_whole(top_k, 0):
        raise ValueError(
            f"`top_k` is no number of classes. Received: {top_k!r}. Expected: 1 or more, or 0 for "
            "no label ids. Correct it."
        )
    taken = {JOINT} if joint else set()
    taken |= {head + IDS for head in classified(labels)} if top_k else set()
    if collisions := sorted(taken & set(labels)):
        raise ValueError(
            f"Further outputs need names of their own. Received: heads called {collisions}. "
            f"Expected: heads with other names. Rename the tasks, or leave `joint` and `top_k` out."
        )
    return labels | {JOINT: LabelSpace(classified(labels)).names} if joint else labels


def function(serve: Function, labels: Labels, joint: bool, top_k: int) -> Function:
    """The function that gives decisions as well.

    Args:
        serve: From images to `{head: logits}`.
        labels: Head to class names.
        joint: Whether `joint`, the logits over the label space, is an output.
        top_k: How many ids of the likeliest classes each output gets, under `<output>_ids`;
            fewer where it has fewer classes; 0 for none.
    """
    heads = classified(labels)
    space = LabelSpace(heads) if joint else None

    def decide(image: Any) -> dict[str, Any]:
        outputs = serve(image)
        if space is not None:
            outputs[JOINT] = _join(space, outputs)
        if top_k:
            for name in (*heads, JOINT) if joint else heads:
                _, ids = ops.top_k(outputs[name], min(top_k, outputs[name].shape[-1]))
                outputs[name + IDS] = ops.cast(ids, "int32")
        return outputs

    return decide


def has_overlaps(labels: Labels) -> bool:
    """Whether two heads know the same class."""
    return len(LabelSpace(classified(labels))) < sum(map(len, labels.values()))


def check_ids(
    outputs: Mapping[str, np.ndarray], labels: Labels, subject: str
) -> dict[str, np.ndarray]:
    """Checks an artifact's label ids by its own logits; returns the other outputs.

    Args:
        outputs: By name, ids and logits.
        labels: Head to class names; a head is no output of ids, whatever it is called.
        subject: What is checked, for messages.

    Raises:
        ValueError: If ids are not those of the largest logits, in order.
    """
    ids_of = {
        name: outputs[name + IDS]
        for name in outputs
        if name + IDS in outputs and name + IDS not in labels
    }
    for name, ids in ids_of.items():
        values = outputs[name]
        largest = -np.sort(-values, axis=-1)[..., : ids.shape[-1]]
        # Equal logits may stand in any order, so values are compared and not ids.
        if not np.array_equal(np.take_along_axis(values, ids, axis=-1), largest):
            raise ValueError(
                f"{subject} gives label ids that are not those of its largest logits. Received: "
                f"other ids at '{name}{IDS}'. Expected: the {ids.shape[-1]} largest, in order. "
                "Leave `top_k` out, and report it."
            )
    ids = {name + IDS for name in ids_of}
    return {name: values for name, values in outputs.items() if name not in ids}


def _join(space: LabelSpace, logits: Mapping[str, Any]) -> Any:
    """The joint logits, without infinities where no class is known twice: those have no int8."""
    heads = [logits[task] for task in space.tasks]
    if len(space) == sum(head.shape[-1] for head in heads):
        return ops.concatenate(heads, axis=-1)
    return space.join(logits)


def joined(labels: Labels, logits: Mapping[str, np.ndarray]) -> np.ndarray:
    """The joint logits of given heads' logits, in NumPy: what an artifact's are compared with.

    A class's logit is the logarithm of the mean of `exp(logit)` over the heads that know it.

    Args:
        labels: Head to class names.
        logits: Head to an array of shape `(batch, units)`.

    Returns:
        Shape `(batch, classes in the label space)`.
    """
    columns, labels = [], classified(labels)
    for name in LabelSpace(labels).names:
        known = [
            logits[head][:, labels[head].index(name)] for head in labels if name in labels[head]
        ]
        columns.append(np.logaddexp.reduce(known, axis=0) - np.log(len(known)))
    return np.stack(columns, axis=-1)
