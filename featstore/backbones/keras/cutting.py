"""Cutting of a network at one of its layers, including those of nested networks."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import BackboneError

with quiet_import():
    import keras

__all__ = ["cut_at", "layer_paths", "no_such_layer", "output_at", "own_names", "stable_names"]


def cut_at(network: Any, names: Mapping[str, str], layer: str, of: str) -> Any:
    """Return the part of a network that ends at a layer."""
    return keras.Model(network.inputs[0], output_at(network, names, layer, of))


def own_names(network: Any) -> dict[str, str]:
    """Map the names of a network's layers to themselves."""
    return {layer.name: layer.name for layer in network.layers}


def stable_names(network: Any) -> dict[str, str]:
    """Map process-independent names to the layers' own names."""
    # Keras numbers unnamed layers through the whole process: the first network's ``conv2d`` is the
    # second's ``conv2d_94``. Here each network counts from its own first.
    numbered: dict[str, list[tuple[int, str]]] = {}
    stable = {}
    for layer in network.layers:
        kind = _snake_case(type(layer).__name__)
        if found := re.fullmatch(re.escape(kind) + r"(?:_(\d+))?", layer.name):
            numbered.setdefault(kind, []).append((int(found[1] or 0), layer.name))
        else:
            stable[layer.name] = layer.name
    for kind, found_names in numbered.items():
        for number, (_, name) in enumerate(sorted(found_names)):
            stable[f"{kind}_{number}" if number else kind] = name
    return stable


def layer_paths(network: Any, names: Mapping[str, str]) -> Iterator[str]:
    """Return all names where a network can be cut; those of nested networks as ``nested/layer``."""
    for name, own_name in names.items():
        yield name
        inner = network.get_layer(own_name)
        if _has_graph(inner):
            yield from (f"{name}/{path}" for path in layer_paths(inner, own_names(inner)))


def output_at(network: Any, names: Mapping[str, str], layer: str, of: str) -> Any:
    """Return the output of a layer in a network's graph."""
    first, _, inside = (layer, "", "") if layer in names else layer.partition("/")
    if first not in names:
        raise no_such_layer(network, names, layer, of)
    found = network.get_layer(names[first])
    calls = [node for operation, node in _calls(network) if operation is found]
    if len(calls) != 1:
        where = "used in more than one place" if calls else "not on the way to its output"
        raise BackboneError(f"{of} cannot be cut at {first!r}: it is {where}")
    (call,) = calls
    if not inside:
        if len(call.output_tensors) != 1:
            raise BackboneError(f"{of} cannot be cut at {layer!r}: it has more than one output")
        return call.output_tensors[0]
    if not _has_graph(found):
        raise BackboneError(
            f"{of} cannot be cut at {layer!r}: {first!r} is a {type(found).__name__}, not a network whose "
            f"layers have names; cut at --layer {first}"
        )
    inner = output_at(found, own_names(found), inside, f"{first!r} of {of}")
    # Under the nested network's own name, so that the same cut is described in the same words every time.
    cut = keras.Model(_only(found.inputs), inner, name=found.name)
    training = call.arguments.kwargs.get("training")
    return cut(_only(call.input_tensors), **({} if training is None else {"training": training}))


def no_such_layer(network: Any, names: Mapping[str, str], layer: str, of: str) -> BackboneError:
    """Return the error for a name that is none of a network's layers, with those that are like it."""
    paths = list(layer_paths(network, names))
    last = layer.rpartition("/")[2]
    if inner := [path for path in paths if path.endswith(f"/{last}")]:
        return BackboneError(
            f"{of} has no layer {layer!r}, but a network nested in it has: use --layer "
            f"{' or --layer '.join(inner[:4])}"
        )
    near = difflib.get_close_matches(layer, paths, n=4, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"its last are {', '.join(list(names)[-4:])}"
    return BackboneError(f"{of} has no layer {layer!r}; {hint}")


def _calls(network: Any) -> Iterator[tuple[Any, Any]]:
    """Walk from a network's outputs to its inputs; yield each operation with the node of its call."""
    waiting = [tensor._keras_history for tensor in network.outputs]
    seen = set()
    while waiting:
        operation, index, _ = waiting.pop()
        if (id(operation), index) in seen:
            continue
        seen.add((id(operation), index))
        node = operation._inbound_nodes[index]
        yield operation, node
        waiting += [tensor._keras_history for tensor in node.input_tensors]


def _has_graph(layer: Any) -> bool:
    inputs, outputs = (getattr(layer, side, None) for side in ("inputs", "outputs"))
    return isinstance(layer, keras.Model) and bool(inputs) and bool(outputs)


def _only(tensors: Any) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)


def _snake_case(name: str) -> str:
    # The rule of keras.src.utils.naming.to_snake_case, by which layers get their names.
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
