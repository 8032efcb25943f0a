"""ONNX files: reading them within bounds, their form, and the graph inside."""
