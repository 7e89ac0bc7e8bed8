"""Importing a network's own classifier as a head."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone, known_backbones, load_backbone
from featstore.errors import HeadError
from featstore.extending.imagenet import imagenet_classes
from featstore.heads.files.head_file import current_versions
from featstore.heads.forms.linear import LinearForm
from featstore.heads.head import Head
from featstore.splits import SPLITS, SplitRule
from featstore.stats.intervals import scored

__all__ = ["IMAGENET", "NAME", "class_names", "head_of_form", "import_head", "lines_of"]

NAME = "imported"
"""Name of imported heads."""

IMAGENET = "imagenet"

_N_IMAGENET = 1000


def import_head(
    backbone: Backbone | str | os.PathLike[str] = "mobilenet_v2",
    *,
    weights: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Head:
    """Import a network's own classifier as a head on the features of the same network.

    The classifier is extracted from the network's graph, and accepted only if the softmax of the head's
    scores equals the network's output on random images. The head gives the probabilities of the whole
    network. It was fitted on none of your images: ``featstore.evaluate(head, table, split="all")`` is a fair
    test.

    Parameters
    ----------
    backbone : str, path or Backbone
        As for :func:`featstore.load_backbone`; or a loaded backbone, such as that of a space.
    weights : path, optional
        Weights file **with** the classifier. By default Keras downloads ImageNet's. Features extracted with
        the same weights without the classifier have the same fingerprint.
    classes : sequence of str, path or "imagenet", optional
        Names of the classes in the network's order, or a text file with one on each line. Default:
        ImageNet's, for networks of keras.applications with 1,000 classes; see
        :func:`featstore.imagenet_classes`.
    **options
        As for :func:`featstore.load_backbone`: ``layer``, ``pooling``, ``image_size``, ``resize``, ``dtype``,
        ``precision``, ``preprocessing``, ``alpha``, ``views``, ``trust_model``, ``imports``. They must be
        those of the features that the head will be used with.

    Returns
    -------
    Head
        A linear head named ``"imported"``. Its classes are sorted, as those of every head.

    Raises
    ------
    WeightsError
        The weights file has no classifier, is unreadable or of another architecture.
    WeightsUnavailableError
        The weights cannot be downloaded.
    BackboneError
        The network's classifier is not a single linear layer with softmax on these features; the message
        names the layers between, and which ``layer`` would do.
    HeadError
        The number of class names differs from that of the classifier's classes, or names occur twice.

    Examples
    --------
    >>> import tempfile
    >>> import featstore
    >>> import keras
    >>> network = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.GlobalAveragePooling2D(name="pooled"),
    ...         keras.layers.Dense(3, activation="softmax"),
    ...     ]
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     network.save(f"{folder}/land.keras")
    ...     head = featstore.import_head(
    ...         f"{folder}/land.keras", layer="pooled", preprocessing="unit", classes=["moor", "heath", "fen"]
    ...     )
    >>> head.classes.tolist(), head.feature_dim
    (['fen', 'heath', 'moor'], 3)
    """
    if isinstance(backbone, Backbone):
        if weights is not None or options:
            given = ", ".join([*(["weights"] if weights is not None else []), *options])
            raise TypeError(f"a loaded backbone has its options already; leave out: {given}")
    else:
        backbone = load_backbone(backbone, weights=weights, **options)
    # Read names first: building a network takes seconds.
    names = None if classes is None else class_names(classes)
    classifier = backbone.classifier()
    n_classes = len(classifier.bias)
    if names is None:
        names = _default_names(backbone, n_classes)
    if len(names) != n_classes:
        of = f" of {os.fspath(classes)}" if isinstance(classes, str | os.PathLike) else ""
        raise HeadError(
            f"the classifier of {backbone.spec.name} has {n_classes:,} classes, but there are {len(names):,} "
            f"names{of}; expected one for each class, in the network's order"
        )
    kernel, bias = classifier.kernel.astype(np.float64), classifier.bias.astype(np.float64)
    order = np.argsort(names)
    linear = LinearForm(coef=np.ascontiguousarray(kernel.T), intercept=bias).with_classes(order)
    return head_of_form(backbone, linear, names[order], name=NAME)


def head_of_form(backbone: Backbone, linear: LinearForm, labels: NDArray[np.str_], *, name: str) -> Head:
    """Return a head that was fitted on no image."""
    return Head(
        name=name,
        classes=labels,
        spec=backbone.spec,
        fingerprint=backbone.spec.fingerprint,
        feature_dim=backbone.feature_dim,
        split_rule=SplitRule(),
        params={},
        counts={split: {} for split in SPLITS},
        choice={"by": None, "folds": None, "n": 0, "top1": None, "fitted_on": []},
        validation=scored(0, 0),
        test=scored(0, 0),
        weights=backbone.weights,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=current_versions(),
        linear=linear,
        load_estimator=partial(_logistic_regression, linear, labels),
    )


def class_names(classes: Sequence[str] | str | os.PathLike[str]) -> NDArray[np.str_]:
    """Return the names of classes, given or in a file, all different."""
    if isinstance(classes, str | os.PathLike):
        lines = imagenet_classes() if classes == IMAGENET else lines_of(os.fspath(classes))
    else:
        lines = tuple(classes)
    names = np.array(lines, dtype=np.str_)
    where = f" of {os.fspath(classes)}" if isinstance(classes, str | os.PathLike) else ""
    if len(names) < 2:
        raise HeadError(f"a head needs at least 2 classes; found {len(names)} names{where}")
    if "" in lines:
        raise HeadError(
            f"name {lines.index('') + 1} of the classes{where} is empty; expected one name on each line"
        )
    found, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        twice = str(found[counts > 1][0])
        raise HeadError(f"the classes{where} have the name {twice!r} more than once; make names unique")
    return names


def lines_of(path: str) -> tuple[str, ...]:
    """Return the lines of a text file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return tuple(line.strip() for line in file.read().rstrip().splitlines())
    except OSError as error:
        raise HeadError(f"the names of the classes cannot be read from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HeadError(
            f"{path} is not a text file in UTF-8; expected class names, one on each line"
        ) from error


def _default_names(backbone: Backbone, n_classes: int) -> NDArray[np.str_]:
    name = backbone.spec.name
    if n_classes != _N_IMAGENET:
        raise HeadError(
            f"the classifier of {name} has {n_classes:,} classes, but ImageNet has {_N_IMAGENET:,}: name "
            "them with --classes FILE, one name on each line in the network's order"
        )
    if backbone.spec.architecture not in {info.name for info in known_backbones()}:
        raise HeadError(
            f"{name} is your own model with {n_classes:,} classes: name them with "
            f"--classes FILE, one name on each line in the network's order, or --classes {IMAGENET}"
        )
    return np.array(imagenet_classes(), dtype=np.str_)


def _logistic_regression(linear: LinearForm, classes: NDArray[np.str_]) -> Any:
    """Return a fitted scikit-learn classifier with these scores."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    coef, intercept = linear.coef, linear.intercept
    if len(classes) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    estimator = LogisticRegression()
    estimator.coef_, estimator.intercept_ = coef, intercept
    estimator.classes_, estimator.n_features_in_ = classes, coef.shape[1]
    if linear.mean is None:
        return estimator
    # Of rows of unit length.
    normalizer = Normalizer()
    normalizer.n_features_in_ = coef.shape[1]
    return make_pipeline(normalizer, estimator)
