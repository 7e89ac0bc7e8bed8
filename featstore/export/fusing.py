"""A head and its backbone as one Keras model: uint8 pixels in, probabilities out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.quiet import quiet_import
from featstore.export.runtimes import INPUT, OUTPUT
from featstore.heads.gated import GatedForm
from featstore.heads.linear import LinearForm

with quiet_import():
    import keras

__all__ = ["fuse", "linear_layers"]

# Of a score, or of a standardised feature.
_TOLERATED = 1e-5


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
        from featstore.export.gating import gated_layers

        scores = gated_layers(features, form, temperature=temperature)
    else:
        scores = linear_layers(features, form, centre=centre, temperature=temperature, name="scores")
    return keras.Model(pixels, keras.layers.Softmax(dtype="float32", name=OUTPUT)(scores))


def linear_layers(
    features: Any,
    form: LinearForm,
    *,
    centre: NDArray[np.float64] | None = None,
    temperature: float = 1.0,
    name: str | None = None,
) -> Any:
    """Compute a linear head's scores, as :func:`fuse` says.

    Parameters
    ----------
    features : keras.KerasTensor of shape (n, feature_dim)
    form : LinearForm
    centre : ndarray of shape (feature_dim,), float64, optional
    temperature : float
    name : str, optional
        The last layer's.

    Returns
    -------
    keras.KerasTensor of shape (n, n_classes)
    """
    kernel, bias = form.coef.T / temperature, form.intercept / temperature
    # What float32 can hold of it, so that subtracting it is exact.
    near = np.zeros(form.feature_dim) if centre is None else centre.astype(np.float32).astype(np.float64)
    if form.mean is not None and form.scale is not None:
        if _lost_digits(1 / form.scale, form.mean) > _TOLERATED:
            features = keras.layers.Rescaling(1.0, (-near).tolist(), dtype="float32")(features)
        else:
            near = np.zeros_like(near)
        scale, offset = 1 / form.scale, (near - form.mean) / form.scale
        standardised = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(features)
        features = keras.layers.UnitNormalization(dtype="float32")(standardised)
    elif _lost_digits(kernel, near[:, np.newaxis]) > _TOLERATED:
        features = keras.layers.Rescaling(1.0, (-near).tolist(), dtype="float32")(features)
        bias = bias + near @ kernel
    dense = keras.layers.Dense(len(form.coef), dtype="float32", name=name)
    scores = dense(features)
    dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return scores


def _lost_digits(factors: NDArray[np.float64], features: NDArray[np.float64]) -> float:
    """Bound what rounding features to float32 does to their products with factors."""
    return float(np.abs(factors * features).max() * np.finfo(np.float32).eps)
