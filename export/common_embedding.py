"""The student with its place in the common space as one more output."""

from typing import Any

import keras

from keras_amalgam.keras_settings import keras_defaults


@keras_defaults()
def with_common_embedding(amalgamator: Any, name: str = "embedding") -> keras.Model:
    """The student together with its embedding in the space that it shares with its teachers.

    Images that the teachers see as alike lie close there: for search, for grouping, for finding
    what none of the tasks knows. The student itself has no such output, so that an application that
    does not ask for it does not pay for it.

    The embedding is a row of length one, as the MMD of `CommonFeatures` compares it: the dot
    product of two is their cosine. The model shares its weights with the amalgamator's student and
    is made of stock layers. Every exporter takes it; its `class_names` say with an empty list that
    this output has no classes.

    Args:
        amalgamator: A trained `Amalgamator` with a `CommonFeatures` term.
        name: Of the further output.

    Returns:
        A functional model from raw images to `{task: logits, …, name: embedding}`, the embedding
        `(batch, height * width * units)` for maps at the tap and `(batch, units)` for vectors.

    Raises:
        TypeError: If there is no amalgamator.
        ValueError: If it has no such term, several, or a task of that name.

    Example:
        ```python
        model = export.with_common_embedding(amalgamator)
        export.to_tflite(model, "searchable.tflite")
        ```
    """
    signals: Any = getattr(amalgamator, "student_signals", None)
    if not isinstance(signals, keras.Model):
        raise TypeError(
            "Only an amalgamator knows the common space. Received: an object of type "
            f"{type(amalgamator).__name__}. Expected: a `keras_amalgam.Amalgamator`. Its student "
            "alone is not enough; load the training with `Amalgamator.load(path, teachers)`."
        )
    terms = [term for term in amalgamator.terms if hasattr(term, "student_embedding")]
    if len(terms) != 1:
        raise ValueError(
            f"There must be one common space. Received: an amalgamator with {len(terms)} terms "
            "that have one. Expected: exactly one `CommonFeatures` among its `terms`. Train with "
            "`terms=[SoftTargets(), CommonFeatures()]`."
        )
    answers = signals.output["answers"]
    features = signals.output["features"][terms[0].reads[-1]]
    if name in answers:
        raise ValueError(
            f"The embedding needs a name of its own. Received: {name!r}, which is a task. "
            f"Expected: none of {list(answers)}. Pass another `name=`."
        )
    # A model inside the model, so that its layers' names cannot meet those of the student.
    inside = keras.Input(features.shape[1:], dtype=features.dtype)
    space = keras.Model(inside, terms[0].student_embedding(inside), name=f"{name}_space")
    outputs = {**answers, name: space(features)}
    model = keras.Model(signals.input, outputs, name=amalgamator.student.name)
    known = getattr(amalgamator.student, "class_names", None)
    if known is not None:
        model.class_names = {**known, name: ()}
    return model
