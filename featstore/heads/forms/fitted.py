"""The form of a fitted classifier."""

from typing import Any

from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm, linear_form
from featstore.heads.forms.network import NetworkForm

__all__ = ["fitted_form"]


def fitted_form(
    estimator: Any, *, feature_dim: int, is_calibrated: bool = False
) -> LinearForm | KernelForm | NetworkForm | None:
    """Return the form that a fitted classifier has or equals, or None if there is none."""
    steps = getattr(estimator, "steps", [("", estimator)])
    last = steps[-1][1]
    # A classifier's own, or that of a FormClassifier.
    form = getattr(last, "form_", getattr(last, "form", None)) if len(steps) == 1 else None
    if isinstance(form, LinearForm | KernelForm | NetworkForm):
        return form
    return linear_form(estimator, feature_dim=feature_dim, is_calibrated=is_calibrated)
