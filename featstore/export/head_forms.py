"""The forms of heads that become layers of a network."""

from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ExportError
from featstore.heads import AnyHead, Head, MultiLabelHead, RegressionHead
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm, linear_form
from featstore.heads.forms.neighbors import NeighborForm
from featstore.heads.forms.network import NetworkForm

__all__ = ["LINEAR_HEADS", "feature_centre", "head_form"]

LINEAR_HEADS = ("centroid", "lda", "logistic", "ridge", "sgd", "softmax", "svm")

# What float32 leaves of a score.
_FLOAT32 = 1e-6


def head_form(
    head: AnyHead,
) -> LinearForm | GatedForm | KernelForm | NetworkForm:
    """Return the form of a head that becomes layers; raise ExportError if it has none."""
    if isinstance(head, MultiLabelHead):
        return head.form
    if isinstance(head, RegressionHead):
        if isinstance(head.form, NeighborForm):
            raise ExportError(
                f"the head {head.name} cannot be expressed as layers of a network; of heads that predict a "
                "number ridge and rbf can: fit one of these"
            )
        return head.form
    form = head.form or _form_of_estimator(head)
    if form is None:
        raise ExportError(
            f"the head {head.name} cannot be expressed as layers of a network; {', '.join(LINEAR_HEADS)}, "
            "mlp, rbf and linear classifiers of your own can: fit one of these"
        )
    return form


def _form_of_estimator(head: Head) -> LinearForm | None:
    """Return the linear form of a head that featstore keeps as an estimator for exactness."""
    # Such a head has features that hardly vary, so that standardising multiplies them by a billion, and
    # it matters that scikit-learn standardises float32 features by float32 mean and deviation.
    estimator = deepcopy(head.estimator)
    first = getattr(estimator, "steps", [("", None)])[0][1]
    for name in ("mean_", "scale_"):
        if type(first).__name__ == "StandardScaler" and getattr(first, name) is not None:
            setattr(first, name, getattr(first, name).astype(np.float32).astype(np.float64))
    return linear_form(
        estimator,
        feature_dim=head.feature_dim,
        is_calibrated=head.temperature is not None,
        tolerance=_FLOAT32,
    )


def feature_centre(head: AnyHead) -> NDArray[np.float64]:
    """Return the mean of the head's scaler, or zero."""
    if isinstance(head, MultiLabelHead | RegressionHead):
        own = head.form.mean if isinstance(head.form, LinearForm) else None
        return np.zeros(head.feature_dim) if own is None else own
    first = getattr(head.plain_estimator, "steps", [("", None)])[0][1]
    mean = getattr(first, "mean_", None)
    return np.zeros(head.feature_dim) if mean is None else np.asarray(mean, np.float64)
