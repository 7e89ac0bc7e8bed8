"""Fitting of a head: here, or on a cluster."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from featstore.errors import HeadError
from featstore.heads.fitting.training import Progress
from featstore.heads.fitting.training import fit as fit_by
from featstore.heads.head import Head
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["fit"]


def fit(
    table: "FeatureTable",
    *,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    seed: int = 0,
    folds: int | None = None,
    refit: bool | None = None,
    min_images: int | None = None,
    reject: float | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    ray: bool | str = False,
) -> Head:
    """Fit a classifier to a table of features, choose its parameters and score it.

    A named head is fitted once for each setting of its grid, and the setting with the least cross entropy on
    held-out images is kept; weaker regularisation must lower it by 1% to be chosen, since smaller gains are
    rounding. (Scores that are not probabilities are
    calibrated on these same images for the comparison.) The held-out images are:

    - without ``folds``, the validation split. The head is fitted on train and then, unless ``refit=False``,
      again on train and validation;
    - with ``folds``, hash-based folds of train and validation together. The head is then fitted on both; with
      ``refit=False``, folds and fit use train alone, and validation is not touched.

    If the classifier has no probabilities, its scores are divided by a temperature, fitted on images that it
    was not fitted on: validation, before the head is refitted, or each fold by the fit without it. So are
    those of ``logistic``, ``softmax`` and ``mlp``, if that lowers the cross entropy on images that the
    temperature was not fitted on. ``softmax`` and ``mlp`` also end their training by the cross entropy on the
    held-out images; a refit then makes as many passes. The test split is used once, at the end. The same
    table, rule, parameters and seed give the same head, bit for bit, on one machine, for any ``jobs``.
    Near-duplicates of training images are not looked for; see :func:`featstore.leakage`.

    Images count in the fit as much as the catalog says, if it does
    (:attr:`~featstore.FeatureTable.sample_weight`), relative to each other. Scores and the choice of
    parameters count all images alike.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str, HeadInfo or scikit-learn classifier
        A name from :func:`featstore.known_heads`, or your own classifier, of which a copy is fitted as it is.
        A search such as ``GridSearchCV`` gets the rule's groups if its ``cv`` is a
        :class:`featstore.HashKFold`, and its best estimator becomes the head's.
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.3}``; the rest of the grid is still chosen.
    rule : SplitRule, optional
        Default: ``SplitRule()``. Splits given by the catalog override it. If the catalog gives none to
        validation and there is something to choose, the rule's share of the images given to train is used;
        the head's own rule then has ``validation_from_train``.
    views : mapping, optional
        Numbers of views of each image, view 0 and those after it: ``"train"``, that the head is fitted on,
        each as a separate row, and ``"test"``, over which probabilities are averaged whenever images are
        predicted, here and by the head from then on. Default: 1 each, the image itself. Views for test cost
        each new image as many passes of the network, and views for training alone have not improved heads on
        frozen features (``benchmarks/views.py``). Splits, folds and counts are those of images: views of one
        image are always on the same side.
    class_weight : "balanced" or mapping of str to float, optional
        Weight of an image of each class; ``"balanced"`` gives all classes the same total. For ``lda`` it
        weights the class priors. Not supported by ``centroid`` and ``knn``.
    seed : int
        Random seed, in [0, 2**32), for every ``random_state`` that is not set.
    folds : int, optional
        Choose by this many folds, at least 2. Groups of the split rule stay in one fold.
    refit : bool, optional
        Whether to fit the head on validation too, once its parameters are chosen. Default: True.
    min_images : int, optional
        Leave out classes with fewer labelled images than this, at least 1.
    reject : float, optional
        In [0, 1). The head answers "unknown" if its most probable class is less probable.
    jobs : int, optional
        Number of parallel fits, -1 for one on each core; by default that of ``joblib.parallel_config``, or 1.
        They share the features; each fold has its own scaled copy if the head needs one in memory.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "top1": accuracy})`` after each fit; with several
        jobs, after each job.
    ray : bool or str
        Make the passes over the features on a Ray cluster, whose nodes see the store under the same path: its
        address, or True for the one that this process is connected to or else a local one. For ``ridge``,
        ``lda``, ``logistic``, and ``softmax``, which is then fitted to its optimum, without early stopping.
        This machine holds sums, labels and hashes, and no features. Needs ``pip install "featstore[ray]"``.

    Returns
    -------
    Head

    Raises
    ------
    UnknownHeadError
        There is no head of this name.
    HeadError
        There are fewer than two classes; parameters or features are invalid; the catalog has weights, and the
        classifier (``centroid``, ``knn``, ``lda``) takes none; ``head`` is not a classifier, or
        is a search whose folds would separate the views of an image; the table's rows are views; the head
        cannot be fitted on a cluster, or this cannot be used.
    MissingExtraError
        Ray is not installed.
    NotInStoreError
        Images lack some of the views.
    SplitError
        A class is missing from train or, with folds, outside a fold; the validation split is empty while
        there is something to choose on it; or given splits tear apart a group of the rule.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit(table, head="svm", folds=3)
    >>> head.classes.tolist(), head.test["n"]
    (['daisy', 'roses', 'tulips'], 11)
    >>> head.predict(table.X[:1]).tolist()
    ['daisy']
    """
    if ray and jobs not in (None, 1):
        raise HeadError("jobs are parallel fits on this machine; on a Ray cluster its processors are used")
    with _runner(ray) as runner:
        return fit_by(
            table,
            head=head,
            params=params,
            rule=rule,
            views=views,
            class_weight=class_weight,
            seed=seed,
            folds=folds,
            refit=refit,
            min_images=min_images,
            reject=reject,
            jobs=jobs,
            progress=progress,
            runner=runner,
        )


def _runner(ray: bool | str) -> Any:
    """Return what makes the passes over the features, None for this process."""
    if not ray:
        return nullcontext()
    from featstore.cluster.ray_parts import RayParts

    return RayParts(None if ray is True else ray)
