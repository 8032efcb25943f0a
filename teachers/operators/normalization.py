"""Normalizations."""

from keras import layers

from keras_amalgam.teachers.layout import Value
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator


@operator("BatchNormalization", since=7)
def batch_normalization(call: Call) -> Value:
    """BatchNormalization with the source's epsilon and running statistics."""
    if call.attribute("training_mode", 0):
        raise call.refusal("it is in training mode. Export the network in evaluation mode")
    value = call.value()
    weights = [call.constant(index) for index in (1, 2, 3, 4)]  # scale, offset, mean, variance
    if value.columns is not None:
        weights = [weight[value.columns] for weight in weights]
    tensor = call.write.layer(
        layers.BatchNormalization,
        value.tensor,
        weights=weights,
        axis=value.axis(1),
        epsilon=call.attribute("epsilon", 1e-5),
        momentum=call.attribute("momentum", 0.9),
    )
    return value.with_tensor(tensor)
