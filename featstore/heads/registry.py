"""Registry of heads by name, with the grids that their parameters are chosen from.

Listing featstore's own heads does not import scikit-learn. Packages can add others, under the entry point
group ``featstore.heads`` (see :mod:`featstore.heads.plugins`).
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from featstore.errors import UnknownHeadError
from featstore.heads.info import HeadInfo
from featstore.heads.plugins import load_plugin, load_plugins, plugin_names

__all__ = ["find_head", "known_heads"]


def known_heads() -> tuple[HeadInfo, ...]:
    """Return the available heads, sorted by name: featstore's own, and those of installed packages.

    Heads of packages that cannot be loaded are skipped with a warning.

    Returns
    -------
    tuple of HeadInfo

    Examples
    --------
    >>> [info.name for info in known_heads()]
    ['centroid', 'knn', 'lda', 'logistic', 'mlp', 'rbf', 'ridge', 'sgd', 'softmax', 'svm']
    """
    added = [info for info in load_plugins() if info.name not in _HEADS]
    return tuple(sorted((*_HEADS.values(), *added), key=lambda info: info.name))


def find_head(name: str) -> HeadInfo:
    """Return a head by its name; raise UnknownHeadError or HeadError."""
    if name in _HEADS:
        return _HEADS[name]
    names = sorted({*_HEADS, *plugin_names()})
    if name in names:
        return load_plugin(name)
    close = difflib.get_close_matches(name.lower(), names, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UnknownHeadError(f"there is no head {name!r}; the heads are {', '.join(names)}{hint}")


def _make_centroid() -> Any:
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer

    return Pipeline([("normalizer", Normalizer()), ("classifier", NearestCentroid())])


def _make_knn() -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer

    # Brute force: in a thousand dimensions trees are no faster, and they cannot be saved without pickle.
    return Pipeline([("normalizer", Normalizer()), ("classifier", KNeighborsClassifier(algorithm="brute"))])


def _make_lda() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
    return Pipeline([("scaler", StandardScaler()), ("classifier", classifier)])


def _make_logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    # A hundredth of scikit-learn's tolerance: at its own, a fit that starts from another setting's solution
    # and one that starts from nothing differ by a tenth in some coefficients.
    classifier = LogisticRegression(max_iter=2000, tol=1e-6)
    return Pipeline([("scaler", StandardScaler()), ("classifier", classifier)])


def _make_mlp() -> Any:
    return _of_minibatches(hidden_units=256)


def _make_rbf() -> Any:
    from sklearn.pipeline import Pipeline

    from featstore.heads.rbf import RBFClassifier

    return Pipeline([("classifier", RBFClassifier())])


def _make_ridge() -> Any:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return Pipeline([("scaler", StandardScaler()), ("classifier", RidgeClassifier())])


def _make_sgd() -> Any:
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    # The learning rate's schedule assumes rows of unit length.
    classifier = SGDClassifier(average=True, tol=None)
    return Pipeline([("scaler", StandardScaler()), ("normalizer", Normalizer()), ("classifier", classifier)])


def _make_softmax() -> Any:
    return _of_minibatches()


def _of_minibatches(**params: Any) -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from featstore.heads.minibatch import MinibatchClassifier

    return Pipeline([("scaler", StandardScaler()), ("classifier", MinibatchClassifier(**params))])


_MINIBATCH = (
    "alpha",
    "batch_size",
    "class_weight",
    "epochs",
    "eval_steps",
    "learning_rate",
    "momentum",
    "optimizer",
    "patience",
    "steps",
)


def _make_svm() -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler
    from sklearn.svm import LinearSVC

    # Without standardising first, features with large means, such as logarithms, are nearly parallel at unit
    # length, which costs accuracy and takes many times as long.
    classifier = LinearSVC(dual="auto", max_iter=10_000)
    return Pipeline([("scaler", StandardScaler()), ("normalizer", Normalizer()), ("classifier", classifier)])


_HEADS: Mapping[str, HeadInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            HeadInfo(
                name="centroid",
                summary="nearest class mean by angle: the simplest, for a handful of images of each class",
                make=_make_centroid,
                grid={},
                settings=("shrink_threshold",),
                is_calibrated=True,
                dtype="float64",
            ),
            HeadInfo(
                name="knn",
                summary="votes of the nearest images by angle: for many small classes; keeps all features",
                make=_make_knn,
                grid={"n_neighbors": (50, 20, 10, 5, 3, 1), "weights": ("uniform", "distance")},
                settings=("n_neighbors", "weights"),
                solver="neighbors",
                is_calibrated=True,
            ),
            HeadInfo(
                name="lda",
                summary="linear discriminant, covariance shrunk: for few images of many classes, at any size",
                make=_make_lda,
                grid={"shrinkage": (0.99, 0.9, 0.7, 0.5, 0.3, 0.1, 0.03, 0.01)},
                settings=("class_weight", "shrinkage"),
                solver="moments",
                is_calibrated=True,
                dtype="float64",
            ),
            HeadInfo(
                name="logistic",
                summary="softmax regression on standardised features: the first to try",
                make=_make_logistic,
                grid={"C": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)},
                settings=("C", "class_weight", "fit_intercept", "max_iter", "tol"),
                solver="warm",
            ),
            HeadInfo(
                name="mlp",
                summary="one hidden layer, by minibatches with early stopping: for many images, at any size",
                make=_make_mlp,
                grid={"alpha": (0.03, 0.003, 0.0)},
                settings=(*_MINIBATCH, "hidden_units"),
                solver="minibatch",
            ),
            HeadInfo(
                name="rbf",
                summary="kernel ridge, Gaussian (RBF) kernel: for thousands of images; keeps their features",
                make=_make_rbf,
                grid={"gamma": (0.5, 1.0, 2.0), "alpha": (0.01, 0.001, 0.0001, 0.00001, 0.000001)},
                settings=("alpha", "class_weight", "gamma", "landmarks"),
                solver="kernel",
                is_calibrated=True,
                dtype="float64",
            ),
            HeadInfo(
                name="ridge",
                summary="least squares on standardised features: the fastest to choose, at any size",
                make=_make_ridge,
                grid={"alpha": (100_000.0, 30_000.0, 10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0)},
                settings=("alpha", "class_weight", "fit_intercept"),
                solver="moments",
                dtype="float64",
            ),
            HeadInfo(
                name="sgd",
                summary="linear support vector machine by passes over blocks: for more features than memory",
                make=_make_sgd,
                grid={"alpha": (0.01, 0.001, 0.0001, 0.00001, 0.000001)},
                settings=(
                    "alpha",
                    "average",
                    "class_weight",
                    "epsilon",
                    "eta0",
                    "fit_intercept",
                    "l1_ratio",
                    "learning_rate",
                    "loss",
                    "max_iter",
                    "penalty",
                    "power_t",
                ),
                solver="descent",
                is_calibrated=True,
            ),
            HeadInfo(
                name="softmax",
                summary="softmax regression by minibatches with early stopping, as retrain.py: at any size",
                make=_make_softmax,
                grid={"alpha": (0.1, 0.01, 0.001, 0.0)},
                settings=_MINIBATCH,
                solver="minibatch",
            ),
            HeadInfo(
                name="svm",
                summary="linear support vector machine on rows of unit length: the second to try",
                make=_make_svm,
                grid={"C": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)},
                settings=("C", "class_weight", "dual", "fit_intercept", "loss", "max_iter", "tol"),
                solver="margins",
            ),
        )
    }
)
