"""Fusion of a head and its backbone into one Keras model, from uint8 pixels to probabilities, or a number."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.head_layers import form_layers
from featstore.export.runtimes import INPUT, OUTPUT, VALUES
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

with quiet_import():
    import keras

__all__ = ["fuse", "head_model"]


def fuse(
    network: Any,
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    *,
    centre: NDArray[np.float64],
    temperature: float = 1.0,
    gives_several: bool = False,
    predicts_number: bool = False,
) -> Any:
    """Put a head's form on its backbone, using Keras' own layers only."""
    # softmax(x W' / T + b / T) with the scaling of the features x folded into W and b; for heads on unit-
    # length features, x is standardised and normalised first. Where float32 would lose digits (small
    # variance around a large mean), x is first shifted by centre, float64 of shape (feature_dim,).
    # Features are not rounded to the store's dtype.
    pixels = keras.Input(network.input.shape[1:], dtype="uint8", name=INPUT)
    scores = form_layers(network(pixels), form, centre=centre, temperature=temperature)
    return keras.Model(pixels, _answer(scores, gives_several, predicts_number))


def head_model(
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    *,
    feature_dim: int,
    centre: NDArray[np.float64],
    temperature: float = 1.0,
    gives_several: bool = False,
    predicts_number: bool = False,
) -> Any:
    """Return a head as a separate model, from float32 features (n, feature_dim) to probabilities."""
    features = keras.Input((feature_dim,), dtype="float32")
    scores = form_layers(features, form, centre=centre, temperature=temperature)
    return keras.Model(features, _answer(scores, gives_several, predicts_number))


def _answer(scores: Any, gives_several: bool, predicts_number: bool) -> Any:
    if predicts_number:
        return keras.layers.Identity(dtype="float32", name=VALUES)(scores)
    if gives_several:
        return keras.layers.Activation("sigmoid", dtype="float32", name=OUTPUT)(scores)
    return keras.layers.Softmax(dtype="float32", name=OUTPUT)(scores)
