"""Softmax regression and one hidden layer by minibatches, for more features than memory holds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.solvers.descent import shuffled_blocks

__all__ = ["Minibatch", "Trained", "train"]

_Weights = list[NDArray[np.float32]]

_RATES = {"adam": 0.001, "sgd": 0.01}

# By default a hundred batches a pass, within sizes that waste neither steps nor matrix products.
_BATCHES = 100
_BATCH_ROWS = (64, 1024)

_EPOCHS = 30
_LEAST_STEPS = 1000
_LEAST_INTERVAL = 20

# Share of the cross entropy that a further evaluation must take away to count as better.
_LEAST_GAIN = 0.001

# Kingma & Ba, ICLR 2015, algorithm 1.
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8

# Adam makes several passes over numbers that should stay in the cache: 256 KB of them at a time.
_CHUNK = 2**16

_RANGES: dict[str, tuple[float, float, type]] = {
    "alpha": (0, math.inf, float),
    "learning_rate": (1e-12, math.inf, float),
    "momentum": (0, 1, float),
    "batch_size": (1, 2**20, int),
    "epochs": (1, 2**20, int),
    "steps": (1, 2**40, int),
    "eval_steps": (1, 2**40, int),
    "patience": (1, 2**20, int),
    "hidden_units": (1, 2**16, int),
}
_OPTIONAL = ("learning_rate", "batch_size", "epochs", "steps", "eval_steps", "patience", "hidden_units")


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """How weights are trained; None stands for the default, of ``patience`` for no early stopping."""

    alpha: float = 0.0  # of alpha / 2 * |coefficients|^2, added to the mean cross entropy
    optimizer: str = "adam"
    learning_rate: float | None = None
    momentum: float = 0.9
    batch_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    eval_steps: int | None = None
    patience: int | None = 5
    hidden_units: int | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in _RATES:
            raise HeadError(f"optimizer must be one of {', '.join(_RATES)}; found {self.optimizer!r}")
        for name, (least, most, kind) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            is_number = isinstance(value, int | kind) and not isinstance(value, bool)
            if not is_number or not least <= value or not (value < most or (kind is int and value == most)):
                whole = f"an integer of at least {least:g}" if kind is int else "a number"
                if kind is float:
                    whole += " above 0" if least else " of at least 0" if most > 1 else " in [0, 1)"
                raise HeadError(f"{name} must be {whole}; found {value!r}")
        if self.epochs is not None and self.steps is not None:
            raise HeadError("epochs and steps both limit the training; set one of them")

    @property
    def rate(self) -> float:
        """The learning rate, or the optimizer's default."""
        return _RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    def batch_rows(self, n_rows: int) -> int:
        """Return the number of rows of a batch."""
        rows = int(np.clip(n_rows // _BATCHES, *_BATCH_ROWS)) if self.batch_size is None else self.batch_size
        return min(rows, n_rows)

    def most_steps(self, n_rows: int) -> int:
        """Return the number of steps without early stopping."""
        if self.steps is not None:
            return self.steps
        a_pass = n_rows / self.batch_rows(n_rows)
        if self.epochs is not None:
            return math.ceil(self.epochs * a_pass)
        return max(_LEAST_STEPS, math.ceil(_EPOCHS * a_pass))

    def interval(self, n_rows: int) -> int:
        """Return the number of steps from one evaluation to the next: by default a pass, at least 20."""
        if self.eval_steps is not None:
            return self.eval_steps
        return max(_LEAST_INTERVAL, math.ceil(n_rows / self.batch_rows(n_rows)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """Weights that training came to, of scaled features."""

    form: LinearForm | NetworkForm
    step: int  # after which they were taken
    passes: float | None  # over the rows until then; None unless an evaluation decided it
    batch_rows: int


def train(
    X: Rows,
    codes: NDArray[np.intp],
    n_classes: int,
    weights: NDArray[np.float64],
    options: Minibatch,
    *,
    prepare: Callable[[NDArray[Any]], NDArray[Any]],
    seed: int,
    passes: float | None = None,
    watch: Callable[[LinearForm | NetworkForm, int], float] | None = None,
) -> Trained:
    """Minimise the mean cross entropy, with coefficients decayed, by steps over batches of rows."""
    # `watch` returns the cross entropy on held-out images after an evaluation: the best weights are kept, and
    # after `patience` evaluations that bring nothing training ends. `passes` sets the length of training
    # instead. Rows flow in one stream over all passes, so that every batch is full. Biases are not decayed.
    generator = np.random.default_rng(seed)
    n_rows, batch = len(X), options.batch_rows(len(X))
    network = _Network(X.feature_dim, n_classes, options, generator)
    single = weights.astype(np.float32)
    last = options.most_steps(n_rows) if passes is None else max(1, round(passes * n_rows / batch))
    interval, step = options.interval(n_rows), 0
    best, kept, kept_at, n_worse = math.inf, network.form(), 0, 0
    for rows, at in _batches(X, batch, generator, prepare):
        with np.errstate(all="ignore"):
            network.step(rows, codes[at], single[at])
        step += 1
        if watch is not None and (step % interval == 0 or step == last):
            form = network.form()
            loss = watch(form, step)
            if loss < best * (1 - _LEAST_GAIN) or not kept_at:
                best, kept, kept_at, n_worse = loss, form, step, 0
            else:
                n_worse += 1
        if step == last or n_worse == options.patience:
            break
    if watch is None or options.patience is None:
        return Trained(form=network.form(), step=step, passes=None, batch_rows=batch)
    return Trained(form=kept, step=kept_at, passes=kept_at * batch / n_rows, batch_rows=batch)


def _batches(
    X: Rows,
    batch: int,
    generator: np.random.Generator,
    prepare: Callable[[NDArray[Any]], NDArray[Any]],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]:
    """Yield batches and the numbers of their rows, without end."""
    left = np.empty((0, X.feature_dim), np.float32), np.empty(0, np.intp)
    while True:
        for at in shuffled_blocks(X, generator):
            order = generator.permutation(len(at))
            block = np.asarray(prepare(X.take(at)), np.float32)[order]
            own = at[order]
            if len(left[0]):
                block, own = np.concatenate([left[0], block]), np.concatenate([left[1], own])
            whole = len(block) - len(block) % batch
            for start in range(0, whole, batch):
                yield block[start : start + batch], own[start : start + batch]
            left = block[whole:], own[whole:]


class _Network:
    """One or two layers of weights in single precision, and the optimizer's memory of them."""

    def __init__(self, dim: int, n_classes: int, options: Minibatch, generator: np.random.Generator) -> None:
        hidden = options.hidden_units
        widths = [dim, n_classes] if hidden is None else [dim, hidden, n_classes]
        self._options = options
        self._kernels: _Weights = [np.zeros(shape, np.float32) for shape in pairwise(widths)]
        self._biases: _Weights = [np.zeros(width, np.float32) for width in widths[1:]]
        if hidden is not None:
            # He et al., ICCV 2015, equation 10. The last layer starts at 0: every class is as likely.
            drawn = generator.normal(scale=math.sqrt(2 / dim), size=(dim, hidden))
            self._kernels[0] = drawn.astype(np.float32)
        self._all = [*self._kernels, *self._biases]
        self._gradients = [np.empty_like(one) for one in self._all]
        self._first = [np.zeros_like(one) for one in self._all]
        self._second = [np.zeros_like(one) for one in self._all if options.optimizer == "adam"]
        self._n_steps = 0

    def form(self) -> LinearForm | NetworkForm:
        """Return a copy of the weights; raise HeadError if they have overflowed."""
        if not all(np.isfinite(one).all() for one in self._all):
            raise HeadError(
                f"training with learning_rate={self._options.rate:g} has not converged: weights overflow; "
                "use a smaller one"
            )
        kernels = [kernel.T.astype(np.float64) for kernel in self._kernels]
        biases = [bias.astype(np.float64) for bias in self._biases]
        if len(kernels) == 1:
            return LinearForm(coef=np.ascontiguousarray(kernels[0]), intercept=biases[0])
        return NetworkForm(
            mean=np.zeros(len(self._kernels[0])),
            hidden_coef=np.ascontiguousarray(kernels[0]),
            hidden_intercept=biases[0],
            coef=np.ascontiguousarray(kernels[1]),
            intercept=biases[1],
        )

    def step(self, rows: NDArray[np.float32], codes: NDArray[np.intp], weights: NDArray[np.float32]) -> None:
        """Learn from one batch."""
        n_layers = len(self._kernels)
        inputs = [rows]
        for kernel, bias in zip(self._kernels[:-1], self._biases[:-1], strict=True):
            hidden = inputs[-1] @ kernel + bias
            inputs.append(np.maximum(hidden, 0, out=hidden))
        errors = inputs[-1] @ self._kernels[-1]
        errors += self._biases[-1]
        errors -= errors.max(axis=1, keepdims=True)
        np.exp(errors, out=errors)
        errors /= errors.sum(axis=1, keepdims=True)
        errors[np.arange(len(rows)), codes] -= 1
        # So that an image of weight 2 counts as if it were there twice.
        errors *= (weights / len(rows))[:, np.newaxis]
        for layer in reversed(range(n_layers)):
            np.matmul(inputs[layer].T, errors, out=self._gradients[layer])
            errors.sum(axis=0, out=self._gradients[n_layers + layer])
            if layer:
                errors = errors @ self._kernels[layer].T
                errors *= inputs[layer] > 0
        self._n_steps += 1
        for number, (own, gradient) in enumerate(zip(self._all, self._gradients, strict=True)):
            self._update(number, own.reshape(-1), gradient.reshape(-1), decays=number < n_layers)

    def _update(
        self, number: int, weights: NDArray[np.float32], gradient: NDArray[np.float32], *, decays: bool
    ) -> None:
        first, options = self._first[number].reshape(-1), self._options
        scratch = np.empty(min(_CHUNK, len(weights)), np.float32)
        for start in range(0, len(weights), _CHUNK):
            at = slice(start, start + _CHUNK)
            some, slope, mean = weights[at], gradient[at], first[at]
            free = scratch[: len(some)]
            if decays and options.alpha:
                np.multiply(some, options.alpha, out=free)
                slope += free
            if options.optimizer == "sgd":
                # As in Keras and scikit-learn, without Nesterov's look ahead.
                mean *= options.momentum
                np.multiply(slope, options.rate, out=free)
                mean -= free
                some += mean
                continue
            square = self._second[number].reshape(-1)[at]
            np.subtract(slope, mean, out=free)
            free *= 1 - _BETAS[0]
            mean += free
            np.multiply(slope, slope, out=slope)
            slope -= square
            slope *= 1 - _BETAS[1]
            square += slope
            np.sqrt(square, out=slope)
            correction = math.sqrt(1 - _BETAS[1] ** self._n_steps)
            slope += _EPSILON * correction
            np.divide(mean, slope, out=free)
            free *= options.rate * correction / (1 - _BETAS[0] ** self._n_steps)
            some -= free
