"""Linear, gated, kernel and network heads as Keras layers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.heads.forms.gated import N_NEIGHBORS, GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

with quiet_import():
    import keras

__all__ = ["form_layers"]

# Less than any score: of the column that a class does not have. In half precision, too.
_NONE = -6e4

# Of a score, or of a standardised feature.
_TOLERATED = 1e-5


def form_layers(
    features: Any,
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    *,
    centre: NDArray[np.float64] | None = None,
    temperature: float = 1.0,
) -> Any:
    """Return a head's scores (n, n_classes) as a Keras tensor."""
    # Where float32 would lose digits of a linear head, features are first shifted by centre, (feature_dim,).
    if isinstance(form, GatedForm):
        return gated_layers(features, form, temperature=temperature)
    if isinstance(form, KernelForm):
        return kernel_layers(features, form, temperature=temperature)
    if isinstance(form, NetworkForm):
        return network_layers(features, form, temperature=temperature)
    return linear_layers(features, form, centre=centre, temperature=temperature)


def linear_layers(
    features: Any,
    form: LinearForm,
    *,
    centre: NDArray[np.float64] | None = None,
    temperature: float = 1.0,
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
    dense = keras.layers.Dense(len(form.coef), dtype="float32")
    scores = dense(features)
    dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return scores


def gated_layers(features: Any, form: GatedForm, *, temperature: float = 1.0) -> Any:
    """Return a gated head's scores (n, n_classes) as a Keras tensor."""
    # Neighbour banks become kernels of dense layers, of which the largest outputs are averaged.
    ops = keras.ops
    new = form_layers(features, form.new, temperature=float(form.temperatures[1]))
    if form.old_columns is not None:
        features = _columns(features, form.old_columns)
    old = form_layers(features, form.old)
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


def kernel_layers(features: Any, form: KernelForm, *, temperature: float = 1.0) -> Any:
    """Return a kernel head's scores (n, n_classes) as a Keras tensor."""
    # Squared distances are |x|^2 + |r|^2 - 2 x r, of which the last two are one dense layer.
    ops = keras.ops
    # The operation sign is not one of every converter.
    roots = ops.sqrt(ops.relu(features)) - ops.sqrt(ops.relu(-features))
    # So that a squared length is about 1, and float32's rounding of it as small as can be.
    weight = form.weight * np.sqrt(float(form.gamma))
    rows = form.rows.astype(np.float64) * np.sqrt(float(form.gamma))
    scale = keras.layers.Rescaling(weight.tolist(), (-form.mean * weight).tolist(), dtype="float32")
    scaled = scale(roots)
    products = keras.layers.Dense(len(rows), dtype="float32")
    exponents = products(scaled) - ops.sum(scaled * scaled, axis=1, keepdims=True)
    products.set_weights([2 * rows.T.astype(np.float32), -(rows**2).sum(axis=1).astype(np.float32)])
    dense = keras.layers.Dense(form.n_classes, dtype="float32")
    scores = dense(ops.exp(ops.minimum(exponents, 0.0)))
    kernel, bias = form.coef / temperature, form.intercept / temperature
    dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return scores


def network_layers(features: Any, form: NetworkForm, *, temperature: float = 1.0) -> Any:
    """Return the scores (n, n_classes) of a head with a hidden layer as a Keras tensor."""
    # What float32 can hold of the mean, so that subtracting it is exact.
    near = form.mean.astype(np.float32).astype(np.float64)
    kernel, above = form.hidden_coef.T, form.coef.T / temperature
    bias, intercept = form.hidden_intercept + (near - form.mean) @ kernel, form.intercept / temperature
    hidden = keras.layers.Dense(kernel.shape[1], activation="relu", dtype="float32")
    dense = keras.layers.Dense(form.n_classes, dtype="float32")
    centred = keras.layers.Rescaling(1.0, (-near).tolist(), dtype="float32")(features)
    scores = dense(hidden(centred))
    hidden.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    dense.set_weights([above.astype(np.float32), intercept.astype(np.float32)])
    return scores


def _columns(features: Any, at: NDArray[np.int64]) -> Any:
    """Return some columns: of a run of them a slice, which every converter knows best."""
    first = int(at[0])
    if np.array_equal(at, np.arange(first, first + len(at))):
        return features[:, first : first + len(at)]
    return keras.ops.take(features, at.tolist(), axis=1)


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
