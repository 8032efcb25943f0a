"""Signals of frozen teachers, worked out once and kept on disk."""

from keras_amalgam.data.cache.signal_cache import SignalCache as SignalCache
