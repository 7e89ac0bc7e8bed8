"""What each of several spaces brings to a head: forward selection in folds."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.calibration import fit_temperature, softmax
from featstore.heads.data.partition import without_small_classes
from featstore.heads.fit_warnings import each_warning_once
from featstore.notebook_table import html_table, percent
from featstore.scoring.comparison import compared_pair
from featstore.scoring.cross_folds import CrossFolds, FoldPrediction, FoldResults
from featstore.splits import SplitRule
from featstore.stats.intervals import scored
from featstore.stats.metrics import log_losses
from featstore.store.tables.joining import of_spaces

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["SpaceChoice", "choose_spaces"]

# Share of the cross entropy that a space must take away to be chosen, as a setting of a head must.
_LEAST_GAIN = 0.01

_Spaces = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SpaceChoice:
    """What each of several spaces brings.

    Parameters
    ----------
    spaces : list of str
        Names of the spaces to join, in the table's order.
    head : str
        Kind of head that was fitted.
    n, folds : int
        Numbers of images, all labelled ones that are not in test, and of folds.
    steps : list of dict
        ``{"space", "alone", "n", "top1", "top1_ci", "log_loss", "gain", "gain_ci", "p", "is_chosen"}`` of
        each space, in the order in which they were added: accuracy of the space alone; accuracy, its 95%
        interval and cross entropy (of probabilities calibrated in each fold) with all spaces before it; and
        what that gains over these, paired, with its interval and p-value (None for the first).
    nested : dict
        ``{"n", "top1", "top1_ci", "spaces"}``: accuracy of the choice itself, made for each fold by the
        results in the others (whose fits had that fold among their images), and how often each join, by names
        with ``+`` between them, was chosen so.
    unit : str
        What intervals and p-values take as independent: ``"image"``, or what images are grouped by.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, choose_spaces, extract
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=60)
    ...     store = f"{folder}/digits.fstore"
    ...     report = extract(f"{folder}/digits", store=store, backbone="scattering", image_size=[32, 48])
    ...     table = FeatureStore(store).table(space=report.space.split("+"))
    ...     choice = choose_spaces(table, head="ridge", folds=2)
    ...     len(choice.steps), choice.select(table).space_name == "+".join(choice.spaces)
    (2, True)
    """

    spaces: list[str]
    head: str
    n: int
    folds: int
    steps: list[dict[str, Any]]
    nested: dict[str, Any]
    unit: str

    def select(self, table: "FeatureTable") -> "FeatureTable":
        """Return a table's rows with the features of the chosen spaces alone.

        Parameters
        ----------
        table : FeatureTable
            The table that the choice was made on, or others of the same spaces.

        Returns
        -------
        FeatureTable
        """
        names = table.space_name.split("+")
        return of_spaces(table, [names.index(name) for name in self.spaces])

    def _repr_html_(self) -> str:
        rows = [
            (step["space"], percent(step["alone"]), percent(step["top1"]), f"{step['log_loss']:.3f}")
            for step in self.steps
        ]
        header = ("space", "alone", "with those above", "log loss")
        return html_table(f"{self.head}: {' + '.join(self.spaces)}", header, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON values."""
        return asdict(self)


def choose_spaces(
    table: "FeatureTable",
    *,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    folds: int = 5,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    min_images: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SpaceChoice:
    """Measure what each of several spaces brings, and choose which to join, by forward selection in folds.

    All labelled images that are not in test are divided into folds, as by :func:`featstore.cross_evaluate`;
    each is predicted by heads fitted on the others, with parameters chosen inside of them. The space with the
    least cross entropy comes first; then, again and again, the one that lowers it most. Chosen are those
    before the first that lowers it by less than 1%, or by less than the standard error of the difference. For
    this the probabilities are calibrated on the fold that they are of.

    Parameters
    ----------
    table : FeatureTable
        Of several spaces: ``store.table(space=[...])``.
    head : str, HeadInfo or scikit-learn classifier
        As for :func:`featstore.fit`.
    folds : int
        Number of folds, at least 2.
    params, rule, views, class_weight, min_images, seed, jobs
        As for :func:`featstore.fit`.
    progress : callable, optional
        Called as ``progress(done, total)`` after each fit.

    Returns
    -------
    SpaceChoice

    Raises
    ------
    HeadError
        The table has a single space; or as for :func:`featstore.cross_evaluate`.
    SplitError
        As for :func:`featstore.cross_evaluate`.

    Examples
    --------
    >>> import featstore
    >>> try:
    ...     featstore.choose_spaces(table)
    ... except featstore.FeatstoreError as error:
    ...     print(str(error)[:31])
    there is nothing to choose: the
    """
    names = table.space_name.split("+")
    if len(names) < 2:
        raise HeadError(
            f"there is nothing to choose: the table has the features of {names[0]} alone; name several spaces"
        )
    rule = SplitRule() if rule is None else rule
    labels = without_small_classes(np.asarray(table.y), min_images)
    is_outside = (labels != "") & (np.asarray(table.splits(rule)) != "test")
    divided = CrossFolds.of(table.select(np.flatnonzero(is_outside)), rule, folds=folds)
    fits = _Fits(
        divided,
        n_spaces=len(names),
        options={"head": head, "seed": seed, "jobs": jobs},
        fit_options={"params": params, "views": views, "class_weight": class_weight},
        progress=progress,
    )
    with each_warning_once():
        at = np.flatnonzero(divided.fold_of >= 0)
        order, n_chosen = fits.path(at, whole=True)
        nested = np.zeros(len(at), np.bool_)
        counts: dict[str, int] = {}
        for fold in range(folds):
            inside = divided.fold_of[at] != fold
            added, n_added = fits.path(at[inside])
            own = tuple(sorted(added[:n_added]))
            name = "+".join(names[number] for number in own)
            counts[name] = counts.get(name, 0) + 1
            nested[~inside] = fits.of(own).is_right[at][~inside]
    return SpaceChoice(
        spaces=[names[number] for number in sorted(order[:n_chosen])],
        head=fits.head_name,
        n=len(at),
        folds=folds,
        steps=_steps(fits, divided, order, n_chosen, names, at),
        nested={**scored(int(nested.sum()), len(at)), "spaces": counts},
        unit=divided.unit(at),
    )


class _Fits:
    """Results of joined spaces in all folds, each computed when first needed."""

    def __init__(
        self,
        divided: CrossFolds,
        *,
        n_spaces: int,
        options: Mapping[str, Any],
        fit_options: Mapping[str, Any],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.head_name = ""
        self._divided, self._n_spaces = divided, n_spaces
        self._options, self._fit_options = options, fit_options
        self._progress = progress
        self._known: dict[_Spaces, FoldResults] = {}
        self._losses: dict[_Spaces, NDArray[np.float64]] = {}

    def of(self, spaces: _Spaces) -> FoldResults:
        """Return the results of some spaces, by their rising numbers."""
        if spaces in self._known:
            return self._known[spaces]
        part = replace(self._divided, table=of_spaces(self._divided.table, spaces))
        results, losses = FoldResults(part), np.full(len(part.y), np.nan)
        for fold in range(part.folds):
            found = part.predict(fold, **self._options, options=self._fit_options)
            self.head_name = found.head.name
            results.add(found)
            losses[found.rows] = _calibrated_losses(part, found)
            if self._progress is not None:
                n_done = len(self._known) * part.folds + fold + 1
                # Folds that choose otherwise than all together may need further joins.
                n_joins = self._n_spaces * (self._n_spaces + 1) // 2
                self._progress(n_done, max(n_done, n_joins * part.folds))
        self._known[spaces] = results
        self._losses[spaces] = losses
        return results

    def losses(self, spaces: _Spaces) -> NDArray[np.float64]:
        """Return the cross entropy on each image, by probabilities that are calibrated fold by fold."""
        self.of(spaces)
        return self._losses[spaces]

    def path(self, rows: NDArray[np.intp], *, whole: bool = False) -> tuple[list[int], int]:
        """Add space after space by the cross entropy on some images; return them, and how many are chosen."""
        added: list[int] = []
        losses, n_chosen = np.full(len(rows), np.inf), 0
        while len(added) < self._n_spaces:
            left = [number for number in range(self._n_spaces) if number not in added]
            found = [self.losses(tuple(sorted([*added, number])))[rows] for number in left]
            best = int(np.argmin([one.mean() for one in found]))
            if n_chosen == len(added) and _is_gain(losses, found[best]):
                n_chosen += 1
            elif not whole:
                break
            added.append(left[best])
            losses = found[best]
        return added, n_chosen


def _calibrated_losses(divided: CrossFolds, found: FoldPrediction) -> NDArray[np.float64]:
    """Return the cross entropy on each image of a fold, calibrated on these same images."""
    # A head's own temperature is of a few validation images, whose chance would decide between spaces.
    scores = np.log(np.maximum(found.probabilities, 1e-300))
    temperature = fit_temperature(scores, divided.labels[found.rows], divided.classes)
    return log_losses(softmax(scores / temperature), divided.y[found.rows])


def _is_gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Return whether losses fall by 1%, and by more than a standard error of the difference."""
    if np.isinf(before).all():
        return True
    gains = before - after
    error = gains.std() / np.sqrt(len(gains))
    return bool(gains.mean() > max(_LEAST_GAIN * before.mean(), error))


def _steps(
    fits: _Fits,
    divided: CrossFolds,
    order: list[int],
    n_chosen: int,
    names: list[str],
    at: NDArray[np.intp],
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    before: NDArray[np.bool_] | None = None
    for number in range(len(order)):
        joined = tuple(sorted(order[: number + 1]))
        right = fits.of(joined).is_right[at]
        pair: dict[str, Any] = {}
        if before is not None:
            pair = compared_pair("", "", before, right, divided.units(at), divided.unit(at))
        steps.append(
            {
                "space": names[order[number]],
                "alone": float(fits.of((order[number],)).is_right[at].mean()),
                **scored(int(right.sum()), len(at)),
                "log_loss": float(fits.losses(joined)[at].mean()),
                "gain": pair.get("difference"),
                "gain_ci": pair.get("difference_ci"),
                "p": pair.get("p"),
                "is_chosen": number < n_chosen,
            }
        )
        before = right
    return steps
