"""A network's own classifier as a head on the features that the same network gives."""

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

__all__ = ["IMAGENET", "NAME", "import_head"]

NAME = "imported"
"""What such a head is called where the others have the name of their kind."""

IMAGENET = "imagenet"

_N_IMAGENET = 1000


def import_head(
    backbone: Backbone | str | os.PathLike[str] = "mobilenet_v2",
    *,
    weights: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Head:
    """Make a head of a network's own classifier, on the features that the network gives as a backbone.

    The classifier is found in the network's graph, and taken only if, on random images, the softmax of the
    head's scores is what the network itself says. The head gives the probabilities of the whole network. It
    was fitted on no image of yours: ``featstore.evaluate(head, table, split="all")`` is a fair test.

    Parameters
    ----------
    backbone : str, path or Backbone
        As for :func:`featstore.load_backbone`; or one that was loaded, such as that of a space.
    weights : path, optional
        A file of weights **with** the classifier. Without it Keras downloads ImageNet's. Features that were
        extracted with the same weights without the classifier have the same fingerprint.
    classes : sequence of str, path or "imagenet", optional
        The classes' names in the network's order, or a text file with one a line. By default ImageNet's
        where a network of keras.applications has 1,000 classes: see
        :func:`featstore.extending.imagenet_classes`.
    **options
        As for :func:`featstore.load_backbone`: ``layer``, ``pooling``, ``image_size``, ``resize``, ``dtype``,
        ``precision``, ``preprocessing``, ``alpha``, ``views``, ``trust_model``, ``imports``. They must be
        those of the features that the head is to be used on.

    Returns
    -------
    Head
        Linear, and called ``"imported"``. Its classes are sorted, as those of every head.

    Raises
    ------
    WeightsError
        The weights file has no classifier, is unreadable or of another architecture.
    WeightsUnavailableError
        The weights are to be downloaded, and cannot be.
    BackboneError
        The network's classifier is not one linear layer with softmax on these features; the message says
        what stands between, and which ``layer`` would do.
    HeadError
        The names of the classes are not as many as the classifier's classes, or not all different.

    Examples
    --------
    >>> head = featstore.import_head("mobilenet_v2", weights="with_top.h5")  # doctest: +SKIP
    >>> head.classes[:2].tolist()  # doctest: +SKIP
    ['Afghan_hound', 'African_chameleon']
    """
    if isinstance(backbone, Backbone):
        if weights is not None or options:
            given = ", ".join([*(["weights"] if weights is not None else []), *options])
            raise TypeError(f"a backbone that was loaded has all its options; leave out: {given}")
    else:
        backbone = load_backbone(backbone, weights=weights, **options)
    # A file of names is read before a network is built, which takes seconds.
    names = None if classes is None else _names(classes)
    classifier = backbone.classifier()
    n_classes = len(classifier.bias)
    if names is None:
        names = _default_names(backbone, n_classes)
    if len(names) != n_classes:
        of = f" of {os.fspath(classes)}" if isinstance(classes, str | os.PathLike) else ""
        raise HeadError(
            f"the classifier of {backbone.spec.name} has {n_classes:,} classes, and the names{of} are "
            f"{len(names):,}; expected one for each, in the network's order"
        )
    kernel, bias = classifier.kernel.astype(np.float64), classifier.bias.astype(np.float64)
    order = np.argsort(names)
    linear = LinearForm(coef=np.ascontiguousarray(kernel.T), intercept=bias).with_classes(order)
    labels = names[order]
    return Head(
        name=NAME,
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


def _names(classes: Sequence[str] | str | os.PathLike[str]) -> NDArray[np.str_]:
    if isinstance(classes, str | os.PathLike):
        lines = imagenet_classes() if classes == IMAGENET else _lines(os.fspath(classes))
    else:
        lines = tuple(classes)
    names = np.array(lines, dtype=np.str_)
    where = f" of {os.fspath(classes)}" if isinstance(classes, str | os.PathLike) else ""
    if len(names) < 2:
        raise HeadError(f"a head has at least 2 classes; the names{where} are {len(names)}")
    if "" in lines:
        raise HeadError(f"name {lines.index('') + 1} of the classes{where} is empty; expected one a line")
    found, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        twice = str(found[counts > 1][0])
        raise HeadError(f"the classes{where} have the name {twice!r} more than once; tell them apart")
    return names


def _lines(path: str) -> tuple[str, ...]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return tuple(line.strip() for line in file.read().rstrip().splitlines())
    except OSError as error:
        raise HeadError(f"the names of the classes cannot be read from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HeadError(
            f"{path} is no text file in UTF-8; expected the classes' names, one a line"
        ) from error


def _default_names(backbone: Backbone, n_classes: int) -> NDArray[np.str_]:
    name = backbone.spec.name
    if n_classes != _N_IMAGENET:
        raise HeadError(
            f"the classifier of {name} has {n_classes:,} classes, and ImageNet has {_N_IMAGENET:,}: say what "
            "they are called with --classes FILE, one name a line in the network's order"
        )
    if backbone.spec.architecture not in {info.name for info in known_backbones()}:
        raise HeadError(
            f"{name} is a model of your own with {n_classes:,} classes: say what they are called with "
            f"--classes FILE, one name a line in the network's order, or --classes {IMAGENET}"
        )
    return np.array(imagenet_classes(), dtype=np.str_)


def _logistic_regression(linear: LinearForm, classes: NDArray[np.str_]) -> Any:
    """Return scikit-learn's classifier with these scores, as if it had been fitted."""
    from sklearn.linear_model import LogisticRegression

    coef, intercept = linear.coef, linear.intercept
    if len(classes) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    estimator = LogisticRegression()
    estimator.coef_, estimator.intercept_ = coef, intercept
    estimator.classes_, estimator.n_features_in_ = classes, coef.shape[1]
    return estimator
