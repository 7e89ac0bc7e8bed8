"""From images to labels: a head and the backbone that it was trained on."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone, backbone_from_spec
from featstore.errors import FingerprintMismatchError, ImageError
from featstore.heads import Head, checked_reject
from featstore.images.decode import decode_image
from featstore.images.reading import default_workers, map_ahead, read_image

__all__ = ["Prediction", "predict"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a head says about one image.

    Attributes
    ----------
    path : str
        The file, as it was given.
    label : str or None
        The most probable class; None where the image could not be decoded, and for "unknown", where the class
        is less probable than the head, or ``reject``, asks for.
    probability : float or None
        The most probable class's probability, in [0, 1], whether it is the label or not; None where the image
        could not be decoded.
    top : tuple of (str, float)
        The most probable classes with their probabilities, best first.
    reason : str or None
        Why the image could not be decoded.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    reason: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether the image was looked at and no class is probable enough."""
        return self.label is None and self.reason is None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``reason`` only where there is one."""
        told: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": [{"label": label, "probability": probability} for label, probability in self.top],
        }
        return told if self.reason is None else {**told, "reason": self.reason}


def predict(
    head: Head | str | os.PathLike[str],
    paths: Iterable[str | os.PathLike[str]],
    *,
    backbone: Backbone | None = None,
    weights: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    top: int = 1,
    reject: float | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Prediction]:
    """Label images.

    Parameters
    ----------
    head : Head or path
        A fitted head, or the file that one was saved in.
    paths : iterable of path
        Image files.
    backbone : Backbone, optional
        By default the one of the head's own specification is loaded.
    weights : path, optional
        The backbone's weights file, where it is not at the place that the head remembers.
    engine : {"auto", "openvino", "tensorflow"}
        What runs the backbone.
    top : int
        How many classes each prediction lists, at least 1.
    reject : float, optional
        In [0, 1): where the most probable class has less than this probability, the label is None. By default
        what the head was fitted with; 0 always answers.
    workers : int, optional
        Threads that read and decode; by default one for each core.
    progress : callable, optional
        Called with the number of images done.

    Yields
    ------
    Prediction
        One for each path, in their order. An image that cannot be decoded has ``label`` None and a reason;
        an unknown one has ``label`` None alone.

    Raises
    ------
    FingerprintMismatchError
        The backbone or the weights are not those that the head was trained on.
    HeadError
        The head file cannot be loaded, or ``reject`` is no probability.

    Examples
    --------
    >>> for prediction in featstore.predict("flowers.head", ["a.jpg"], top=3):  # doctest: +SKIP
    ...     print(prediction.path, prediction.label, prediction.probability)
    """
    if top < 1:
        raise ValueError(f"top is the number of classes to list, at least 1; found {top}")
    if not isinstance(head, Head):
        head = Head.load(os.fspath(head))
    below = head.rejects_below if reject is None else checked_reject(reject)
    if backbone is None:
        backbone = backbone_from_spec(head.spec, weights=weights or head.weights, engine=engine)
    elif backbone.spec.fingerprint != head.fingerprint:
        raise FingerprintMismatchError(
            f"the head was trained on features of {head.spec.name}, and the backbone is {backbone.spec.name}"
        )
    return _predictions(head, [os.fspath(path) for path in paths], backbone, top, below, workers, progress)


def _predictions(
    head: Head,
    paths: list[str],
    backbone: Backbone,
    top: int,
    below: float,
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> Iterator[Prediction]:
    spec, size = backbone.spec, backbone.batch_size
    done: list[list[tuple[str, str | None]]] = []

    def load(path: str) -> tuple[str, NDArray[np.uint8] | None, str | None]:
        try:
            return path, decode_image(read_image(path), size_px=spec.size_px, resize=spec.resize), None
        except ImageError as error:
            return path, None, str(error)

    def batches() -> Iterator[NDArray[np.uint8]]:
        told: list[tuple[str, str | None]] = []
        decoded: list[NDArray[np.uint8]] = []
        workers_ = workers or default_workers()
        for path, pixels, reason in map_ahead(load, paths, workers=workers_, ahead=2 * size + workers_):
            told.append((path, reason))
            if pixels is not None:
                decoded.append(pixels)
            if len(decoded) == size:
                done.append(told)
                yield np.stack(decoded)
                told, decoded = [], []
        done.append(told)
        if decoded:
            yield np.stack(decoded)

    n_done = 0
    for features in backbone.run(batches()):
        told = done.pop(0)
        yield from _label(head, told, features.astype(spec.dtype), top, below)
        n_done += len(told)
        if progress is not None:
            progress(n_done)
    for told in done:
        yield from _label(head, told, np.empty((0, backbone.feature_dim), np.float32), top, below)


def _label(
    head: Head, told: list[tuple[str, str | None]], features: NDArray[Any], top: int, below: float
) -> Iterator[Prediction]:
    probabilities = head.predict_proba(features) if len(features) else np.empty((0, len(head.classes)))
    rows = iter(probabilities)
    for path, reason in told:
        if reason is not None:
            yield Prediction(path=path, reason=reason)
            continue
        row = next(rows)
        best = np.argsort(-row, kind="stable")[:top]
        ranked = tuple((str(head.classes[number]), float(row[number])) for number in best)
        label, probability = ranked[0]
        yield Prediction(
            path=path, label=None if probability < below else label, probability=probability, top=ranked
        )
