"""Fitted scikit-learn classifiers made from forms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

__all__ = ["form_estimator"]


def form_estimator(
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    classes: NDArray[np.str_],
    temperature: float | None,
) -> Any:
    """Return a fitted LogisticRegression, Pipeline or FormClassifier with a form's scores."""
    if not isinstance(form, LinearForm):
        from featstore.heads.form_classifier import FormClassifier

        return FormClassifier(form, classes, temperature)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    coef, intercept = form.coef, form.intercept
    if len(classes) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    classifier: Any = LogisticRegression()
    classifier.coef_, classifier.intercept_ = coef, intercept
    classifier.classes_, classifier.n_features_in_ = classes, form.feature_dim
    if form.mean is None or form.scale is None:
        return classifier
    scaler: Any = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = form.mean, form.scale, form.scale**2
    scaler.n_features_in_, scaler.n_samples_seen_ = form.feature_dim, 1
    return Pipeline([("scale", scaler), ("normalize", Normalizer()), ("classify", classifier)])
