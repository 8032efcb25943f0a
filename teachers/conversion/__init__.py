"""A graph becomes a Keras model: operators, passes, layout and the writer of layers."""
