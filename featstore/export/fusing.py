"""Fusion of a head and its backbone into one Keras model, from uint8 pixels to probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.head_layers import gated_layers, linear_layers
from featstore.export.runtimes import INPUT, OUTPUT
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.linear import LinearForm

with quiet_import():
    import keras

__all__ = ["fuse"]


def fuse(
    network: Any, form: LinearForm | GatedForm, *, centre: NDArray[np.float64], temperature: float = 1.0
) -> Any:
    """Put a linear or gated head on its backbone, using Keras' own layers only."""
    # softmax(x W' / T + b / T) with the scaling of the features x folded into W and b; for heads on unit-
    # length features, x is standardised and normalised first. Where float32 would lose digits (small
    # variance around a large mean), x is first shifted by centre, float64 of shape (feature_dim,).
    # Features are not rounded to the store's dtype.
    pixels = keras.Input(network.input.shape[1:], dtype="uint8", name=INPUT)
    features = network(pixels)
    if isinstance(form, GatedForm):
        scores = gated_layers(features, form, temperature=temperature)
    else:
        scores = linear_layers(features, form, centre=centre, temperature=temperature, name="scores")
    return keras.Model(pixels, keras.layers.Softmax(dtype="float32", name=OUTPUT)(scores))
