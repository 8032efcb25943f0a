"""The same training step in Keras and in PyTorch, taken apart and timed."""
