"""The choice of images to label next: those that a classifier is unsure of, or a diverse set."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SearchError
from featstore.heads import fit
from featstore.heads.recipe import build_recipe
from featstore.labelling.directions import direction_blocks, rows_at_once
from featstore.labelling.label_doubts import label_doubts, n_learnable
from featstore.notebook_table import html_table
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store import FeatureTable

__all__ = ["NextImage", "NextImages", "next_to_label"]

_WAYS = ("margin", "entropy", "diverse")
# All labelled images are fitted on: nothing is scored here.
_ALL = SplitRule(test=0, validation=0)

Progress = Callable[[int, int], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class NextImage:
    """An image to label.

    Parameters
    ----------
    row : int
        Row in the table; of copies, the first.
    path : str
        Absolute path.
    score : float or None
        What it was chosen by: the margin, the entropy in nats, or the squared distance, which the first of a
        diverse choice without labels lacks.
    suggested : str
        The most probable label; of images with several, all that a head would give, as the catalog has them.
        Empty for a diverse choice.
    probability : float or None
        Of that label, or of the doubtful one, in [0, 1].
    doubtful : str
        Of images with several labels: the label whose probability is nearest to its threshold.
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.

    Examples
    --------
    >>> import featstore
    >>> image = featstore.NextImage(row=0, path="a.jpg", score=0.1, suggested="rose", content_hash="00")
    >>> image.suggested, image.probability
    ('rose', None)
    """

    row: int
    path: str
    score: float | None
    suggested: str = ""
    probability: float | None = None
    doubtful: str = ""
    content_hash: str


@dataclass(frozen=True, kw_only=True)
class NextImages:
    """Result of :func:`next_to_label`.

    Parameters
    ----------
    by : {"margin", "entropy", "diverse"}
    head : str
        The classifier's kind; empty for a diverse choice.
    n_labelled : int
        Number of labelled images, copies once.
    n_unlabelled : int
        Number of images to choose from, copies once.
    images : tuple of NextImage
        In the order in which to label them.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.next_to_label(table, 5)
    >>> found.by, found.n_labelled, found.n_unlabelled, found.images
    ('margin', 89, 0, ())
    """

    by: str
    head: str
    n_labelled: int
    n_unlabelled: int
    images: tuple[NextImage, ...]

    def _repr_html_(self) -> str:
        return html_table(
            f"{len(self.images):,} of {self.n_unlabelled:,} unlabelled images, by {self.by}",
            ("score", "suggested", "image"),
            [(image.score, image.suggested, image.path) for image in self.images],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return {**asdict(self), "images": [asdict(image) for image in self.images]}


def next_to_label(
    table: "FeatureTable",
    n: int,
    *,
    by: str | None = None,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> NextImages:
    """Choose which unlabelled images to label next.

    - ``"margin"``: those whose two most probable classes are closest in probability, by a classifier fitted
      on the labelled images (Scheffer, Decomain & Wrobel, IDA 2001).
      Of images with several labels: those of which one label is closest to the probability from which on it
      is given, in log odds (BinMin: Brinker, On active learning in multi-label classification, 2006).
    - ``"entropy"``: those whose probabilities have the largest entropy, summed over several labels.
    - ``"diverse"``: unlike each other and what is labelled, by the greedy seeding of k-means++ (Arthur &
      Vassilvitskii, SODA 2007): some are drawn with a probability proportional to their squared distance from
      the nearest labelled or chosen one, on features scaled to length 1, and the one is taken to which most
      others are near. It needs no labels.

    Copies of labelled images are not chosen, and of other copies one. The chosen images are no random sample:
    score a head on others.

    Parameters
    ----------
    table : FeatureTable
        One row for each image, not with views.
    n : int
        How many, at least 1; all if there are fewer.
    by : {"margin", "entropy", "diverse"}, optional
        By default the margin, or diverse where fewer than two classes are labelled.
    head, params
        As for :func:`featstore.fit`; parameters that are not given have the middle value of the grid.
    seed : int
        Of the diverse choice and the classifier.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of images of a diverse choice.

    Returns
    -------
    NextImages
        Of no images where all have labels.

    Raises
    ------
    SearchError
        ``n`` is below 1, ``by`` is unknown, the table has views, or fewer than two classes (of several
        labels, too few images) are labelled for a choice by margin or entropy.
    HeadError
        The head cannot be fitted.

    Examples
    --------
    >>> import featstore
    >>> featstore.next_to_label(table, 3).n_unlabelled
    0
    """
    if n < 1:
        raise SearchError(f"the number of images must be at least 1; found {n}")
    if by is not None and by not in _WAYS:
        raise SearchError(f"by must be one of {', '.join(_WAYS)}; found {by!r}")
    if table.views.any():
        raise SearchError("the table has a row for each view; give the table of the images themselves")
    labelled, rows = _divided(table)
    n_classes = n_learnable(table) if table.label_separator else len(np.unique(table.y[labelled]))
    by = by or ("margin" if n_classes > 1 else "diverse")
    if by != "diverse" and n_classes < 2:
        raise SearchError(
            f"the catalog {table.catalog_name} has labelled images of {n_classes} classes, and a choice by "
            f"{by} needs two; begin with --by diverse (by='diverse')"
        )
    name, chosen = "", _NOTHING
    if by == "diverse":
        chosen = _diverse(table, labelled, rows, min(n, len(rows)), seed, progress)
    elif len(rows):
        name, chosen = _by_head(table, labelled, rows, n, by, head=head, params=params, seed=seed)
    paths, hashes = table.paths, table.content_hash
    return NextImages(
        by=by,
        head=name,
        n_labelled=len(np.unique(hashes[labelled])),
        n_unlabelled=len(rows),
        images=tuple(
            NextImage(row=row, path=str(paths[row]), content_hash=str(hashes[row]), **values)
            for row, values in chosen
        ),
    )


_NOTHING: list[tuple[int, dict[str, Any]]] = []


def _by_head(
    table: "FeatureTable",
    labelled: NDArray[np.intp],
    rows: NDArray[np.intp],
    n: int,
    by: str,
    *,
    head: Any,
    params: Mapping[str, Any] | None,
    seed: int,
) -> tuple[str, list[tuple[int, dict[str, Any]]]]:
    """Return the name of a head, and the rows that it is least sure of, fitted on the labelled ones."""
    if table.label_separator:
        doubts = label_doubts(table, rows, by, head=head, params=params, seed=seed)
        return doubts.head, [
            (int(rows[at]), doubts.values(at)) for at in _order(table, rows, doubts.scores, by)[:n]
        ]
    recipe = build_recipe(head, params=params, seed=seed)
    fixed = {**recipe.middle().settings[0], **(params or {})}
    labelled_table = table.select(labelled)
    fitted = fit(
        labelled_table.with_splits(["train"] * len(labelled)),
        head=head,
        params=fixed or None,
        rule=_ALL,
        seed=seed,
    )
    return recipe.name, _unsure(table, rows, fitted, n, by)


def _order(table: "FeatureTable", rows: NDArray[np.intp], scores: NDArray[np.float64], by: str) -> Any:
    """Return the places of rows, the least sure first, ties by content."""
    hashes = np.ascontiguousarray(table.content_hash_bytes[rows]).view("V32").ravel()
    return np.lexsort((hashes.argsort().argsort(), scores if by == "margin" else -scores))


def _divided(table: "FeatureTable") -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the labelled rows, and one row of each content that has no label."""
    keys = np.ascontiguousarray(table.content_hash_bytes).view("V32").ravel()
    _, first, content = np.unique(keys, return_index=True, return_inverse=True)
    is_labelled = table.is_labelled if table.label_separator else table.y != ""
    is_known = np.zeros(len(first), np.bool_)
    is_known[content[is_labelled]] = True
    return np.flatnonzero(is_labelled), np.sort(first[~is_known])


def _unsure(
    table: "FeatureTable", rows: NDArray[np.intp], fitted: Any, n: int, by: str
) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of which a head is least sure, with their scores and suggested labels."""
    scores, best, guess = np.empty(len(rows)), np.empty(len(rows)), np.empty(len(rows), np.intp)
    step = rows_at_once(table.feature_dim)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        p = fitted.predict_proba(table.select(rows[part]).X)
        guess[part], best[part] = p.argmax(axis=1), p.max(axis=1)
        if by == "margin":
            scores[part] = best[part] - np.partition(p, -2, axis=1)[:, -2]
        else:
            scores[part] = -(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=1)
    return [
        (
            int(rows[at]),
            {
                "score": float(scores[at]),
                "suggested": str(fitted.classes[guess[at]]),
                "probability": float(best[at]),
            },
        )
        for at in _order(table, rows, scores, by)[:n]
    ]


def _diverse(
    table: "FeatureTable",
    labelled: NDArray[np.intp],
    rows: NDArray[np.intp],
    n: int,
    seed: int,
    progress: Progress | None,
) -> list[tuple[int, dict[str, Any]]]:
    """Draw rows by their squared distance from the nearest known one, each the best of some trials."""
    random = np.random.default_rng(seed)
    # By content, so that the choice depends on no order of rows.
    rows = rows[np.lexsort(table.content_hash_bytes[rows].T[::-1])]
    squares = np.full(len(rows), np.inf)
    for known, _ in direction_blocks(table, labelled):
        np.minimum(squares, _squares(table, rows, known).min(axis=1), out=squares)
    n_trials = 2 + int(np.log(max(1, n)))
    chosen: list[tuple[int, dict[str, Any]]] = []
    while len(chosen) < n:
        is_first = np.isinf(squares).all()
        left = np.ones(len(rows)) if is_first else squares.copy()
        left[[at for at, _ in chosen]] = 0
        # What is left may be like what is chosen, to the last bit.
        if not left.any():
            left[:] = 1
            left[[at for at, _ in chosen]] = 0
        trials = random.choice(len(rows), size=n_trials, p=left / left.sum())
        points, _ = next(direction_blocks(table, rows[trials]))
        nearer = np.minimum(squares[:, None], _squares(table, rows, points))
        best = int(nearer.sum(axis=0).argmin())
        at = int(trials[best])
        chosen.append((at, {"score": None if is_first else float(squares[at])}))
        squares = nearer[:, best]
        if progress is not None:
            progress(len(chosen), n)
    return [(int(rows[at]), values) for at, values in chosen]


def _squares(
    table: "FeatureTable", rows: NDArray[np.intp], points: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the squared distances of rows from points, of shape (n_rows, n_points)."""
    squares = np.empty((len(rows), len(points)))
    for block, part in direction_blocks(table, rows):
        squares[part] = np.maximum(2 - 2 * (block @ points.T), 0)
    return squares
