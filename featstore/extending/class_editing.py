"""Removing and renaming classes of a head without fitting."""

import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import matching_name, normalised_name
from featstore.errors import HeadError
from featstore.heads.calibration import is_nearest_centroid
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.head import Head
from featstore.heads.rejection import rejection_score
from featstore.stats.intervals import scored

__all__ = ["edit_classes"]

# Attributes of some linear classifiers with an entry for each class, unused by predictions.
_OF_EACH_CLASS = ("means_", "priors_", "deviations_")

_CHECKED_ROWS = 64
# Rounding to float32, which some estimators keep, gives 1e-7.
_TOLERANCE = 1e-5


def edit_classes(head: Head, *, remove: Iterable[str] = (), rename: Mapping[str, str] | None = None) -> Head:
    """Remove and rename classes of a linear or extended head.

    The probabilities of the remaining classes are the old ones, renormalised. Measurements with more classes
    do not hold with fewer: removing classes clears the scores, the sweep and the near-duplicates of test
    images. Renaming alone keeps them.

    Parameters
    ----------
    head : Head
        A head with a linear classifier, or an extended one.
    remove : iterable of str
        Names of classes.
    rename : mapping of str to str, optional
        New names by old ones. Two names may be swapped, and the name of a removed class may be reused.

    Returns
    -------
    Head

    Raises
    ------
    HeadError
        The head has no such class; fewer than two remain; two would have the same name; or the head is not
        linear.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit(table, head="ridge")
    >>> featstore.edit_classes(head, remove=["tulips"], rename={"daisy": "bellis"}).classes.tolist()
    ['bellis', 'roses']
    """
    old = head.classes.tolist()
    rename = {matching_name(name, old): normalised_name(new) for name, new in (rename or {}).items()}
    removed = {matching_name(name, old) for name in remove}
    _check_known(head, [*removed, *rename])
    if both := sorted(removed & rename.keys()):
        raise HeadError(f"the class {both[0]!r} is both removed and renamed; do only one")
    kept = [number for number, name in enumerate(old) if name not in removed]
    if len(kept) < 2:
        raise HeadError(
            f"a head needs at least 2 classes; of the {len(old):,} of {head.name}, {len(kept)} would be left"
        )
    names = np.array([rename.get(old[number], old[number]) for number in kept], dtype=np.str_)
    _check_different(names, [old[number] for number in kept])
    order = np.argsort(names)
    at, classes = np.array(kept, np.intp)[order], names[order]
    # After a swap the names are the same, but of other classes.
    if classes.tolist() == old and at.tolist() == kept:
        return head
    new = {old[number]: str(name) for number, name in zip(at, classes, strict=True)}
    counts = {
        split: {new[name]: n_images for name, n_images in of_split.items() if name in new}
        for split, of_split in head.counts.items()
    }
    edited = replace(
        head,
        classes=classes,
        counts=counts,
        extension=_extension(head, new, were_removed=bool(removed)),
        renamed=_renamed(head, new),
        held_out=_held_out(head, new),
        parents={
            new.get(name, name): new.get(parent, parent)
            for name, parent in head.parents.items()
            if name in new or name not in old
        },
    )
    if (form := head.gated or head.kernel or head.network) is not None:
        form = form.with_classes(at)
        load = partial(form_estimator, form, classes, head.temperature)
        own: dict[str, Any] = {
            name: form for name in ("gated", "kernel", "network") if getattr(head, name) is not None
        }
        edited = replace(edited, **own, load_estimator=load)
    else:
        estimator = _with_classes(head.plain_estimator, at, classes, name=head.name)
        linear = None if head.linear is None else head.linear.with_classes(at)
        edited = replace(edited, linear=linear, load_estimator=partial(_itself, estimator))
        _check_probabilities(head, edited, at)
    return _without_scores(edited) if removed else edited


def _extension(head: Head, new: Mapping[str, str], *, were_removed: bool) -> dict[str, Any]:
    """Return the extension's report with the new names; without scores if classes were removed."""
    if not head.extension:
        return {}
    # The name of a removed class may be in use again.
    gone = {name: f"{name} (removed)" for name in new.values() if name not in new}
    called = {label: new.get(name, gone.get(name, name)) for label, name in head.extension["labels"].items()}
    report = {**head.extension, "labels": called}
    report["new"] = [new[name] for name in head.extension["new"] if name in new]
    return {**report, "scores": {}, "confused": [], "curve": []} if were_removed else report


def _renamed(head: Head, new: Mapping[str, str]) -> dict[str, str]:
    """Return the current names of the labels that the head was fitted with, if different."""
    before = {name: name for name in head.classes.tolist()} | head.renamed
    return {label: new.get(name, "") for label, name in before.items() if new.get(name, "") != label}


def _held_out(head: Head, new: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the held-out probabilities under the new names; none if classes were removed."""
    if not head.held_out or len(new) < len(head.held_out):
        return {}
    return {name: head.held_out[label] for label, name in new.items()}


def _check_known(head: Head, names: Iterable[str]) -> None:
    known = head.classes.tolist()
    for name in names:
        if name in known:
            continue
        by_lower = {one.lower(): one for one in known}
        close = [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, n=3)]
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"`featstore head classes` lists its {len(known):,}"
        )
        raise HeadError(f"the head {head.name} has no class {name!r}; {hint}")


def _check_different(names: NDArray[np.str_], old: list[str]) -> None:
    if blank := [was for was, name in zip(old, names.tolist(), strict=True) if not name.strip()]:
        raise HeadError(f"the class {blank[0]!r} needs a name; found an empty one")
    found, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        twice = str(found[counts > 1][0])
        merged = [was for was, name in zip(old, names.tolist(), strict=True) if name == twice]
        raise HeadError(
            f"{' and '.join(merged)} would both be named {twice!r}: classes cannot be merged by renaming; "
            "relabel the images and fit the head again"
        )


def _without_scores(head: Head) -> Head:
    reject = head.reject
    if reject is not None:
        nothing = rejection_score(
            head.classes[:0], np.empty((0, len(head.classes))), head.classes, below=reject["below"]
        )
        reject = {"below": reject["below"], "validation": nothing, "test": dict(nothing)}
    return replace(
        head,
        sweep=[],
        steps=[],
        choice={**head.choice, "n": 0, "top1": None},
        validation=scored(0, 0),
        test=scored(0, 0),
        near_duplicates={},
        reject=reject,
    )


def _with_classes(estimator: Any, at: NDArray[np.intp], classes: NDArray[np.str_], *, name: str) -> Any:
    """Return an estimator with some of its classes, in the given order."""
    edited = deepcopy(estimator)
    try:
        _select(getattr(edited, "steps", [("", edited)])[-1][1], at, classes)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise _cannot(name, "it is not linear, so that each class depends on the others") from error
    return edited


def _check_probabilities(head: Head, edited: Head, at: NDArray[np.intp]) -> None:
    """Raise unless the estimator gives the renormalised old probabilities, on random features."""
    estimator = head.plain_estimator
    first = getattr(estimator, "steps", [("", estimator)])[0][1]
    mean, scale = getattr(first, "mean_", None), getattr(first, "scale_", None)
    X = np.random.default_rng(0).normal(size=(_CHECKED_ROWS, head.feature_dim))
    X = X * (1.0 if scale is None else scale) + (0.0 if mean is None else mean)
    before = replace(head, linear=None, load_estimator=partial(_itself, estimator))
    old, new = before.predict_proba(X), replace(edited, linear=None).predict_proba(X)
    wanted = old[:, at]
    if not np.abs(new * wanted.sum(axis=1, keepdims=True) - wanted).max() < _TOLERANCE:
        raise _cannot(head.name, "its probabilities are not the softmax of one score for each class")


def _cannot(name: str, why: str) -> HeadError:
    return HeadError(
        f"the classes of the head {name} cannot be edited: {why}; relabel the images and fit it again"
    )


def _select(classifier: Any, at: NDArray[np.intp], classes: NDArray[np.str_]) -> None:
    if is_nearest_centroid(classifier):
        classifier.centroids_ = classifier.centroids_[at]
        classifier.class_prior_ = np.full(len(at), 1 / len(at))
    else:
        coef, intercept = np.atleast_2d(classifier.coef_), np.atleast_1d(classifier.intercept_)
        if len(coef) == 1:
            # A binary classifier's single row is the difference of the two classes.
            coef, intercept = np.concatenate([0 * coef, coef]), np.concatenate([0 * intercept, intercept])
        coef, intercept = coef[at], np.broadcast_to(intercept, len(coef))[at]
        if len(at) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        classifier.coef_, classifier.intercept_ = coef, intercept
    for name in _OF_EACH_CLASS:
        if isinstance(getattr(classifier, name, None), np.ndarray):
            setattr(classifier, name, getattr(classifier, name)[at])
    if hasattr(classifier, "_label_binarizer"):
        # scikit-learn's ridge classifiers have their classes only there in some versions.
        classifier._label_binarizer = deepcopy(classifier._label_binarizer).fit(classes)
    if not isinstance(getattr(type(classifier), "classes_", None), property):
        classifier.classes_ = classes


def _itself(estimator: Any) -> Any:
    return estimator
