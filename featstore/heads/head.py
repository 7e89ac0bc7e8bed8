"""A fitted head: its classifier, how it was fitted and what it was measured to do."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.class_names import normalised_name
from featstore.heads.classifier import HeadClassifier
from featstore.heads.files.estimator_file import StoredEstimator, dump_estimator
from featstore.heads.files.head_file import read_head_file, write_head_file
from featstore.heads.files.manifest import FIELDS
from featstore.heads.mismatch import mismatch_error
from featstore.heads.seen import SeenImages
from featstore.io.outputs import check_head_output
from featstore.io.storage.opening import absolute_place
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Head"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Head(HeadClassifier):
    """A classifier fitted on the features of one space.

    Created by :func:`featstore.fit`, :func:`featstore.import_head`, :func:`featstore.extend` or
    :meth:`Head.load`.

    Parameters
    ----------
    name : str
        Name as in :func:`featstore.known_heads`, or the lower-case class name of the user's own estimator;
        ``"imported"`` for a network's own classifier, the method for an extended head, and
        ``"tuned"`` for one of :func:`featstore.finetune`.
    classes : ndarray of shape (n_classes,), str
        Labels, sorted; the columns of probabilities are in this order.
    spec : BackboneSpec or JoinedSpec
        Backbone, or several, whose features it was fitted on.
    fingerprint : str
        Fingerprint of the spec, 64 hexadecimal digits.
    feature_dim : int
        Number of features of an image.
    split_rule : SplitRule
        Rule that assigned train, validation and test.
    params : dict
        Parameters of the classifier, chosen and fixed.
    counts : dict
        Number of images used: ``{"train": {label: n}, "validation": {…}, "test": {…}}``.
    unlabelled : int
        Number of images left out because they have no label.
    weighted : bool
        Whether it was fitted with the catalog's weights of images.
    sweep : list of dict
        ``{"params": {…}, "top1", "train_top1", "cross_entropy"}`` for each setting tried: accuracy on
        held-out images, accuracy on (at most 20,000 of) the training images, and cross entropy on held-out
        images, in nats. Choosing by folds leaves ``train_top1`` out.
    steps : list of dict
        For a head fitted by passes over the features and chosen on validation, the same with the chosen
        setting, for each pass of ``sgd``, and for each evaluation of ``softmax`` and ``mlp``, whose ``step``
        is a number of batches: ``{"step", "top1", "train_top1", "cross_entropy"}``. Otherwise empty.
    choice : dict
        How the parameters were chosen: ``by``, ``"cross_entropy"``, or None if there was nothing to choose
        (in heads of earlier versions ``"validation"`` or ``"folds"``, by accuracy); ``folds``, their number,
        or None for the validation split; ``n``, the number of images, and ``top1``, the accuracy on them; and
        ``fitted_on``, the splits that the head was fitted on.
    seed : int
        Random seed.
    validation, test : dict
        ``{"n", "top1", "top1_ci"}``: accuracy in [0, 1] and its 95% interval, both None if n is 0. If the
        head was also fitted on validation, ``validation`` is that of the fit on train alone, or, with folds,
        of each fold by the fit without it.
    reject : dict or None
        ``below``, the probability below which the head answers "unknown", and the result of
        :func:`featstore.heads.rejection.rejection_score` for ``validation`` and ``test``. None if it always
        answers.
    held_out : dict of str to list of float
        For each class, the probabilities of the label of its held-out images, ascending, by fits without
        them: on validation, or in folds. :meth:`prediction_sets` are calibrated on them; empty if unknown.
    near_duplicates : dict
        Test images that are nearly identical to a training image, and the accuracy on the others:
        ``{"threshold", "n_test", "n_without", "top1_without", "top1_ci_without", "skipped"}``, as
        :func:`featstore.leakage` returns it; empty if that was not called.
    leaks : int
        Number of contents (images by their bytes) that occur in more than one split.
    label_conflicts : int
        Number of contents that occur with more than one label.
    temperature : float or None
        Divisor of decisions before the softmax; None if the classifier's own probabilities are used.
    train_views, test_views : int
        Numbers of views of each image that it was fitted on, and over which probabilities are to be averaged:
        pass that many to :meth:`predict` and the other methods.
    weights : str, or tuple of str
        Source of the backbone's weights as the space records it, or one for each joined backbone; may be
        empty.
    catalog, space : str
        Names of the catalog and the space that it was fitted on.
    catalog_digests : dict of str to str
        Digest of each catalog as it was then (:attr:`FeatureTable.catalog_digests`); empty if unknown, as in
        heads of versions before 0.6.
    created : str
        ISO 8601 date and time, UTC.
    versions : dict
        Versions of featstore, scikit-learn, numpy and skops.
    extension : dict
        For a head made by :func:`featstore.extend`, the report described there; otherwise empty.
    renamed : dict of str to str
        Labels that the head was fitted with and that :func:`featstore.edit_classes` has changed, with the
        current name of each class, or ``""`` if it was removed; also ``""`` for classes that ``min_images``
        left out of the fit.
    parents : dict of str to str
        Parent of each class that has one, and of each parent (:func:`featstore.class_parents`).
    seen : SeenImages or None
        Images that it was fitted on, and those that its parameters were chosen on, by content. None if
        unknown: for a network's own classifier, and in heads of versions before 0.5.
    linear : LinearForm or None
        The linear classifier, which predicts without scikit-learn.
    gated : GatedForm or None
        The same for a head with a gate between old and new classes.
    kernel : KernelForm or None
        The same for a kernel head (``rbf``).
    network : NetworkForm or None
        The same for a head with a hidden layer (``mlp``).
    load_estimator : callable
        Returns the fitted scikit-learn estimator; see :attr:`estimator`.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit(table, head="ridge")
    >>> head
    <Head ridge: 3 classes on tiny-1725d581bd3d>
    >>> labels, probabilities = head.top(table.X[:4], k=2)
    >>> labels.shape, probabilities.shape
    ((4, 2), (4, 2))
    """

    spec: BackboneSpec | JoinedSpec
    fingerprint: str
    split_rule: SplitRule
    params: dict[str, Any]
    counts: dict[str, dict[str, int]]
    unlabelled: int = 0
    weighted: bool = False
    sweep: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    validation: dict[str, Any]
    test: dict[str, Any]
    near_duplicates: dict[str, Any] = field(default_factory=dict)
    leaks: int = 0
    label_conflicts: int = 0
    train_views: int = 1
    test_views: int = 1
    weights: str | tuple[str, ...] = ""
    catalog: str = ""
    space: str = ""
    catalog_digests: dict[str, str] = field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    extension: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    seen: SeenImages | None = None

    def __repr__(self) -> str:
        return f"<Head {self.name}: {len(self.classes)} classes on {self.space or self.spec.name}>"

    def labels_of(self, table: "FeatureTable") -> NDArray[np.str_]:
        """Return the labels of a table's images by the names of this head's classes.

        An extended head may have other names for labels of the catalog of its new classes: ``"daisy
        (flowers)"`` beside an old class ``"daisy"``. A head with renamed classes has new names for labels of
        the catalog that it was fitted on, and for labels of other catalogs that are not among its classes.

        Parameters
        ----------
        table : FeatureTable

        Returns
        -------
        ndarray of shape (n,), str
        """
        labels, known = np.asarray(table.y), {*self.classes.tolist()}
        if self.extension and table.catalog_name == self.extension.get("catalog"):
            called = self.extension.get("labels", {})
        elif self._was_made_of(table.catalog_name):
            called = {
                label: name or (f"{label} (removed)" if label in known else label)
                for label, name in self.renamed.items()
            }
        else:
            called = {label: name for label, name in self.renamed.items() if label not in known and name}
        # Heads of older versions may have names in another Unicode form than tables.
        forms = {normalised_name(name): name for name in known if not name.isascii()}
        called = {form: name for form, name in forms.items() if form not in known} | called
        if not called:
            return labels
        return np.array([called.get(label, label) for label in labels.tolist()], dtype=np.str_)

    def are_of_removed_classes(self, labels: NDArray[np.str_]) -> NDArray[np.bool_]:
        """Return whether labels, as of :meth:`labels_of`, are of classes that were removed or left out."""
        removed = [label for label, name in self.renamed.items() if not name]
        called = {*removed, *(f"{label} (removed)" for label in removed)} - {*self.classes.tolist()}
        return np.isin(labels, sorted(called)) if called else np.zeros(len(labels), np.bool_)

    def _was_made_of(self, catalog: str) -> bool:
        named = self.extension.get("old", {}).get("catalog", "") if self.extension else self.catalog
        return _share_a_name(catalog, named)

    @property
    def seen_by(self) -> str:
        """How the head identifies the images that it was fitted on.

        ``"content"``: by their bytes, wherever they are; ``"part"``: the same, except for images of the head
        that it was made from, and for those that were forgotten (:meth:`FeatureStore.forget`);
        ``"catalog"``, in heads of versions before 0.5: by the catalog's name and the splits; ``"unknown"``:
        for a network's own classifier.
        """
        if self.seen is not None:
            return "content" if self.seen.is_complete else "part"
        return "catalog" if self.choice.get("fitted_on") else "unknown"

    def was_fitted_on(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return whether the head was fitted on each image of a table, as far as it knows.

        Parameters
        ----------
        table : FeatureTable
            Any catalog; see :attr:`seen_by`.

        Returns
        -------
        ndarray of shape (n,), bool
        """
        if self.seen is not None:
            return self.seen.have_fitted(table.content_hash_bytes)
        return self._are_in(table, self.choice.get("fitted_on", ()))

    def was_chosen_on(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return whether parameters were chosen on each image of a table, without fitting on it.

        Parameters
        ----------
        table : FeatureTable

        Returns
        -------
        ndarray of shape (n,), bool
        """
        if self.seen is not None:
            return self.seen.have_chosen(table.content_hash_bytes)
        is_chosen = self.choice.get("by") == "validation" and "validation" not in self.choice["fitted_on"]
        return self._are_in(table, ["validation"] if is_chosen else [])

    def _are_in(self, table: "FeatureTable", splits: Sequence[str]) -> NDArray[np.bool_]:
        if not splits or not _share_a_name(table.catalog_name, self.catalog):
            return np.zeros(len(table), np.bool_)
        return np.isin(np.asarray(table.splits(self.split_rule)), splits)

    def check_fingerprint(self, fingerprint: str, *, spec: BackboneSpec | JoinedSpec | None = None) -> None:
        """Raise an error unless features, or a backbone, are the head's own.

        Parameters
        ----------
        fingerprint : str
            Fingerprint of the features or the backbone.
        spec : BackboneSpec or JoinedSpec, optional
            Their specification, to name the differences in the message.

        Raises
        ------
        FingerprintMismatchError
        """
        if fingerprint != self.fingerprint:
            raise mismatch_error(self.name, self.spec, fingerprint, spec)

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the estimator as JSON values; the keys are stable."""
        return {
            "head": self.name,
            "space": self.space,
            "catalog": self.catalog,
            "classes": self.classes.tolist(),
            **{f"n_{split}": sum(counts.values()) for split, counts in self.counts.items()},
            "params": self.params,
            "choice": self.choice,
            "seed": self.seed,
            "validation": self.validation,
            "test": self.test,
            "near_duplicates": self.near_duplicates,
            "reject": self.reject,
            "sweep": self.sweep,
            "steps": self.steps,
            "counts": self.counts,
            "unlabelled": self.unlabelled,
            "weighted": self.weighted,
            "leaks": self.leaks,
            "label_conflicts": self.label_conflicts,
            "extension": self.extension,
            "renamed": self.renamed,
            "parents": self.parents,
            "seen": self._seen_summary(),
            "temperature": self.temperature,
            "train_views": self.train_views,
            "test_views": self.test_views,
            "split_rule": self.split_rule.to_dict(),
            "spec": self.spec.to_dict(),
            "fingerprint": self.fingerprint,
            "feature_dim": self.feature_dim,
            "weights": self.weights,
            "catalog_digests": self.catalog_digests,
            "created": self.created,
            "versions": self.versions,
        }

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the head to a file, atomically and without pickle.

        Parameters
        ----------
        path : path_like
            A head in a store (:meth:`featstore.FeatureStore.head_path`) is replaced.
        overwrite : bool
            Whether to replace an existing file elsewhere.

        Raises
        ------
        HeadError
            The estimator cannot be saved without pickle.
        OutputError
            The file exists, or lies in a store outside its heads.
        StoreError
            The file cannot be written.
        """
        target = check_head_output(path, overwrite=overwrite)
        manifest = {name: self._manifest_value(name) for name in FIELDS}
        write_head_file(target, manifest, self._estimator_data(), self.form, self.seen)

    def _estimator_data(self) -> bytes:
        if self.form is not None and self.linear is None:
            return b""
        if isinstance(stored := self.load_estimator, StoredEstimator):
            # Copied: its types need not be trusted here.
            return stored.data
        return dump_estimator(self.estimator)

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: Sequence[str | type] = ()) -> Self:
        """Read a head from a file, without running any code in it.

        Parameters
        ----------
        path : path_like
        trusted : sequence of str or type
            Types (``"module.Class"``) that may be created beyond scikit-learn's estimators and NumPy's
            arrays. Only name types whose code you trust.

        Returns
        -------
        Head

        Raises
        ------
        HeadError
            The file does not exist, is not a head, or is damaged.
        FormatVersionError
            A newer version of featstore wrote the file.
        UntrustedTypeError
            The file contains other types; the message names them.
        """
        values = read_head_file(absolute_place(path), trusted=trusted)
        head = cls(**values)
        if head.form is None:
            # Report problems of the file now, not at the first prediction.
            head.estimator  # noqa: B018
        return head

    def _seen_summary(self) -> dict[str, Any]:
        numbers = [None, None] if self.seen is None else [len(self.seen.fitted), len(self.seen.chosen)]
        return {"by": self.seen_by, "n_fitted": numbers[0], "n_chosen": numbers[1]}

    def _manifest_value(self, name: str) -> Any:
        value = getattr(self, name)
        if name == "classes":
            return value.tolist()
        return value.to_dict() if name in {"spec", "split_rule"} else value


def _share_a_name(catalogs: str, others: str) -> bool:
    return bool({*str(catalogs).split("+")} & {*others.split("+")} - {""})
