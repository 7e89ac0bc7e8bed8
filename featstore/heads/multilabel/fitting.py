"""Fitting of a head that gives several labels."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import HeadError, SplitError
from featstore.heads.data.partition import split_rows
from featstore.heads.data.view_counts import check_images, checked_views
from featstore.heads.files.head_file import current_versions
from featstore.heads.fit_warnings import warn
from featstore.heads.multilabel.choosing import Progress, fit_chosen
from featstore.heads.multilabel.folds import label_divisions
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.multilabel.images import LabelImages, learnable_labels
from featstore.heads.multilabel.scores import score_values
from featstore.heads.multilabel.solving import label_recipe
from featstore.heads.seen import SeenImages
from featstore.messages import listed
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["fit_labels"]

_logger = logging.getLogger(__name__)


def fit_labels(
    table: "FeatureTable",
    *,
    head: str = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | None = None,
    seed: int = 0,
    folds: int | None = None,
    refit: bool | None = None,
    progress: Progress | None = None,
) -> MultiLabelHead:
    """Fit a head to images that may have several labels: a classifier for each against all images without it.

    The setting with the least cross entropy of all labels on validation is kept, as :func:`featstore.fit`
    does. Scores of ``ridge``, ``svm`` and ``rbf`` become probabilities by a sigmoid for each label, fitted on
    validation (Platt); a label that fewer than ten images have, or lack, shares that of all. A label is given
    from the probability on that has the best F1 on validation. Unless ``refit=False``, the head is then
    fitted on train and validation, with these sigmoids and thresholds. Test images are scored once, at the
    end.

    With ``folds``, all of that is chosen on the out-of-fold predictions of train and validation together,
    with ``refit=False`` of train alone: every image then counts in the choice of thresholds. Groups of the
    rule stay in one fold, and each label is spread evenly (iterative stratification: Sechidis, Tsoumakas &
    Vlahavas, ECML PKDD 2011).

    Parameters
    ----------
    table : FeatureTable
        Of a catalog with a ``label_separator``. Images whose labels are not known are left out.
    head : {"logistic", "rbf", "ridge", "svm"}
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.3}``; the rest of the grid is still chosen.
    rule : SplitRule, optional
        As for :func:`featstore.fit`. Labels are not spread evenly over the splits.
    views : mapping, optional
        As for :func:`featstore.fit`: numbers of views for ``"train"``, each a separate row, and ``"test"``,
        over which the probabilities of each label are averaged.
    class_weight : {"balanced"}, optional
        Give the images with a label and those without it the same total, for each label by itself, as
        scikit-learn does; for ``logistic``, ``ridge`` and ``svm``. A sigmoid is then fitted for ``logistic``
        too, so that probabilities stay those of the images.
    seed : int
        Random seed, in [0, 2**32).
    folds : int, optional
        Choose by this many folds, at least 2.
    refit : bool, optional
        Whether to fit on validation too, once parameters and thresholds are chosen. Default: True.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "map": …})`` after each setting.

    Returns
    -------
    MultiLabelHead

    Raises
    ------
    HeadError
        The head does not learn several labels, or takes no class weights; images have one each; there are
        fewer than two; or parameters or features are invalid.
    NotInStoreError
        Images lack some of the views.
    SplitError
        A label is missing from train or, with folds, outside a fold; or the validation split is empty.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_labels(several, head="ridge")
    >>> head.classes.tolist(), head.predict(several.X[:2]).shape, head.test["map"] > 0.8
    (['bird', 'boat', 'sea', 'tree'], (2, 4), True)
    """
    if not table.label_separator:
        raise HeadError(
            f"images of the catalog {table.catalog_name} have one label each: use fit, or extract them with "
            "--label-separator or --label-columns"
        )
    recipe = label_recipe(head, None if params is None else dict(params), class_weight, seed)
    rule = SplitRule() if rule is None else rule
    check_images(table)
    is_known = table.is_labelled
    rule, rows = split_rows(table, np.where(is_known, "known", ""), rule, chooses=folds is None)
    classes, has = learnable_labels(table, rows["train"])
    known = LabelImages.of(table, has, checked_views(views))
    at = {split: np.searchsorted(known.at, of_split) for split, of_split in rows.items()}
    both = np.sort(np.concatenate([at["train"], at["validation"]]))
    fitted_on = ["train", "validation"] if refit is not False and len(at["validation"]) else ["train"]
    inside = known.some(both if refit is not False else at["train"], " and ".join(fitted_on))
    if folds is None:
        if not len(at["validation"]):
            raise SplitError(
                "no labelled image is in validation, where thresholds are chosen; make --validation larger, "
                "or choose by --folds"
            )
        looked_at, divisions = known, [(at["train"], at["validation"])]
    else:
        keys = table.group_keys(rule)[inside.at].tolist()
        divided = label_divisions(keys, inside.has, folds=folds, salt=rule.salt)
        looked_at, divisions = inside, divided.divisions
        if divided.unjudged.any():
            warn(
                _logger,
                "no fold holds out %s, whose images all stay together: they are in every training part",
                listed(classes[divided.unjudged].tolist()),
            )
    choice, form = fit_chosen(recipe, looked_at, divisions, inside, progress)
    test = known.some(at["test"], "test")
    hashes = np.asarray(table.content_hash_bytes)
    thresholds, probabilities = choice.thresholds, test.probabilities(form)
    return MultiLabelHead(
        name=recipe.name,
        classes=classes,
        thresholds=thresholds,
        spec=table.spec,
        fingerprint=table.fingerprint,
        feature_dim=table.feature_dim,
        split_rule=rule,
        params=recipe.fixed | choice.setting,
        counts={
            split: dict(zip(classes.tolist(), has[at].sum(axis=0).tolist(), strict=True))
            for split, at in rows.items()
        },
        n_images={split: len(at) for split, at in rows.items()},
        unlabelled=int((~is_known).sum()),
        weighted=known.weights is not None,
        sweep=choice.sweep,
        folds=folds,
        fitted_on=fitted_on,
        validation=score_values(
            looked_at.has[choice.held_out], choice.probabilities >= thresholds, choice.probabilities
        ),
        test=score_values(test.has, probabilities >= thresholds, probabilities),
        train_views=known.views.train,
        test_views=known.views.test,
        seed=int(seed),
        label_separator=table.label_separator,
        weights=table.weights,
        catalog=str(table.catalog_name),
        space=str(table.space_name),
        catalog_digests=dict(table.catalog_digests),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=current_versions(),
        seen=SeenImages.of(hashes[inside.at], hashes[rows["validation"]] if folds is None else None),
        form=form,
    )
