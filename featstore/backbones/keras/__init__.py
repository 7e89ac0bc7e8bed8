"""The parts of the backbones that import Keras."""
