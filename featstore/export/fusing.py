"""A head and its backbone as one Keras model: uint8 pixels in, probabilities out."""

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
    """Put a linear or gated head on its backbone.

    With a linear head's matrix ``W``, vector ``b`` and temperature ``T`` the model computes
    ``softmax(x W' / T + b / T)`` of the features ``x``, in which their scaling is folded in; of a head that
    looks at features of unit length, ``x`` is first standardised and divided by its length. Where float32
    would lose digits, because features vary little around a large mean and ``W`` is large for them, ``x`` is
    first moved by ``centre``. All layers are Keras' own, so that the model loads without featstore. Features
    are not rounded to the type that a store keeps them in.

    Parameters
    ----------
    network : keras.Model
        From uint8 pixels of shape (n, height, width, 3) to features (n, feature_dim).
    form : LinearForm or GatedForm
    centre : ndarray of shape (feature_dim,), float64
        Near the features.
    temperature : float
        Above 0.

    Returns
    -------
    keras.Model
        From uint8 pixels, RGB in [0, 255], to probabilities (n, n_classes), float32.
    """
    pixels = keras.Input(network.input.shape[1:], dtype="uint8", name=INPUT)
    features = network(pixels)
    if isinstance(form, GatedForm):
        scores = gated_layers(features, form, temperature=temperature)
    else:
        scores = linear_layers(features, form, centre=centre, temperature=temperature, name="scores")
    return keras.Model(pixels, keras.layers.Softmax(dtype="float32", name=OUTPUT)(scores))
