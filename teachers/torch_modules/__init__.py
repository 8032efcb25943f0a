"""PyTorch modules: their export, and files of weights."""
