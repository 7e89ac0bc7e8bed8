"""A head with a gate between old classes and new ones as layers of a network."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.quiet import quiet_import
from featstore.export.fusing import linear_layers
from featstore.heads.gated import N_NEIGHBORS, GatedForm

with quiet_import():
    import keras

__all__ = ["gated_layers"]

# Less than any score: of the column that a class does not have. In half precision, too.
_NONE = -6e4


def gated_layers(features: Any, form: GatedForm, *, temperature: float = 1.0) -> Any:
    """Compute a gated head's scores.

    The banks of neighbours are kernels of dense layers, of which the largest outputs are kept. All layers and
    operations are Keras' own.

    Parameters
    ----------
    features : keras.KerasTensor of shape (n, feature_dim)
    form : GatedForm
    temperature : float
        What the scores are divided by.

    Returns
    -------
    keras.KerasTensor of shape (n, n_classes)
    """
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
