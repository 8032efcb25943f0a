"""Unlabelled image streams to learn from, and labelled data sets to evaluate with."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.data.augmentation import Augmentation as Augmentation
from keras_amalgam.data.cache import SignalCache as SignalCache
from keras_amalgam.data.canvases import canvas_for as canvas_for
from keras_amalgam.data.canvases import check_canvas as check_canvas
from keras_amalgam.data.demo_data import demo_data_dir as demo_data_dir
from keras_amalgam.data.epochs import Epoch as Epoch
from keras_amalgam.data.labelled import labelled_from_arrays as labelled_from_arrays
from keras_amalgam.data.labelled import labelled_from_folder as labelled_from_folder
from keras_amalgam.data.labelled import labelled_from_tfds as labelled_from_tfds
from keras_amalgam.data.sources import from_arrays as from_arrays
from keras_amalgam.data.sources import from_folder as from_folder
from keras_amalgam.data.sources import from_tfds as from_tfds
from keras_amalgam.data.streams import stream as stream
from keras_amalgam.images.canvas import canvas as canvas
from keras_amalgam.images.checks import check_images as check_images
from keras_amalgam.images.sizes import image_sizes as image_sizes
from keras_amalgam.training.signals import with_runtime_signals as with_runtime_signals
