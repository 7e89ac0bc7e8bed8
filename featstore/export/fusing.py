"""Fusion of a head and its backbone into one Keras model, from uint8 pixels to probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.head_layers import form_layers
from featstore.export.runtimes import INPUT, OUTPUT
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
) -> Any:
    """Put a head's form on its backbone, using Keras' own layers only."""
    # softmax(x W' / T + b / T) with the scaling of the features x folded into W and b; for heads on unit-
    # length features, x is standardised and normalised first. Where float32 would lose digits (small
    # variance around a large mean), x is first shifted by centre, float64 of shape (feature_dim,).
    # Features are not rounded to the store's dtype.
    pixels = keras.Input(network.input.shape[1:], dtype="uint8", name=INPUT)
    return keras.Model(pixels, _probabilities(network(pixels), form, centre, temperature, gives_several))


def head_model(
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    *,
    feature_dim: int,
    centre: NDArray[np.float64],
    temperature: float = 1.0,
    gives_several: bool = False,
) -> Any:
    """Return a head as a separate model, from float32 features (n, feature_dim) to probabilities."""
    features = keras.Input((feature_dim,), dtype="float32")
    return keras.Model(features, _probabilities(features, form, centre, temperature, gives_several))


def _probabilities(
    features: Any,
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    centre: NDArray[np.float64],
    temperature: float,
    gives_several: bool,
) -> Any:
    scores = form_layers(features, form, centre=centre, temperature=temperature)
    if gives_several:
        return keras.layers.Activation("sigmoid", dtype="float32", name=OUTPUT)(scores)
    return keras.layers.Softmax(dtype="float32", name=OUTPUT)(scores)
