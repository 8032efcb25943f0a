"""What a network's file holds, without converting it: one module per kind of file."""
