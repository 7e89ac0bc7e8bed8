"""How a network is trained: optimizer, schedule, regularisation, as data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from featstore.errors import TuningError

__all__ = ["OPTIMIZERS", "RECIPES", "SCHEDULES", "TuningOptions"]

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("cosine", "exponential", "polynomial", "constant")

_RATES = {"sgd": 1e-2, "adam": 1e-4, "adamw": 1e-4, "rmsprop": 1e-3}

# Of numbers: the least value, whether it may be that itself, and the largest, which it stays below or may be.
_RANGES: Mapping[str, tuple[float, bool, float, bool]] = {
    "epochs": (1, True, 10_000, True),
    "batch_size": (1, True, 2**16, True),
    "learning_rate": (0, False, math.inf, False),
    "momentum": (0, True, 1, False),
    "decay": (0, False, 1, True),
    "decay_epochs": (0, False, math.inf, False),
    "warmup": (0, True, math.inf, False),
    "weight_decay": (0, True, math.inf, False),
    "label_smoothing": (0, True, 1, False),
    "dropout": (0, True, 1, False),
    "clip_norm": (0, False, math.inf, False),
    "ema": (0, False, 1, False),
    "head_rate": (0, True, math.inf, False),
    "layer_decay": (0, False, 1, True),
    "epsilon": (0, False, math.inf, False),
    "seed": (0, True, 2**32, False),
}
_INTEGERS = ("epochs", "batch_size", "seed")
_OPTIONAL = ("learning_rate", "clip_norm", "ema", "epsilon")


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """How :func:`featstore.finetune` trains.

    Parameters
    ----------
    epochs : int
        Number of passes over the training images.
    batch_size : int
        Images in a step.
    optimizer : {"sgd", "adam", "adamw", "rmsprop"}
    learning_rate : float, optional
        By default 0.01 for ``sgd``, 0.001 for ``rmsprop`` and 0.0001 for the others.
    momentum : float
        Of ``sgd`` and ``rmsprop``; the others have their own.
    epsilon : float, optional
        Of ``adam``, ``adamw`` and ``rmsprop``; by default Keras' 1e-7.
    schedule : {"cosine", "exponential", "polynomial", "constant"}
        How the learning rate falls, step by step: along half a cosine to 0; by the factor ``decay`` after
        every ``decay_epochs`` epochs (a staircase); along a straight line to 0; not at all.
    decay, decay_epochs : float
        Of the exponential schedule. By default 0.94 after every 2 epochs (Szegedy et al., CVPR 2016).
    warmup : float
        Epochs in which the learning rate rises along a straight line from 0.
    weight_decay : float
        Decoupled from the gradient: each step takes this times the learning rate off every kernel (Loshchilov
        & Hutter, ICLR 2019); biases and normalisations are spared.
    label_smoothing : float
        Share of each target that is spread over all classes.
    dropout : float
        Share of the features that is dropped before the head, in training.
    clip_norm : float, optional
        Largest norm of the gradient of all weights together; None does not clip.
    ema : float, optional
        Momentum of a moving average of the weights, which is what is validated and kept; None keeps the
        weights themselves.
    head_rate : float
        Factor of the learning rate of the head; 0 leaves it as it is.
    layer_decay : float
        Factor of the learning rate from each layer with weights to the one below it.
    seed : int
        Random seed of order, views and dropout.

    Raises
    ------
    TuningError
        A value is out of its range.

    Examples
    --------
    >>> TuningOptions(epochs=5, optimizer="adamw").rate
    0.0001
    """

    epochs: int = 3
    batch_size: int = 32
    optimizer: str = "sgd"
    learning_rate: float | None = None
    momentum: float = 0.9
    epsilon: float | None = None
    schedule: str = "cosine"
    decay: float = 0.94
    decay_epochs: float = 2.0
    warmup: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.2
    clip_norm: float | None = 1.0
    ema: float | None = None
    head_rate: float = 1.0
    layer_decay: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise TuningError(
                    f"{name} must be one of {', '.join(allowed)}; found {getattr(self, name)!r}"
                )
        for name, (least, with_least, most, with_most) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            kind = int if name in _INTEGERS else int | float
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            above = is_number and (value > least or (with_least and value == least))
            if not above or not (value < most or (with_most and value == most)):
                whole = "an integer" if name in _INTEGERS else "a number"
                start = f"{'of at least' if with_least else 'above'} {least:g}"
                end = "" if most == math.inf else f" and {'at most' if with_most else 'below'} {most:g}"
                raise TuningError(f"{name} must be {whole} {start}{end}; found {value!r}")
        if self.warmup > self.epochs:
            raise TuningError(
                f"the warm-up of {self.warmup:g} epochs is longer than the {self.epochs} epochs"
            )

    @property
    def rate(self) -> float:
        """The learning rate, or the optimizer's default."""
        return _RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    def rate_at(self, epochs: float) -> float:
        """Return the learning rate after a number of epochs, which may be a fraction."""
        t = epochs / self.epochs
        factor = {
            "cosine": (1 + math.cos(math.pi * t)) / 2,
            "exponential": self.decay ** math.floor(epochs / self.decay_epochs),
            "polynomial": 1 - t,
            "constant": 1.0,
        }[self.schedule]
        if epochs < self.warmup:
            factor *= epochs / self.warmup
        return self.rate * factor

    def to_dict(self) -> dict[str, Any]:
        """Return all values, with the learning rate that is used."""
        return asdict(replace(self, learning_rate=self.rate))


RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # inception_train.py of TensorFlow's models, as its README fine-tunes on the flowers; 2,000 steps of
        # 32 on their 3,320 training images are 19 epochs. Its distortions of colour are not among the views.
        "inception": MappingProxyType(
            {
                "epochs": 19,
                "batch_size": 32,
                "optimizer": "rmsprop",
                "learning_rate": 1e-3,
                "momentum": 0.9,
                "epsilon": 1.0,
                "schedule": "exponential",
                "decay": 0.16,
                "decay_epochs": 30.0,
                "ema": 0.9999,
                "weight_decay": 4e-5,
                "label_smoothing": 0.1,
                "dropout": 0.2,
                "clip_norm": None,
            }
        ),
        # D. Korobchenko's fine-tuning of VGG19 on Food-101, with random crops 10 pixels short of 224.
        "food101": MappingProxyType(
            {
                "epochs": 20,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": 1e-3,
                "momentum": 0.9,
                "schedule": "polynomial",
                "dropout": 0.5,
                "clip_norm": None,
            }
        ),
    }
)
"""Values of :class:`TuningOptions` from two published trainings."""
