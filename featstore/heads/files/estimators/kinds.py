"""Allow-list of the estimator types that a head file may contain, with a check for each.

Other types are refused by name: trees, kernel machines and neighbour trees pass numbers of the file to C code
as indices, and others run code or start processes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from featstore.heads.files.estimators import classifiers, composites, transformers
from featstore.heads.files.estimators.parts import Parts

__all__ = ["KINDS", "NOT_READ", "Kind"]

# Parameters that start processes or threads, write files or print, or only matter to fitting.
NOT_READ = frozenset(
    {
        "covariance_estimator",
        "cv",
        "memory",
        "n_jobs",
        "random_state",
        "scoring",
        "transform_input",
        "verbose",
    }
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of estimator that is read."""

    check: Callable[[Parts], int]  # takes over valid parts; returns the number of output columns
    fitted: frozenset[str]  # fitted attributes that are read
    has_width: bool = True  # whether n_features_in_ is an attribute of its own


def _kind(check: Callable[[Parts], int], fitted: str = "", *, has_width: bool = True) -> Kind:
    own = {"n_features_in_"} if has_width else set()
    return Kind(check=check, fitted=frozenset({*fitted.split(), *own}), has_width=has_width)


_LINEAR = _kind(classifiers.check_linear, "classes_ coef_ intercept_")
_RIDGE = _kind(classifiers.check_ridge, "classes_ coef_ intercept_")
_COUNTED = "classes_ class_log_prior_ feature_log_prob_"
_NEIGHBORS = "classes_ _fit_X _fit_method _tree _y effective_metric_ effective_metric_params_"

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "sklearn.decomposition._pca.PCA": _kind(
            transformers.check_pca,
            "components_ explained_variance_ explained_variance_ratio_ mean_ singular_values_",
        ),
        "sklearn.decomposition._truncated_svd.TruncatedSVD": _kind(
            transformers.check_components, "components_"
        ),
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": _kind(
            classifiers.check_lda, "classes_ coef_ intercept_ means_ priors_"
        ),
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis": _kind(
            classifiers.check_qda, "classes_ means_ priors_ rotations_ scalings_"
        ),
        "sklearn.dummy.DummyClassifier": _kind(classifiers.check_dummy, "classes_ class_prior_"),
        "sklearn.feature_selection._variance_threshold.VarianceThreshold": _kind(
            transformers.check_variances, "variances_"
        ),
        "sklearn.kernel_approximation.RBFSampler": _kind(
            transformers.check_sampler, "random_offset_ random_weights_"
        ),
        "sklearn.linear_model._logistic.LogisticRegression": _LINEAR,
        "sklearn.linear_model._logistic.LogisticRegressionCV": _LINEAR,
        "sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier": _LINEAR,
        "sklearn.linear_model._perceptron.Perceptron": _LINEAR,
        "sklearn.linear_model._ridge.RidgeClassifier": _RIDGE,
        "sklearn.linear_model._ridge.RidgeClassifierCV": _RIDGE,
        "sklearn.linear_model._stochastic_gradient.SGDClassifier": _LINEAR,
        "sklearn.multiclass.OneVsRestClassifier": _kind(composites.check_one_vs_rest, "classes_ estimators_"),
        "sklearn.naive_bayes.BernoulliNB": _kind(classifiers.check_bernoulli, _COUNTED),
        "sklearn.naive_bayes.ComplementNB": _kind(classifiers.check_multinomial, _COUNTED),
        "sklearn.naive_bayes.GaussianNB": _kind(
            classifiers.check_gaussian, "classes_ class_count_ class_prior_ theta_ var_"
        ),
        "sklearn.naive_bayes.MultinomialNB": _kind(classifiers.check_multinomial, _COUNTED),
        "sklearn.neighbors._classification.KNeighborsClassifier": _kind(
            classifiers.check_neighbors, _NEIGHBORS
        ),
        "sklearn.neighbors._nearest_centroid.NearestCentroid": _kind(
            classifiers.check_centroids,
            "classes_ centroids_ class_prior_ deviations_ within_class_std_dev_",
        ),
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier": _kind(
            classifiers.check_network, "classes_ coefs_ intercepts_"
        ),
        "sklearn.pipeline.FeatureUnion": _kind(composites.check_union, has_width=False),
        "sklearn.pipeline.Pipeline": _kind(composites.check_pipeline, has_width=False),
        "sklearn.preprocessing._function_transformer.FunctionTransformer": _kind(transformers.check_function),
        "sklearn.preprocessing._data.Binarizer": _kind(transformers.check_binarizer),
        "sklearn.preprocessing._data.MaxAbsScaler": _kind(transformers.check_max_abs, "max_abs_ scale_"),
        "sklearn.preprocessing._data.MinMaxScaler": _kind(
            transformers.check_min_max, "data_max_ data_min_ data_range_ min_ scale_"
        ),
        "sklearn.preprocessing._data.Normalizer": _kind(transformers.check_normalizer),
        "sklearn.preprocessing._data.PowerTransformer": _kind(composites.check_power, "_scaler lambdas_"),
        "sklearn.preprocessing._data.QuantileTransformer": _kind(
            transformers.check_quantiles, "quantiles_ references_"
        ),
        "sklearn.preprocessing._data.RobustScaler": _kind(transformers.check_robust, "center_ scale_"),
        "sklearn.preprocessing._data.StandardScaler": _kind(
            transformers.check_standard, "mean_ n_samples_seen_ scale_ var_"
        ),
        "sklearn.random_projection.GaussianRandomProjection": _kind(
            transformers.check_projection, "components_"
        ),
        "sklearn.svm._classes.LinearSVC": _LINEAR,
    }
)
