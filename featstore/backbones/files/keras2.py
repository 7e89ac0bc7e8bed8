"""Models saved by Keras 2: conversion of their configurations to Keras 3, without importing Keras."""

import json
import os
from collections.abc import Callable
from typing import Any

from featstore.errors import BackboneError
from featstore.io.hdf5.raw import cannot_read

__all__ = [
    "HDF5_ENDINGS",
    "describe_checkpoint",
    "describe_folder",
    "is_keras2",
    "model_configuration",
    "modern",
]

HDF5_ENDINGS = (".h5", ".hdf5")
"""Of files that ``model.save`` wrote before there was ``.keras``, and still writes."""

# Where the classes of networks are; all other layers are in keras.layers.
_NETWORKS = {
    "Functional": "keras.src.models.functional",
    "Model": "keras.src.models.functional",
    "Sequential": "keras",
}

# Arithmetic with a number, which Keras 2 kept as functions of TensorFlow: scale and offset of the same.
_ARITHMETIC: dict[str, Callable[[float], tuple[float, float]]] = {
    "math.truediv": lambda number: (1 / number, 0.0),
    "math.divide": lambda number: (1 / number, 0.0),
    "math.multiply": lambda number: (number, 0.0),
    "math.subtract": lambda number: (1.0, -number),
    "math.add": lambda number: (1.0, number),
    "__operators__.add": lambda number: (1.0, number),
}


def model_configuration(path: str) -> dict[str, Any]:
    """Return the layer configuration of a model in an HDF5 file."""
    # Only here: most runs open no such file, and h5py takes a while to import.
    from featstore.io.hdf5.plain import open_plain

    try:
        with open_plain(path) as file:
            text = file.attrs.get("model_config")
    except (OSError, KeyError, ValueError) as error:
        raise BackboneError(
            cannot_read(path, error) or f"{path} is no model in HDF5, or is damaged: {error}"
        ) from error
    if text is None:
        raise BackboneError(
            f"{path} holds weights without the model that they belong to: give the network's name with "
            "--backbone and this file with --weights, or save the whole model with model.save('name.keras')"
        )
    try:
        configuration = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise BackboneError(f"the model's configuration in {path} is damaged: {error}") from error
    if not isinstance(configuration.get("config"), dict):
        raise BackboneError(f"the model's configuration in {path} is damaged: it names no layers")
    return configuration


def is_keras2(configuration: Any, metadata: Any) -> bool:
    """Return whether a ``.keras`` archive was written by Keras 2."""
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return str(version).startswith("2.") or "tf_keras." in json.dumps(configuration)


def modern(configuration: Any, *, is_layer: bool = True) -> Any:
    """Return a model's configuration as Keras 3 would have written it."""
    if isinstance(configuration, list):
        return [modern(entry, is_layer=is_layer) for entry in configuration]
    if not isinstance(configuration, dict):
        return configuration
    if "class_name" not in configuration or not isinstance(configuration.get("config"), dict):
        return {key: modern(value, is_layer=False) for key, value in configuration.items()}
    found = {key: modern(value, is_layer=False) for key, value in configuration.items() if key != "config"}
    found["config"] = {
        key: modern(value, is_layer=key in ("layers", "layer"))
        for key, value in configuration["config"].items()
    }
    return _layer(found) if is_layer else found


def describe_folder(path: str) -> str:
    """Describe a folder given in place of a model or weights, and what to do with it."""
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return (
            f"{path} is a SavedModel, TensorFlow's own format, whose layers Keras cannot take apart; load "
            "it in the program that made it, or with tf_keras.models.load_model (pip install tf_keras), and "
            "save it again with model.save('name.h5')"
        )
    if os.path.exists(os.path.join(path, "checkpoint")):
        return f"{path} is a folder of TensorFlow checkpoints; {_CHECKPOINT}"
    return f"{path} is a folder, not a regular file"


_CHECKPOINT = (
    "load them into the model with model.load_weights in the program that made them, and save them with "
    "model.save_weights('name.weights.h5') (Keras 2: model.save_weights('name.h5'))"
)


def describe_checkpoint(path: str) -> str:
    """Describe a path of a TensorFlow checkpoint, or return ``""``."""
    stem = path.removesuffix(".index")
    if os.path.isfile(f"{stem}.index") or ".data-0" in os.path.basename(path):
        return f"{path} is a TensorFlow checkpoint; {_CHECKPOINT}"
    return ""


def _layer(found: dict[str, Any]) -> dict[str, Any]:
    """Convert one layer's configuration to Keras 3."""
    kind, config = str(found["class_name"]), found["config"]
    module = found.get("module")
    if module is None or _is_older(module):
        # What was registered under a package's name is somebody's own, and stays without a module.
        found["module"] = None if ">" in kind else _NETWORKS.get(kind, "keras.layers")
        found["registered_name"] = found.get("registered_name") or kind
    if shape := config.pop("batch_input_shape", None):
        if kind == "InputLayer":
            config["batch_shape"] = shape
        else:
            found["batch_input_shape"] = shape
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config["axis"] = config["axis"][0]
    if kind == "DepthwiseConv2D":
        # Always 1, and no argument any more.
        config.pop("groups", None)
    if kind == "TFOpLambda":
        _as_rescaling(found)
    if kind == "Sequential":
        _with_input(config)
    for key in ("name", "inbound_nodes"):
        if key in found:
            found[key] = _without_slashes(found[key])
    for key in ("name", "input_layers", "output_layers"):
        if key in config:
            config[key] = _without_slashes(config[key])
    for ends in ("input_layers", "output_layers"):
        if (
            isinstance(config.get(ends), list)
            and len(config[ends]) == 1
            and isinstance(config[ends][0], list)
        ):
            # Keras 3 would take a list of one for a list of outputs.
            config[ends] = config[ends][0]
    return found


def _with_input(config: dict[str, Any]) -> None:
    """Add the input layer that a sequential model's first layer declares."""
    layers = config.get("layers") or [{}]
    if shape := layers[0].get("batch_input_shape"):
        inputs = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None}
        layers.insert(0, {**inputs, "config": {"batch_shape": shape, "name": "input"}})


def _without_slashes(names: Any) -> Any:
    # Keras 3 allows none in names, and calls its own DenseNet's conv1/bn conv1_bn.
    if isinstance(names, list):
        return [_without_slashes(entry) for entry in names]
    return names.replace("/", "_") if isinstance(names, str) else names


def _as_rescaling(found: dict[str, Any]) -> None:
    """Convert arithmetic with a constant to a Rescaling layer."""
    operation = found["config"].get("function")
    try:
        ((name, index, tensor, arguments),) = found["inbound_nodes"]
        numbers = [value for key, value in arguments.items() if key != "name" and value is not None]
        scale, offset = _ARITHMETIC[operation](float(numbers[0]))
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError, AttributeError):
        return
    if len(numbers) != 1:
        return
    found["class_name"] = "Rescaling"
    found["config"] = {
        "name": found["config"].get("name"),
        "dtype": "float32",
        "scale": scale,
        "offset": offset,
    }
    found["inbound_nodes"] = [[[name, index, tensor, {}]]]


def _is_older(module: object) -> bool:
    return isinstance(module, str) and module.startswith(("tf_keras", "keras.src.engine", "keras.engine"))
