"""Predictions of a fitted head from features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, UntrustedTypeError, first_line
from featstore.heads.calibration import class_scores, log_probabilities, mean_over_views, softmax
from featstore.heads.data.blocks import usable_features
from featstore.heads.finite import finite_numbers
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.prediction_sets import in_sets, set_thresholds
from featstore.heads.rejection import checked_reject

__all__ = ["HeadClassifier"]

_BLOCK_ROWS = 8192
_BLOCK_NUMBERS = 2**24


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HeadClassifier:
    """The part of a :class:`featstore.Head` that predicts, with the fields that this takes."""

    name: str
    classes: NDArray[np.str_]
    feature_dim: int
    reject: dict[str, Any] | None = None
    held_out: dict[str, list[float]] = field(default_factory=dict)
    temperature: float | None = None
    linear: LinearForm | None = None
    gated: GatedForm | None = None
    kernel: KernelForm | None = None
    network: NetworkForm | None = None
    load_estimator: Callable[[], Any]

    @cached_property
    def estimator(self) -> Any:
        """Fitted scikit-learn estimator: a ``Pipeline`` for featstore's own heads.

        For a gated head, and a kernel or network head loaded from a file, it is a
        :class:`featstore.heads.form_classifier.FormClassifier`, which is not saved.
        For a linear head loaded from a file it is read on first access, with the errors of :meth:`Head.load`.
        """
        return self.load_estimator()

    @property
    def plain_estimator(self) -> Any:
        """The estimator, or scikit-learn's equivalent of the form if its types are not trusted."""
        try:
            return self.estimator
        except UntrustedTypeError:
            if self.form is None:
                raise
            return form_estimator(self.form, self.classes, self.temperature)

    @property
    def form(self) -> LinearForm | GatedForm | KernelForm | NetworkForm | None:
        """Form that predictions are computed with; None if the estimator computes them."""
        return self.linear or self.gated or self.kernel or self.network

    def predict(self, X: Any) -> NDArray[np.str_]:
        """Predict the most probable label of each image; see :meth:`answer` for rejection.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
            Features of each image, or of several of its views.

        Returns
        -------
        ndarray of shape (n,), str
            With several views, the label with the largest mean probability.

        Raises
        ------
        HeadError
            ``X`` has another shape, or contains NaN or infinity.
        """
        parts = [self._labels(block, n_views) for block, n_views in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=self.classes.dtype)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict class probabilities.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            In [0, 1], rows sum to 1; columns in the order of ``classes``. For a classifier with decisions
            only, the softmax of these divided by ``temperature``. With several views, their mean.

        Raises
        ------
        HeadError
            ``X`` has another shape, or contains NaN or infinity.
        """
        parts = [self._mean_probabilities(block, n_views) for block, n_views in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def predict_with_proba(self, X: Any) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Predict labels and probabilities, scoring each image once if possible.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float

        Returns
        -------
        labels : ndarray of shape (n,), str
            As :meth:`predict` returns them.
        probabilities : ndarray of shape (n, n_classes), float64
            As :meth:`predict_proba` returns them.

        Raises
        ------
        HeadError
            ``X`` has another shape, or contains NaN or infinity.
        """
        labels, probabilities = [self.classes[:0]], [np.empty((0, len(self.classes)))]
        for block, n_views in self._blocks(X):
            if n_views > 1 or self.form is None:
                probabilities.append(self._mean_probabilities(block, n_views))
                # An estimator's predictions may differ from its most probable classes.
                best = self.classes[probabilities[-1].argmax(axis=1)]
                labels.append(best if n_views > 1 else self._predicted(block))
                continue
            scores = self._scores(block)
            labels.append(self.classes[scores.argmax(axis=1)])
            probabilities.append(self._softmax(scores))
        return np.concatenate(labels), np.concatenate(probabilities)

    def scores(self, X: Any) -> NDArray[np.float64]:
        """Return the score of each class, the largest being that of the prediction.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            The classifier's decisions, or the logarithms of its probabilities; with several views, the
            logarithms of the mean probabilities times ``temperature``. The softmax of scores, divided by
            ``temperature`` if there is one, is :meth:`predict_proba`.

        Raises
        ------
        HeadError
            ``X`` has another shape, or contains NaN or infinity.
        """
        parts = [self._mean_scores(block, n_views) for block, n_views in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def answer(self, X: Any, *, reject: float | None = None) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Predict labels, rejecting images whose prediction is not probable enough.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
        reject : float, optional
            Minimum probability of a prediction, in [0, 1); 0 never rejects. Default: the head's own.

        Returns
        -------
        labels : ndarray of shape (n,), str
            ``""`` for rejected images ("unknown").
        probabilities : ndarray of shape (n,), float64
            Probability of the most probable class, rejected or not.

        Raises
        ------
        HeadError
            ``reject`` is out of range, or ``X`` is invalid.
        """
        below = self.rejects_below if reject is None else checked_reject(reject)
        labels, probabilities = self.top(X, 1)
        return np.where(probabilities < below, "", labels)[:, 0], probabilities[:, 0]

    def prediction_sets(
        self, X: Any, *, coverage: float, by_class: bool = False
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Predict the smallest sets of labels that hold the right one with a given probability.

        Sets are conformal: valid for images drawn as the held-out ones were, however good the head is.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
        coverage : float
            Probability, in (0, 1), that a set holds the right label.
        by_class : bool
            Whether that holds for the images of each class, rather than over all images.

        Returns
        -------
        chosen : ndarray of shape (n, n_classes), bool
            Which classes are in the set of each image: at least the most probable one.
        probabilities : ndarray of shape (n, n_classes), float64

        Raises
        ------
        HeadError
            Too few images were held out for this coverage, it is out of range, or ``X`` is invalid.

        Examples
        --------
        >>> import featstore
        >>> head = featstore.fit(table, head="ridge", folds=3)
        >>> chosen, _ = head.prediction_sets(table.X, coverage=0.9)
        >>> chosen.shape, bool(chosen.any(axis=1).all())
        ((90, 3), True)
        """
        thresholds = self.set_thresholds(coverage=coverage, by_class=by_class)
        probabilities = self.predict_proba(X)
        return in_sets(probabilities, thresholds), probabilities

    def set_thresholds(self, *, coverage: float, by_class: bool = False) -> NDArray[np.float64]:
        """Return the probability from which on each class is in a set, as :meth:`prediction_sets` has it."""
        return set_thresholds(
            self.held_out,
            self.classes.tolist(),
            coverage=coverage,
            by_class=by_class,
            name=f"the head {self.name}",
        )

    @property
    def rejects_below(self) -> float:
        """Probability below which the head answers "unknown"; 0 if it always answers."""
        return 0.0 if self.reject is None else float(self.reject["below"])

    def top(self, X: Any, k: int = 5) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Predict the most probable labels of each image, best first.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
        k : int
            Number of labels, at least 1; capped at the number of classes.

        Returns
        -------
        labels : ndarray of shape (n, k), str
        probabilities : ndarray of shape (n, k), float64

        Raises
        ------
        HeadError
            ``k`` is below 1, or ``X`` is invalid.
        """
        if k < 1:
            raise HeadError(f"k must be at least 1; found {k}")
        probabilities = self.predict_proba(X)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return self.classes[best], np.take_along_axis(probabilities, best, axis=1)

    def _blocks(self, X: Any) -> Iterator[tuple[NDArray[Any], int]]:
        """Yield validated, read-only blocks of rows, and the number of consecutive rows of one image."""
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
            # A step with copy=False would standardise the caller's features in place.
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
        return np.asarray(self._computed(lambda: self.estimator.predict(block)), dtype=np.str_)

    def _mean_scores(self, block: NDArray[Any], n_views: int) -> NDArray[np.float64]:
        if n_views == 1:
            return self._scores(block)
        means = np.maximum(self._mean_probabilities(block, n_views), 1e-300)
        return np.asarray(np.log(means) * (self.temperature or 1.0), np.float64)

    def _mean_probabilities(self, block: NDArray[Any], n_views: int) -> NDArray[np.float64]:
        return mean_over_views(self._probabilities(block), n_views)

    def _scores(self, block: NDArray[Any]) -> NDArray[np.float64]:
        if self.form is not None:
            scores = self._computed(lambda: self.form.scores(block))  # type: ignore[union-attr]
        elif self._has_probabilities:
            scores = self._computed(lambda: log_probabilities(self.estimator, block))
        else:
            scores = self._computed(lambda: class_scores(self.estimator, block))
        return finite_numbers(scores, self.name, len(self.classes))

    def _probabilities(self, block: NDArray[Any]) -> NDArray[np.float64]:
        if self._has_probabilities:
            own = self._computed(lambda: np.asarray(self.estimator.predict_proba(block), np.float64))
            return finite_numbers(own, self.name, len(self.classes))
        return self._softmax(self._scores(block))

    def _softmax(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        own = self._computed(lambda: softmax(scores / (self.temperature or 1.0)))
        return finite_numbers(own, self.name, len(self.classes))

    @property
    def _has_probabilities(self) -> bool:
        """Whether the estimator's own probabilities are the head's."""
        return self.form is None and self.temperature is None and hasattr(self.estimator, "predict_proba")

    def _computed(self, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        try:
            # Overflow is detected afterwards, with a clear message.
            with np.errstate(all="ignore"):
                return compute()
        except (FeatstoreError, MemoryError):
            raise
        except Exception as error:  # an estimator may raise anything
            raise HeadError(
                f"the head {self.name} cannot predict from these features: {first_line(error)}; its file is "
                "damaged, or it was fitted on other features: fit it again"
            ) from error
