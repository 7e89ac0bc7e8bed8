"""A fitted head, with all that it takes to use it rightly, as an object and as a file."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.class_names import normalised_name
from featstore.errors import (
    FeatstoreError,
    FingerprintMismatchError,
    HeadError,
    UntrustedTypeError,
    first_line,
)
from featstore.heads.calibration import class_scores, log_probabilities, mean_over_views, softmax
from featstore.heads.data.blocks import usable_features
from featstore.heads.files.estimator_file import StoredEstimator, dump_estimator
from featstore.heads.files.head_file import FIELDS, read_head_file, write_head_file
from featstore.heads.finite import finite_numbers
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.mismatch import differences
from featstore.heads.rejection import checked_reject
from featstore.heads.seen import SeenImages
from featstore.io.outputs import check_head_output
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Head"]

_BLOCK_ROWS = 8192
_BLOCK_NUMBERS = 2**24


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Head:
    """A classifier fitted on the features of one space.

    Made by :func:`featstore.fit`, :func:`featstore.import_head`, :func:`featstore.extend` or
    :meth:`Head.load`.

    Parameters
    ----------
    name : str
        As :func:`featstore.known_heads` lists it, or the lowercased class name of the user's own estimator;
        ``"imported"`` for a network's own classifier, and the method for one that was extended.
    classes : ndarray of shape (n_classes,), str
        The labels, sorted; columns of probabilities are in this order.
    spec : BackboneSpec or JoinedSpec
        The backbone, or several, whose features it was fitted on.
    fingerprint : str
        The spec's fingerprint, 64 hexadecimal digits.
    feature_dim : int
        The number of features of an image.
    split_rule : SplitRule
        How train, validation and test were dealt.
    params : dict
        The classifier's parameters, the chosen ones included.
    counts : dict
        Images used: ``{"train": {label: n}, "validation": {…}, "test": {…}}``.
    unlabelled : int
        Images left out because they have no label.
    sweep : list of dict
        One ``{"params": {…}, "top1", "train_top1", "cross_entropy"}`` for each setting that was tried: the
        accuracy on the images held out, the accuracy on (at most 20,000 of) those that it was fitted on, and
        the cross entropy in nats on those held out. Choosing by folds leaves ``train_top1`` out.
    steps : list of dict
        Of a head that is fitted by passes over the features (``sgd``) and chosen on validation, the same for
        each pass with the chosen setting: ``{"step", "top1", "train_top1", "cross_entropy"}``. Else empty.
    choice : dict
        What the parameters were chosen by: ``by``, ``"cross_entropy"``, or None where there was nothing to
        choose (in heads of earlier versions ``"validation"`` or ``"folds"``, by accuracy); ``folds``, how
        many it was measured in, or None for the validation split; ``n``, images, and ``top1``, the accuracy
        on them; and ``fitted_on``, the splits that the head was fitted on.
    seed : int
        What was drawn at random was drawn with it.
    validation, test : dict
        ``{"n", "top1", "top1_ci"}``; accuracy in [0, 1] and its 95% interval, both None where n is 0. Of a
        head that was fitted on validation too, the first is of the fit on train alone, or, with folds, of
        each fold by the fit without it.
    reject : dict or None
        ``below``, the probability below which the head answers "unknown", and for ``validation`` and ``test``
        what :func:`featstore.heads.rejection_score` says of it. None where it always answers.
    near_duplicates : dict
        Test images that are nearly the same as a training image, and the accuracy on the others:
        ``{"threshold", "n_test", "n_without", "top1_without", "top1_ci_without", "skipped"}``, as
        :func:`featstore.leakage` returns it; empty where that was not called.
    leaks : int
        Contents (images by their bytes) that occur in more than one split.
    label_conflicts : int
        Contents that occur with more than one label.
    temperature : float or None
        What decisions are divided by before the softmax; None where a classifier's own probabilities are used
        as they are.
    train_views, test_views : int
        Views of each image that it was fitted on, and over which its probabilities are to be averaged: give
        :meth:`predict` and the others that many.
    weights : str, or tuple of str
        Where the backbone's weights came from, as the space records it; may be empty. Of joined backbones one
        for each.
    catalog, space : str
        The names of what it was fitted on.
    created : str
        ISO 8601 date and time, UTC.
    versions : dict
        Versions of featstore, scikit-learn, numpy and skops.
    extension : dict
        Of a head that :func:`featstore.extend` made: how, of what, and what it gained and cost; see there.
        Else empty.
    renamed : dict of str to str
        What :func:`featstore.edit_classes` has changed in the labels that the head was fitted with: each with
        the name that its class has now, or ``""`` where the class was removed.
    seen : SeenImages or None
        Which images it was fitted on, and which its parameters were chosen on, by their content. None where
        it is not known: of a network's own classifier, and in heads of versions before 0.5.
    linear : LinearForm or None
        What a linear classifier comes to; predictions are computed with it, without scikit-learn.
    gated : GatedForm or None
        The same of a head with a gate between old and new classes.
    load_estimator : callable
        Returns the fitted scikit-learn estimator; see :attr:`estimator`.
    """

    name: str
    classes: NDArray[np.str_]
    spec: BackboneSpec | JoinedSpec
    fingerprint: str
    feature_dim: int
    split_rule: SplitRule
    params: dict[str, Any]
    counts: dict[str, dict[str, int]]
    unlabelled: int = 0
    sweep: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    validation: dict[str, Any]
    test: dict[str, Any]
    near_duplicates: dict[str, Any] = field(default_factory=dict)
    reject: dict[str, Any] | None = None
    leaks: int = 0
    label_conflicts: int = 0
    temperature: float | None = None
    train_views: int = 1
    test_views: int = 1
    weights: str | tuple[str, ...] = ""
    catalog: str = ""
    space: str = ""
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    extension: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    seen: SeenImages | None = None
    linear: LinearForm | None = None
    gated: GatedForm | None = None
    load_estimator: Callable[[], Any]

    def __repr__(self) -> str:
        return f"<Head {self.name}: {len(self.classes)} classes on {self.space or self.spec.name}>"

    @cached_property
    def estimator(self) -> Any:
        """The fitted scikit-learn estimator: a ``Pipeline`` for featstore's own heads.

        Of a gated head it is a :class:`featstore.heads.form_classifier.FormClassifier`, which is not saved.
        Of a linear head that was loaded from a file it is read when it is first asked for, with the errors
        of :meth:`load`.
        """
        return self.load_estimator()

    @property
    def plain_estimator(self) -> Any:
        """The estimator, or where its types are not trusted one of scikit-learn's with the same form."""
        try:
            return self.estimator
        except UntrustedTypeError:
            if self.form is None:
                raise
            return form_estimator(self.form, self.classes, self.temperature)

    @property
    def form(self) -> LinearForm | GatedForm | None:
        """What predictions are computed with, without scikit-learn; None where the estimator does."""
        return self.linear or self.gated

    def labels_of(self, table: "FeatureTable") -> NDArray[np.str_]:
        """Return the labels of a table's images as this head calls them.

        An extended head may call the labels of the catalog that its new classes are from otherwise than the
        catalog does: ``"daisy (flowers)"`` beside an old class ``"daisy"``. A head with renamed classes calls
        the labels of the catalog that it was fitted on by their new names, and so those of other catalogs
        that are no names of its classes.

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
        # Heads of older versions may hold names in another Unicode form than tables do.
        forms = {normalised_name(name): name for name in known if not name.isascii()}
        called = {form: name for form, name in forms.items() if form not in known} | called
        if not called:
            return labels
        return np.array([called.get(label, label) for label in labels.tolist()], dtype=np.str_)

    def _was_made_of(self, catalog: str) -> bool:
        named = self.extension.get("old", {}).get("catalog", "") if self.extension else self.catalog
        return _share_a_name(catalog, named)

    @property
    def seen_by(self) -> str:
        """How the head knows the images that it was fitted on.

        ``"content"``, wherever they are; ``"part"``, the same but for those of another head that it was made
        of; ``"catalog"``, in heads of versions before 0.5: those of the catalog of this name that are in the
        splits that it was fitted on; or ``"unknown"``, of a network's own classifier.
        """
        if self.seen is not None:
            return "content" if self.seen.is_complete else "part"
        return "catalog" if self.choice.get("fitted_on") else "unknown"

    def was_fitted_on(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return for each image of a table whether the head was fitted on it, as far as it knows.

        Parameters
        ----------
        table : FeatureTable
            Of any catalog: images are known by their content; see :attr:`seen_by`.

        Returns
        -------
        ndarray of shape (n,), bool
        """
        if self.seen is not None:
            return self.seen.have_fitted(table.content_hash_bytes)
        return self._are_in(table, self.choice.get("fitted_on", ()))

    def was_chosen_on(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return the same of the images that its parameters were chosen on, and that it was not fitted on."""
        if self.seen is not None:
            return self.seen.have_chosen(table.content_hash_bytes)
        is_chosen = self.choice.get("by") == "validation" and "validation" not in self.choice["fitted_on"]
        return self._are_in(table, ["validation"] if is_chosen else [])

    def _are_in(self, table: "FeatureTable", splits: Sequence[str]) -> NDArray[np.bool_]:
        if not splits or not _share_a_name(table.catalog_name, self.catalog):
            return np.zeros(len(table), np.bool_)
        return np.isin(np.asarray(table.splits(self.split_rule)), splits)

    def predict(self, X: Any) -> NDArray[np.str_]:
        """Give each image's most probable label, by its features; :meth:`answer` may say "unknown".

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
            Of the image itself, or of several of its views.

        Returns
        -------
        ndarray of shape (n,), str
            Of several views, the label that is most probable in the mean.

        Raises
        ------
        HeadError
            ``X`` has another shape, or holds NaN or infinity.
        """
        parts = [self._labels(block, n_views) for block, n_views in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=self.classes.dtype)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give each class's probability for images by their features.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            In [0, 1], each row with the sum 1; columns in the order of ``classes``. Where the classifier has
            only decisions, the softmax of these divided by ``temperature``. Of several views of an image, the
            mean over these.

        Raises
        ------
        HeadError
            ``X`` has another shape, or holds NaN or infinity.
        """
        parts = [self._mean_probabilities(block, n_views) for block, n_views in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def predict_with_proba(self, X: Any) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Return what :meth:`predict` and :meth:`predict_proba` do, scoring each image once where it can.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float

        Returns
        -------
        labels : ndarray of shape (n,), str
        probabilities : ndarray of shape (n, n_classes), float64

        Raises
        ------
        HeadError
            ``X`` has another shape, or holds NaN or infinity.
        """
        labels, probabilities = [self.classes[:0]], [np.empty((0, len(self.classes)))]
        for block, n_views in self._blocks(X):
            if n_views > 1 or self.form is None:
                probabilities.append(self._mean_probabilities(block, n_views))
                # An estimator may predict otherwise than by its probabilities.
                best = self.classes[probabilities[-1].argmax(axis=1)]
                labels.append(best if n_views > 1 else self._predicted(block))
                continue
            scores = self._scores(block)
            labels.append(self.classes[scores.argmax(axis=1)])
            probabilities.append(self._softmax(scores))
        return np.concatenate(labels), np.concatenate(probabilities)

    def scores(self, X: Any) -> NDArray[np.float64]:
        """Give each class's score for images by their features: the largest is the prediction's.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            The classifier's decisions, or else the logarithms of its probabilities; of several views, the
            logarithms of their mean, times ``temperature``. The softmax of these, divided by ``temperature``
            where there is one, is :meth:`predict_proba`.

        Raises
        ------
        HeadError
            ``X`` has another shape, or holds NaN or infinity.
        """
        parts = [self._mean_scores(block, n_views) for block, n_views in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def answer(self, X: Any, *, reject: float | None = None) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Label images where the head is sure enough.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
        reject : float, optional
            In [0, 1): what the most probable class's probability has to reach; by default the head's own,
            and 0 always answers.

        Returns
        -------
        labels : ndarray of shape (n,), str
            ``""``, which no class is called, for "unknown".
        probabilities : ndarray of shape (n,), float64
            Of the most probable class, whether it is the answer or not.

        Raises
        ------
        HeadError
            ``reject`` is no probability, or ``X`` is unfit.
        """
        below = self.rejects_below if reject is None else checked_reject(reject)
        labels, probabilities = self.top(X, 1)
        return np.where(probabilities < below, "", labels)[:, 0], probabilities[:, 0]

    @property
    def rejects_below(self) -> float:
        """The probability below which the head answers "unknown"; 0 where it always answers."""
        return 0.0 if self.reject is None else float(self.reject["below"])

    def top(self, X: Any, k: int = 5) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Give the most probable labels of each image, the best first.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
        k : int
            How many, at least 1; more than there are classes gives all classes.

        Returns
        -------
        labels : ndarray of shape (n, k), str
        probabilities : ndarray of shape (n, k), float64

        Raises
        ------
        HeadError
            ``k`` is below 1, or ``X`` is unfit.
        """
        if k < 1:
            raise HeadError(f"the number of labels for an image is at least 1; found {k}")
        probabilities = self.predict_proba(X)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return self.classes[best], np.take_along_axis(probabilities, best, axis=1)

    def check_fingerprint(self, fingerprint: str, *, spec: BackboneSpec | JoinedSpec | None = None) -> None:
        """Refuse features, or a backbone, other than the head's own.

        Parameters
        ----------
        fingerprint : str
            Of the features or the backbone at hand.
        spec : BackboneSpec or JoinedSpec, optional
            Its specification, for a message that names what differs.

        Raises
        ------
        FingerprintMismatchError
        """
        if fingerprint == self.fingerprint:
            return
        message = (
            f"the head {self.name} was fitted on features of {self.spec.name}; "
            f"found {spec.name if spec else 'the fingerprint ' + fingerprint[:12]}"
        )
        if spec is not None:
            message += ": " + ", ".join(differences(self.spec, spec))
        raise FingerprintMismatchError(
            message + "; use the head's own backbone and weights, or fit another head"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all but the estimator as JSON values; these keys stay the same."""
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
            "leaks": self.leaks,
            "label_conflicts": self.label_conflicts,
            "extension": self.extension,
            "renamed": self.renamed,
            "seen": self._seen_told(),
            "temperature": self.temperature,
            "train_views": self.train_views,
            "test_views": self.test_views,
            "split_rule": self.split_rule.to_dict(),
            "spec": self.spec.to_dict(),
            "fingerprint": self.fingerprint,
            "feature_dim": self.feature_dim,
            "weights": self.weights,
            "created": self.created,
            "versions": self.versions,
        }

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the head to a file, without pickle, whole or not at all.

        Parameters
        ----------
        path : path_like
            A head in a store (:meth:`featstore.FeatureStore.head_path`) is replaced.
        overwrite : bool
            Whether a file elsewhere that is there may be replaced.

        Raises
        ------
        HeadError
            The estimator cannot be saved without pickle.
        OutputError
            The file exists, or lies in a store and not among its heads.
        StoreError
            It cannot be written.
        """
        target = check_head_output(path, overwrite=overwrite)
        manifest = {name: self._manifest_value(name) for name in FIELDS}
        write_head_file(target, manifest, self._estimator_data(), self.form, self.seen)

    def _estimator_data(self) -> bytes:
        if self.gated is not None:
            return b""
        if isinstance(stored := self.load_estimator, StoredEstimator):
            # As it is: it need not be of types that are trusted here.
            return stored.data
        return dump_estimator(self.estimator)

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: Sequence[str | type] = ()) -> Self:
        """Read a head from a file; nothing in the file is run.

        Parameters
        ----------
        path : path_like
        trusted : sequence of str or type
            Types (``"module.Class"``) that may be made beyond scikit-learn's estimators and NumPy's arrays.
            Name only those whose code you trust.

        Returns
        -------
        Head

        Raises
        ------
        HeadError
            There is no such file, or it is no head, or is damaged.
        FormatVersionError
            A newer version of featstore wrote it.
        UntrustedTypeError
            It holds other types; the message names them.
        """
        values = read_head_file(os.path.abspath(os.fspath(path)), trusted=trusted)
        head = cls(**values)
        if head.form is None:
            # What is wrong with the file is said now, and not at the first prediction.
            head.estimator  # noqa: B018
        return head

    def _seen_told(self) -> dict[str, Any]:
        numbers = [None, None] if self.seen is None else [len(self.seen.fitted), len(self.seen.chosen)]
        return {"by": self.seen_by, "n_fitted": numbers[0], "n_chosen": numbers[1]}

    def _manifest_value(self, name: str) -> Any:
        value = getattr(self, name)
        if name == "classes":
            return value.tolist()
        return value.to_dict() if name in {"spec", "split_rule"} else value

    def _blocks(self, X: Any) -> Iterator[tuple[NDArray[Any], int]]:
        """Yield checked runs of rows, in at least single precision, and how many are of one image."""
        rows = X if hasattr(X, "shape") and hasattr(X, "dtype") else np.asarray(X)
        shape = tuple(rows.shape)
        if len(shape) not in (2, 3) or shape[-1] != self.feature_dim or (len(shape) == 3 and not shape[1]):
            leading = "n, n_views" if len(shape) == 3 else "n"
            raise HeadError(
                f"the head {self.name} takes features of shape ({leading}, {self.feature_dim}); found {shape}"
            )
        n_views = shape[1] if len(shape) == 3 else 1
        step = max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // self.feature_dim) // n_views)
        for start in range(0, shape[0], step):
            block = rows[start : start + step]
            usable = usable_features(block if len(shape) == 2 else block.reshape(-1, shape[2])).view()
            # A step with copy=False would standardise the caller's features, and again at the next question.
            usable.flags.writeable = False
            yield usable, n_views

    def _labels(self, block: NDArray[Any], n_views: int) -> NDArray[np.str_]:
        if n_views > 1:
            best = self._mean_probabilities(block, n_views).argmax(axis=1)
            return np.asarray(self.classes[best], dtype=np.str_)
        scores = self._scores(block)
        if self.form is not None:
            return np.asarray(self.classes[scores.argmax(axis=1)], dtype=np.str_)
        return self._predicted(block)

    def _predicted(self, block: NDArray[Any]) -> NDArray[np.str_]:
        return np.asarray(self._asked(lambda: self.estimator.predict(block)), dtype=np.str_)

    def _mean_scores(self, block: NDArray[Any], n_views: int) -> NDArray[np.float64]:
        if n_views == 1:
            return self._scores(block)
        means = np.maximum(self._mean_probabilities(block, n_views), 1e-300)
        return np.asarray(np.log(means) * (self.temperature or 1.0), np.float64)

    def _mean_probabilities(self, block: NDArray[Any], n_views: int) -> NDArray[np.float64]:
        return mean_over_views(self._probabilities(block), n_views)

    def _scores(self, block: NDArray[Any]) -> NDArray[np.float64]:
        if self.form is not None:
            scores = self._asked(lambda: self.form.scores(block))  # type: ignore[union-attr]
        elif self._has_probabilities:
            scores = self._asked(lambda: log_probabilities(self.estimator, block))
        else:
            scores = self._asked(lambda: class_scores(self.estimator, block))
        return finite_numbers(scores, self.name, len(self.classes))

    def _probabilities(self, block: NDArray[Any]) -> NDArray[np.float64]:
        if self._has_probabilities:
            own = self._asked(lambda: np.asarray(self.estimator.predict_proba(block), np.float64))
            return finite_numbers(own, self.name, len(self.classes))
        return self._softmax(self._scores(block))

    def _softmax(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        own = self._asked(lambda: softmax(scores / (self.temperature or 1.0)))
        return finite_numbers(own, self.name, len(self.classes))

    @property
    def _has_probabilities(self) -> bool:
        """Whether the estimator's own probabilities are the head's."""
        return self.form is None and self.temperature is None and hasattr(self.estimator, "predict_proba")

    def _asked(self, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        try:
            # Where something overflows, it is refused with a reason afterwards.
            with np.errstate(all="ignore"):
                return compute()
        except (FeatstoreError, MemoryError):
            raise
        except Exception as error:  # an estimator may raise anything
            raise HeadError(
                f"the head {self.name} cannot predict from these features: {first_line(error)}; its file is "
                "damaged, or they are not the features that it was fitted on: fit it again"
            ) from error


def _share_a_name(catalogs: str, others: str) -> bool:
    return bool({*str(catalogs).split("+")} & {*others.split("+")} - {""})
