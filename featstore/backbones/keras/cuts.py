"""The places where a network can be cut in two: outputs that all paths go through."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.backbones.keras.quiet import quiet_import

with quiet_import():
    import keras

__all__ = ["NetworkCut", "find_cuts"]

# What writing and reading a number of an output costs, in multiplications: a processor multiplies that many
# while it fetches one from memory.
_ELEMENT_COST = 150


@dataclass(frozen=True, kw_only=True)
class NetworkCut:
    """A layer whose output is all that the layers above it need."""

    layer: str
    shape: tuple[int, ...]  # of its output for one image
    share: float  # of the network's cost that is above: multiplications, and 150 for each output
    parameters: int  # trainable ones above

    @property
    def size(self) -> int:
        """Numbers in the output for one image."""
        return int(np.prod(self.shape))


def find_cuts(network: Any, names: Mapping[str, str]) -> list[NetworkCut]:
    """Return where a functional network can be cut, from its input to its output."""
    # A layer is on all paths if no other tensor from before it is used after it, in any topological order.
    calls = list(_in_order(network))
    stable = {own: name for name, own in names.items()}
    made = {id(tensor): at for at, (_, node) in enumerate(calls) for tensor in node.output_tensors}
    reach = [0] * len(calls)
    for at, (_, node) in enumerate(calls):
        for tensor in node.input_tensors:
            reach[made[id(tensor)]] = max(reach[made[id(tensor)]], at)
    costs = [_cost(operation, node.output_tensors) for operation, node in calls]
    total = sum(costs)
    last = {id(operation): at for at, (operation, _) in enumerate(calls)}
    first = {id(operation): at for at, (operation, _) in reversed([*enumerate(calls)])}
    cuts = []
    furthest = 0
    shared_until = -1
    for at, (operation, node) in enumerate(calls):
        if getattr(operation, "weights", None):
            # Training a layer above a cut must not change what is below it.
            shared_until = max(shared_until, last[id(operation)])
        is_called_once = first[id(operation)] == last[id(operation)]
        if furthest <= at and shared_until <= at and is_called_once and operation.name in stable:
            shape = tuple(node.output_tensors[0].shape[1:])
            above = {id(layer): layer for layer, _ in calls[at + 1 :] if isinstance(layer, keras.Layer)}
            parameters = sum(_n_trainable(layer) for layer in above.values())
            is_input = isinstance(operation, keras.layers.InputLayer)
            if len(node.output_tensors) == 1 and None not in shape and parameters and not is_input:
                share = sum(costs[at + 1 :]) / total
                cuts.append(
                    NetworkCut(layer=stable[operation.name], shape=shape, share=share, parameters=parameters)
                )
        furthest = max(furthest, reach[at])
    return cuts


def _in_order(network: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each operation of a network with the node of its call, inputs first."""
    seen: set[int] = set()
    waiting = [(tensor._keras_history, False) for tensor in network.outputs]
    while waiting:
        history, is_ready = waiting.pop()
        operation, index, _ = history
        node = operation._inbound_nodes[index]
        if is_ready:
            yield operation, node
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((history, True))
            waiting += [(tensor._keras_history, False) for tensor in node.input_tensors]


def _cost(operation: Any, outputs: list[Any]) -> float:
    if getattr(operation, "layers", None) and getattr(operation, "outputs", None):
        return sum(_cost(inner, node.output_tensors) for inner, node in _in_order(operation))
    elements = sum(_size(tensor.shape[1:]) for tensor in outputs)
    places = sum(_size(tensor.shape[1:-1]) for tensor in outputs)
    kernels = [weight for weight in getattr(operation, "weights", ()) if len(weight.shape) >= 2]
    return places * sum(_size(weight.shape) for weight in kernels) + _ELEMENT_COST * elements


def _size(shape: tuple[int | None, ...]) -> float:
    return float(np.prod([side or 1 for side in shape]))


def _n_trainable(layer: Any) -> int:
    # Also of layers that are frozen now, which training thaws; the statistics of normalisations are none.
    if getattr(layer, "layers", None):
        return sum(map(_n_trainable, layer.layers))
    frozen = layer.trainable
    layer.trainable = True
    count = sum(int(_size(weight.shape)) for weight in layer.trainable_weights)
    layer.trainable = frozen
    return count
