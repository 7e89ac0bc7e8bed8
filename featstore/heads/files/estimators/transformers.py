"""Checks of stored transformers, each returning the number of output columns."""

import numpy as np

from featstore.heads.files.estimators.parts import Parts, is_number

__all__ = [
    "check_binarizer",
    "check_components",
    "check_function",
    "check_max_abs",
    "check_min_max",
    "check_normalizer",
    "check_pca",
    "check_projection",
    "check_quantiles",
    "check_robust",
    "check_sampler",
    "check_standard",
    "check_variances",
]


def check_standard(parts: Parts) -> int:
    """Check a ``StandardScaler``."""
    _centre_and_scale(parts, centre="mean_", by=("with_mean", "with_std"))
    parts.optional("var_", parts.width)
    seen = parts.stored.values.get("n_samples_seen_")
    parts.fitted["n_samples_seen_"] = seen if is_number(seen) else 1
    return parts.width


def check_robust(parts: Parts) -> int:
    """Check a ``RobustScaler``."""
    _centre_and_scale(parts, centre="center_", by=("with_centering", "with_scaling"))
    return parts.width


def _centre_and_scale(parts: Parts, *, centre: str, by: tuple[str, str]) -> None:
    for name, flag, above in ((centre, by[0], None), ("scale_", by[1], 0.0)):
        if parts.one_of(flag, (True, False)):
            parts.array(name, parts.width, above=above)
        else:
            parts.optional(name, parts.width, above=above)


def check_min_max(parts: Parts) -> int:
    """Check a ``MinMaxScaler``."""
    limits = parts.params.get("feature_range")
    if not isinstance(limits, tuple) or len(limits) != 2 or not all(map(is_number, limits)):
        raise parts.wrong("a feature_range that is no pair of numbers")
    for name in ("scale_", "min_"):
        parts.array(name, parts.width)
    for name in ("data_min_", "data_max_", "data_range_"):
        parts.optional(name, parts.width)
    return parts.width


def check_max_abs(parts: Parts) -> int:
    """Check a ``MaxAbsScaler``."""
    parts.array("scale_", parts.width, above=0.0)
    parts.optional("max_abs_", parts.width)
    return parts.width


def check_normalizer(parts: Parts) -> int:
    """Check a ``Normalizer``."""
    parts.one_of("norm", ("l1", "l2", "max"))
    return parts.width


def check_binarizer(parts: Parts) -> int:
    """Check a ``Binarizer``."""
    if not is_number(parts.params.get("threshold")):
        raise parts.wrong("a threshold that is no number")
    return parts.width


def check_function(parts: Parts) -> int:
    """Check a ``FunctionTransformer`` without a function, which unions use for "passthrough"."""
    if parts.params.get("func") is not None or parts.params.get("inverse_func") is not None:
        raise parts.wrong("a function")
    return parts.width


def check_pca(parts: Parts) -> int:
    """Check a ``PCA``."""
    n_components = check_components(parts)
    parts.array("mean_", parts.width)
    parts.array("explained_variance_", n_components)
    for name in ("explained_variance_ratio_", "singular_values_"):
        parts.optional(name, n_components)
    parts.fitted["n_components_"] = n_components
    return n_components


def check_components(parts: Parts) -> int:
    """Check the components of a ``TruncatedSVD``, or of another linear projection."""
    return int(parts.array("components_", None, parts.width).shape[0])


def check_projection(parts: Parts) -> int:
    """Check a ``GaussianRandomProjection``."""
    n_components = check_components(parts)
    parts.params["compute_inverse_components"] = False
    parts.fitted |= {"n_components_": n_components, "_n_features_out": n_components}
    return n_components


def check_sampler(parts: Parts) -> int:
    """Check an ``RBFSampler``."""
    n_components = int(parts.array("random_weights_", parts.width, None).shape[1])
    parts.array("random_offset_", n_components)
    parts.params["n_components"] = n_components
    parts.fitted["_n_features_out"] = n_components
    return n_components


def check_quantiles(parts: Parts) -> int:
    """Check a ``QuantileTransformer``."""
    parts.one_of("output_distribution", ("uniform", "normal"))
    references = parts.array("references_", None)
    quantiles = parts.array("quantiles_", len(references), parts.width)
    if (np.diff(references) < 0).any() or (np.diff(quantiles, axis=0) < 0).any():
        raise parts.wrong("quantiles that do not rise")
    parts.fitted["n_quantiles_"] = len(references)
    return parts.width


def check_variances(parts: Parts) -> int:
    """Check a ``VarianceThreshold``."""
    threshold = parts.params.get("threshold")
    if not is_number(threshold):
        raise parts.wrong("a threshold that is no number")
    n_kept = int((parts.array("variances_", parts.width) > threshold).sum())
    if not n_kept:
        raise parts.wrong("no feature above its threshold")
    return n_kept
