"""What is predicted for one image."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Prediction"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Prediction of a head or an exported model for one image.

    Attributes
    ----------
    path : str or None
        The file, as it was given; None for an image that was given as bytes, picture or pixels.
    label : str or None
        The most probable class; None where the image could not be decoded, and for "unknown", where the class
        is less probable than the threshold of the head, or ``reject``.
    probability : float or None
        The most probable class's probability, in [0, 1], whether it is the label or not; None where the image
        could not be decoded.
    top : tuple of (str, float)
        The most probable classes with their probabilities, best first.
    set : tuple of (str, float) or None
        Where a coverage was asked for, the classes of the prediction set with their probabilities, best
        first; None otherwise, and where the image could not be decoded.
    labels : tuple of (str, float) or None
        Of a head that gives several labels: those that are given, with their probabilities, best first; maybe
        none. ``label`` and ``probability`` are then None.
    value : float or None
        Of a head that predicts a number: the number. There is no label then.
    interval : tuple of float or None
        Where a coverage was asked for, both ends of the prediction interval around ``value``.
    reason : str or None
        Why the image could not be decoded.
    is_reused : bool
        Whether all of its features came from the store.
    time_s : float or None
        Of a video's frame, the seconds since its first one.

    Examples
    --------
    >>> Prediction(path="new.jpg", label="roses", probability=0.9, top=(("roses", 0.9),)).to_dict()
    {'path': 'new.jpg', 'label': 'roses', 'probability': 0.9, 'top': [{'label': 'roses', 'probability': 0.9}]}
    """

    path: str | None
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    set: tuple[tuple[str, float], ...] | None = None
    labels: tuple[tuple[str, float], ...] | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    is_reused: bool = False
    time_s: float | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether the image was readable but no class is probable enough for an answer."""
        told = (self.label, self.labels, self.value, self.reason)
        return all(one is None for one in told)

    @property
    def is_unknown(self) -> bool:
        """Older name of :attr:`is_rejected`."""
        return self.is_rejected

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON values.

        The keys are path, label, probability and top; ``set``, only where a coverage was asked for;
        ``labels``, only of a head that gives several; ``value`` and, where a coverage was asked for,
        ``interval``, only of one that predicts a number; ``rejected``, true, only where no class is probable
        enough; ``reason``, only where there is one; ``time_s``, only of a video's frame.
        """
        data: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": _listed(self.top),
        }
        if self.set is not None:
            data["set"] = _listed(self.set)
        if self.labels is not None:
            data["labels"] = _listed(self.labels)
        if self.value is not None:
            data["value"] = self.value
        if self.interval is not None:
            data["interval"] = list(self.interval)
        if self.time_s is not None:
            data["time_s"] = self.time_s
        if self.is_rejected:
            data["rejected"] = True
        return data if self.reason is None else {**data, "reason": self.reason}


def _listed(ranked: tuple[tuple[str, float], ...]) -> list[dict[str, Any]]:
    return [{"label": label, "probability": probability} for label, probability in ranked]
