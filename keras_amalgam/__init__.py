"""Merge trained networks into one compact multi-task student, without labels."""

from keras_amalgam.version import __version__ as __version__
