"""Trials of backbones on a sample of one's own images, whose weights are at hand."""

import hashlib
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from featstore.backbones import Backbone, known_backbones, load_backbone
from featstore.backbones.caches.speeds import remember_speed
from featstore.errors import BackboneError, FeatstoreError, SourceError, first_line
from featstore.extraction import extract
from featstore.images import decode_image, open_source
from featstore.images.reading import read_image
from featstore.scoring import cross_evaluate
from featstore.scoring.backbone_trials import BackboneTrial, BackboneTrials
from featstore.store import FeatureStore

__all__ = ["backbones_at_hand", "suggest_backbones"]

_FOLDS = 4
_PASSES = 3
_LEAST_IMAGES = 16


def suggest_backbones(
    source: Any,
    backbones: Sequence[str] | None = None,
    *,
    n_images: int = 64,
    head: str = "logistic",
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
    **options: Any,
) -> BackboneTrials:
    """Time backbones on a sample of a source's images, and evaluate a head on each in folds.

    Nothing is stored. The sample is the same every time: of each class in turn the image whose path has the
    smallest hash.

    Parameters
    ----------
    source : path, iterable of path, or table
        As for :func:`featstore.extract`, with labels.
    backbones : sequence of str, optional
        Names of backbones or files, as for :func:`featstore.load_backbone`; ``"NAME=FILE"`` gives a weights
        file. By default :func:`backbones_at_hand`.
    n_images : int
        Size of the sample, at least 16. Of 64 the accuracy has an interval of some 20 points.
    head : str
        Kind of head, as for :func:`featstore.cross_evaluate`.
    seed : int
        Of the head.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of backbones.
    **options
        Of all backbones, as for :func:`featstore.load_backbone`: ``precision``, ``threads``, ``preprocess`` …

    Returns
    -------
    BackboneTrials

    Raises
    ------
    SourceError
        The source has fewer than two classes of four images.
    BackboneError
        None of the backbones could be tried.

    Examples
    --------
    >>> import tempfile
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=100)
    ...     found = suggest_backbones(f"{folder}/digits", ["scattering"], n_images=40)
    >>> found.n_images, found.n_classes, found.trials[0].feature_dim
    (40, 10, 1932)
    """
    sample = _sample(source, n_images)
    names = backbones_at_hand() if backbones is None else tuple(dict.fromkeys(backbones))
    trials, failures, device = [], {}, ""
    for number, name in enumerate(names):
        try:
            backbone = _loaded(name, options)
            trials.append(_trial(name, backbone, sample, head=head, seed=seed))
            device = backbone.provenance.get("device", "")
        except FeatstoreError as error:
            failures[name] = first_line(error)
        if progress is not None:
            progress(number + 1, len(names))
    if not trials:
        raise BackboneError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))
    return BackboneTrials(
        trials=tuple(sorted(trials, key=lambda trial: trial.ms_per_image)),
        failures=failures,
        n_images=len(sample["path"]),
        n_classes=len({*sample["label"]}),
        folds=_FOLDS,
        head=head,
        device=device,
    )


def backbones_at_hand() -> tuple[str, ...]:
    """Return the named backbones that need no download: ``scattering``, and what Keras has fetched before.

    Examples
    --------
    >>> "scattering" in backbones_at_hand()
    True
    """
    folder = os.path.join(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "models")
    names = [_bare(name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    bare = {_bare(info.name): info.name for info in known_backbones()}
    # resnet50v2_weights… is resnet50_v2's and not resnet50's.
    fetched = {
        max((known for known in bare if known in name), key=len, default="")
        for name in names
        if "notop" in name
    }
    return ("scattering", *sorted(bare[known] for known in fetched if known))


def _bare(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _loaded(name: str, options: Mapping[str, Any]) -> Backbone:
    known, _, weights = name.partition("=")
    if known in {info.name for info in known_backbones()}:
        # How pixels are scaled is known of them.
        scaling = ("preprocess", "preprocessing", "mean", "std", "scale")
        own = {option: value for option, value in options.items() if option not in scaling}
        return load_backbone(known, weights=weights or None, **own)
    return load_backbone(name, **options)


class _Table(dict[str, list[str]]):
    """Paths and labels, as :func:`featstore.extract` takes tables."""

    @property
    def columns(self) -> list[str]:
        return [*self]


def _sample(source: Any, n_images: int) -> _Table:
    if n_images < _LEAST_IMAGES:
        raise SourceError(f"a sample has at least {_LEAST_IMAGES} images; found {n_images}")
    opened = open_source(source)
    by_class: dict[str, list[str]] = defaultdict(list)
    for record in opened.records:
        if record.label:
            by_class[record.label].append(record.path)
    ordered = [(label, sorted(paths, key=_hash)) for label, paths in sorted(by_class.items())]
    # Classes of which no fold could have an image are of no use here.
    ordered = [(label, paths) for label, paths in ordered if len(paths) >= _FOLDS]
    if len(ordered) < 2:
        n_bare = opened.label_counts().get(None, 0)
        raise SourceError(
            f"backbones are compared on labelled images of two or more classes with {_FOLDS} images each; "
            f"found {len(ordered)} such classes among {len(opened.records):,} images, of which "
            f"{n_bare:,} have no label: give a folder with a folder for each class, or a list with columns "
            "path and label"
        )
    ordered = ordered[: max(2, n_images // _FOLDS)]
    chosen = [
        (paths[turn], label)
        for turn in range(max(len(paths) for _, paths in ordered))
        for label, paths in ordered
        if turn < len(paths)
    ][:n_images]
    places = [path if "://" in path else os.path.join(opened.root, path) for path, _ in chosen]
    return _Table(path=places, label=[label for _, label in chosen])


def _hash(path: str) -> bytes:
    return hashlib.sha256(os.fsencode(path)).digest()


def _trial(name: str, backbone: Backbone, sample: _Table, *, head: str, seed: int) -> BackboneTrial:
    with tempfile.TemporaryDirectory(prefix="featstore-") as folder:
        report = extract(sample, os.path.join(folder, "trial.fstore"), backbone=backbone, catalog="sample")
        table = FeatureStore(report.store).table()
        found = cross_evaluate(table, head=head, folds=_FOLDS, seed=seed)
        unreadable = {path for path, _ in report.failures}
        pixels = np.stack(
            [
                decode_image(read_image(path), **backbone.spec.picture)
                for path in sample["path"]
                if path not in unreadable
            ]
        )
    # The network is compiled by now.
    seconds = []
    for _ in range(_PASSES):
        started = time.perf_counter()
        backbone.forward(pixels)
        seconds.append(time.perf_counter() - started)
    ms_per_image = 1000 * min(seconds) / len(pixels)
    remember_speed(backbone.spec, ms_per_image)
    return BackboneTrial(
        backbone=name,
        space=backbone.spec.name,
        feature_dim=backbone.feature_dim,
        ms_per_image=ms_per_image,
        top1=found.top1,
        top1_ci=found.top1_ci,
        cross_entropy=found.log_loss,
    )
