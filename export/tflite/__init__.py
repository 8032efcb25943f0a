"""How a TFLite file is made, read and labelled."""
