"""A converted model against its source, and a teacher against its preprocessing."""
