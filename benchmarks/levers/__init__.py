"""Which ways of training a student are worth building on: the same teachers, images and budget."""
