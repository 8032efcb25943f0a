"""Keras files of any version: reading them within bounds, and their weights."""
