"""A part of a network with a linear head, as a Keras model that is trained step by step."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.models import advice_held, keras_settings
from featstore.backbones.keras.quiet import quiet_import

if TYPE_CHECKING:
    from featstore.heads.forms.linear import LinearForm
    from featstore.tuning.mirroring import Mirrored
    from featstore.tuning.options import TuningOptions

with quiet_import():
    import keras

__all__ = ["EVALUATION_BATCH", "Trainer"]

EVALUATION_BATCH = 64

Arrays = list[NDArray[Any]]


class _Frozen(keras.layers.Layer):  # type: ignore[misc]
    """A model called as in prediction: statistics stay as they are, and nothing is dropped inside.

    A functional model overrides ``training=False`` that was given while it was called symbolically (Keras
    issue 20285), so that batch normalisation would train.
    """

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def call(self, inputs: Any) -> Any:
        return self.part(inputs, training=False)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.part.compute_output_shape(shape)


class Trainer:
    """Trains a part of a network and a linear head, whose scores are divided by ``temperature`` at first."""

    def __init__(
        self,
        part: Any,
        form: "LinearForm",
        *,
        temperature: float,
        options: "TuningOptions",
        mirrored: "Mirrored | None" = None,
    ) -> None:
        self._form = form
        self._options = options
        self._mirrored = mirrored
        with keras_settings():
            inputs = keras.Input(part.input_shape[1:], dtype=part.inputs[0].dtype)
            features = _Frozen(part)(inputs)
            # Outside of the devices' scope: it runs on one.
            self._features = keras.Model(inputs, features)
            with mirrored.strategy.scope() if mirrored else contextlib.nullcontext():
                # What is dropped is an input: it is the same however many devices share a batch.
                kept = keras.Input(features.shape[1:])
                outputs = keras.layers.Multiply()([features, kept])
                if form.mean is not None and form.scale is not None:
                    scale, offset = 1 / form.scale, -form.mean / form.scale
                    outputs = keras.layers.Rescaling(scale.tolist(), offset.tolist())(outputs)
                    outputs = keras.layers.UnitNormalization()(outputs)
                self._head = keras.layers.Dense(form.n_classes)
                self._model = keras.Model([inputs, kept], self._head(outputs))
                kernel, bias = form.coef.T / temperature, form.intercept / temperature
                self._head.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
                self._head.trainable = options.head_rate > 0
                self._variables = self._model.trainable_variables
                rates = _rates(part, self._head, options)
                self._optimizer = _optimizer(options, self._variables, rates, mirrored)
                self._optimizer.build(self._variables)
                loss = keras.losses.CategoricalCrossentropy(
                    from_logits=True, label_smoothing=options.label_smoothing
                )
                self._model.compile(self._optimizer, loss, jit_compile=False)
        self._averages = [] if options.ema is None else [v.numpy().copy() for v in self._variables]
        self._targets = np.eye(form.n_classes, dtype=np.float32)

    @property
    def n_devices(self) -> int:
        """Number of devices that share a batch."""
        return self._mirrored.n_devices if self._mirrored else 1

    def begin_epoch(self, epoch: int) -> None:
        """Set what is random in an epoch, which depends on the seed and the epoch alone."""
        self._random = np.random.default_rng([self._options.seed, epoch, 1])

    def step(
        self, inputs: NDArray[Any], y: NDArray[np.intp], weights: NDArray[np.float32], rate: float
    ) -> float:
        """Train on one batch; return its mean loss."""
        self._optimizer.learning_rate = rate
        dropout = self._options.dropout
        kept = (self._random.random((len(inputs), self._form.feature_dim)) >= dropout) / np.float32(
            1 - dropout
        )
        batch = inputs, kept.astype(np.float32), self._targets[y], weights
        with advice_held:
            if self._mirrored is None:
                loss = self._model.train_on_batch(batch[:2], batch[2], sample_weight=batch[3])
            else:
                # Keras' train_on_batch would give each device the whole batch.
                parts = self._mirrored.divided(batch)
                self._model.reset_metrics()
                self._model.make_train_function()
                loss = self._model.train_function(iter([(parts[:2], parts[2], parts[3])]))["loss"]
        if self._options.ema is not None:
            # Early averages are over the steps so far: num_updates of TensorFlow's ExponentialMovingAverage.
            n_steps = int(self._optimizer.iterations.numpy())
            momentum = np.float32(min(self._options.ema, (1 + n_steps) / (10 + n_steps)))
            for average, variable in zip(self._averages, self._variables, strict=True):
                average += (1 - momentum) * (variable.numpy() - average)
        return float(np.asarray(loss))

    def is_finite(self) -> bool:
        """Return whether all trained weights are finite numbers."""
        # A ReLU on TensorFlow's processor kernels hides NaN from the loss.
        return all(np.isfinite(value).all() for value in self.trained())

    def features(self, batches: Iterator[NDArray[Any]], dim: int) -> NDArray[np.float32]:
        """Return the features of inputs, by the weights as they are now."""
        rows = [np.empty((0, dim), np.float32)]
        for batch in batches:
            n_images = len(batch)
            # One shape is compiled.
            lacking = EVALUATION_BATCH - n_images
            if lacking > 0:
                batch = np.concatenate([batch, np.zeros((lacking, *batch.shape[1:]), batch.dtype)])
            with advice_held:
                rows.append(np.asarray(self._features.predict_on_batch(batch), np.float32)[:n_images])
        return np.concatenate(rows)

    def form(self) -> "LinearForm":
        """Return the head as it is now."""
        kernel, bias = (np.asarray(value, np.float64) for value in self._head.get_weights())
        return replace(self._form, coef=np.ascontiguousarray(kernel.T), intercept=bias)

    def trained(self) -> Arrays:
        """Return copies of the trained weights."""
        return [np.array(variable.numpy()) for variable in self._variables]

    def averages(self) -> Arrays:
        """Return copies of their moving averages; the weights themselves where there are none."""
        return [value.copy() for value in self._averages] if self._averages else self.trained()

    def set_trained(self, values: Arrays) -> None:
        """Set the trained weights."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def state(self) -> Arrays:
        """Return all that training goes on from: weights, averages and the optimizer's variables."""
        optimizer = [np.array(variable.numpy()) for variable in self._optimizer.variables]
        return [*self.trained(), *(value.copy() for value in self._averages), *optimizer]

    def set_state(self, arrays: Arrays) -> None:
        """Set what :meth:`state` returned."""
        n_weights, n_averages = len(self._variables), len(self._averages)
        self.set_trained(arrays[:n_weights])
        self._averages = [value.copy() for value in arrays[n_weights : n_weights + n_averages]]
        for variable, value in zip(self._optimizer.variables, arrays[n_weights + n_averages :], strict=True):
            variable.assign(value)


def _rates(part: Any, head: Any, options: "TuningOptions") -> dict[int, float]:
    """Return the factor of the learning rate of each variable, by its identity."""
    rates = {id(variable): options.head_rate for variable in head.trainable_variables}
    factor = 1.0
    for layer in reversed([layer for layer in _leaves(part) if layer.trainable_variables]):
        rates |= {id(variable): factor for variable in layer.trainable_variables}
        factor *= options.layer_decay
    return rates


def _leaves(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _leaves(layer)
        else:
            yield layer


def _optimizer(
    options: "TuningOptions", variables: list[Any], rates: dict[int, float], mirrored: "Mirrored | None"
) -> Any:
    kinds = keras.optimizers
    kind: Any = {"sgd": kinds.SGD, "rmsprop": kinds.RMSprop}.get(options.optimizer, kinds.Adam)
    decay = options.weight_decay
    factors = [rates[id(variable)] for variable in variables]
    are_kernels = [len(variable.shape) > 1 for variable in variables]

    class Scaled(kind):  # type: ignore[misc]
        """An optimizer with a learning rate for each variable, and decoupled weight decay."""

        def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
            # Keras clips what each device has, and then adds it up: of the mean, by a share of the norm.
            return super().apply(mirrored.mean(grads) if mirrored else grads, trainable_variables)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            at = self._get_variable_index(variable)
            rate = keras.ops.cast(learning_rate, variable.dtype) * factors[at]
            if decay and are_kernels[at]:
                variable.assign(variable * (1 - decay * rate))
            super().update_step(gradient, variable, rate)

    settings: dict[str, Any] = {"learning_rate": options.rate}
    if options.clip_norm is not None:
        settings["global_clipnorm"] = options.clip_norm / (mirrored.n_devices if mirrored else 1)
    if options.optimizer in ("sgd", "rmsprop"):
        settings["momentum"] = options.momentum
    if options.optimizer != "sgd" and options.epsilon is not None:
        settings["epsilon"] = options.epsilon
    return Scaled(**settings)
