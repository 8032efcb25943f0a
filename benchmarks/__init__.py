"""Speed and memory. All is measured with oneDNN unless its environment variable says otherwise."""

from keras_amalgam.onednn import prefer_onednn

prefer_onednn()
