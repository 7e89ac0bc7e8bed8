"""A head and its backbone as one Keras model: uint8 pixels in, probabilities out."""

from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.backbones.quiet import quiet_import
from featstore.export.runtimes import INPUT, OUTPUT

with quiet_import():
    import keras

if TYPE_CHECKING:
    from featstore.heads.linear import LinearForm

__all__ = ["fuse"]


def fuse(network: Any, form: "LinearForm", *, temperature: float = 1.0) -> Any:
    """Put a linear head on its backbone.

    With the head's matrix ``W``, vector ``b`` and temperature ``T`` the model computes
    ``softmax(x W' / T + b / T)`` of the features ``x``, in which their scaling is folded in; of a head that
    looks at features of unit length, ``x`` is first standardised and divided by its length. All layers are
    Keras' own, so that the model loads without featstore. Features are not rounded to the type that a store
    keeps them in.

    Parameters
    ----------
    network : keras.Model
        From uint8 pixels of shape (n, height, width, 3) to features (n, feature_dim).
    form : LinearForm
    temperature : float
        Above 0.

    Returns
    -------
    keras.Model
        From uint8 pixels, RGB in [0, 255], to probabilities (n, n_classes), float32.
    """
    pixels = keras.Input(network.input.shape[1:], dtype="uint8", name=INPUT)
    features = network(pixels)
    if form.mean is not None and form.scale is not None:
        scale, offset = 1 / form.scale, -form.mean / form.scale
        standardised = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(features)
        features = keras.layers.UnitNormalization(dtype="float32")(standardised)
    dense = keras.layers.Dense(len(form.coef), dtype="float32", name="scores")
    scores = dense(features)
    kernel, bias = form.coef.T / temperature, form.intercept / temperature
    dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return keras.Model(pixels, keras.layers.Softmax(dtype="float32", name=OUTPUT)(scores))
