"""Linear and gated heads as Keras layers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.heads.forms.gated import N_NEIGHBORS, GatedForm
from featstore.heads.forms.linear import LinearForm

with quiet_import():
    import keras

__all__ = ["gated_layers", "linear_layers"]

# Less than any score: of the column that a class does not have. In half precision, too.
_NONE = -6e4

# Of a score, or of a standardised feature.
_TOLERATED = 1e-5


def linear_layers(
    features: Any,
    form: LinearForm,
    *,
    centre: NDArray[np.float64] | None = None,
    temperature: float = 1.0,
    name: str | None = None,
) -> Any:
    """Return a linear head's scores (n, n_classes) as a Keras tensor."""
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


def gated_layers(features: Any, form: GatedForm, *, temperature: float = 1.0) -> Any:
    """Return a gated head's scores (n, n_classes) as a Keras tensor."""
    # Neighbour banks become kernels of dense layers, of which the largest outputs are averaged.
    ops = keras.ops
    if isinstance(form.old, GatedForm):
        old = gated_layers(features, form.old)
    else:
        old = linear_layers(features, form.old)
    new = linear_layers(features, form.new, temperature=float(form.temperatures[1]))
    largest = ops.max(old, axis=1, keepdims=True)
    directions = keras.layers.UnitNormalization(dtype="float32")(features)
    gate = largest * float(form.weights[1] + 1 / form.temperatures[0]) + float(form.offset)
    for bank, weight in ((form.neighbors, form.weights[0]), (form.old_neighbors, form.weights[2])):
        if len(bank) and weight:
            gate = gate + _nearness(directions, bank) * float(weight)
    # The operation log_softmax is not one of every converter.
    new = new - ops.logsumexp(new, axis=1, keepdims=True) + gate
    columns = ops.concatenate([old * float(1 / form.temperatures[0]), new], axis=1)
    scores = ops.take(columns, form.members[:, 0].tolist(), axis=1)
    for member in form.members.T[1:]:
        own = ops.take(columns, np.maximum(member, 0).tolist(), axis=1)
        absent = np.where(member < 0, _NONE, 0.0)
        scores = ops.maximum(scores, keras.layers.Rescaling(1.0, absent.tolist(), dtype="float32")(own))
    return scores if temperature == 1 else scores * float(1 / temperature)


def _nearness(directions: Any, bank: NDArray[np.float32]) -> Any:
    """Return the mean cosine to the nearest rows of a bank: shape (n, 1)."""
    dense = keras.layers.Dense(len(bank), use_bias=False, dtype="float32")
    cosines = dense(directions)
    dense.set_weights([bank.T])
    nearest, _ = keras.ops.top_k(cosines, min(N_NEIGHBORS, len(bank)))
    return keras.ops.mean(nearest, axis=1, keepdims=True)


def _lost_digits(factors: NDArray[np.float64], features: NDArray[np.float64]) -> float:
    """Bound the error of products of factors with features rounded to float32."""
    return float(np.abs(factors * features).max() * np.finfo(np.float32).eps)
