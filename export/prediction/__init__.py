"""What an artifact says of photographs: which one, how it is run, and how its answers are shown."""
