"""Weights files: which layers one holds, and whether they are those of the network that it is meant for."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featstore.errors import BackboneError, WeightsError

__all__ = [
    "LayerShapes",
    "SavedLayer",
    "check_keras_archive",
    "check_layers",
    "check_variables",
    "read_layers",
    "read_variables",
    "weights_kind",
]

_ENDINGS = "a .h5 file of Keras' ImageNet weights, a .weights.h5 file or a .keras file"


@dataclass(frozen=True, kw_only=True)
class LayerShapes:
    """One layer with weights, as the network has it: its name and its variables' shapes."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SavedLayer:
    """One layer with weights, as a file has it: its name and its variables' values."""

    name: str
    values: tuple[NDArray[Any], ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The variables' shapes."""
        return tuple(tuple(value.shape) for value in self.values)


def weights_kind(path: str) -> str:
    """Tell how a weights file is laid out, by its contents.

    Parameters
    ----------
    path : str

    Returns
    -------
    {"layers", "variables", "model"}
        ``"layers"``: Keras' older HDF5 layout, one group per layer in order, of the ImageNet files;
        ``"variables"``: the layout of ``.weights.h5``; ``"model"``: a whole model in a ``.keras`` archive.

    Raises
    ------
    WeightsError
        The file is missing, unreadable or none of these.
    """
    if not os.path.exists(path):
        raise WeightsError(f"there is no weights file at {path}; expected {_ENDINGS}")
    if not os.path.isfile(path):
        raise WeightsError(f"{path} is not a regular file; expected {_ENDINGS}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if "config.json" in archive.namelist():
                    return "model"
            raise WeightsError(f"{path} is an archive but no Keras model; expected {_ENDINGS}")
        with h5py.File(path, "r") as file:
            if "layer_names" in _legacy_group(file).attrs:
                return "layers"
            if "layers" in file:
                return "variables"
    except OSError as error:
        raise WeightsError(f"{path} is no weights file, or is cut short: expected {_ENDINGS}") from error
    raise WeightsError(f"{path} is an HDF5 file without a network's weights; expected {_ENDINGS}")


def read_layers(path: str) -> list[SavedLayer]:
    """Read the layers of a file in Keras' older HDF5 layout, those without weights left out.

    Raises
    ------
    WeightsError
        The file is damaged.
    """
    layers = []
    try:
        with h5py.File(path, "r") as file:
            group = _legacy_group(file)
            for name in _names(group, "layer_names"):
                saved = group[name]
                values = tuple(np.asarray(saved[weight]) for weight in _names(saved, "weight_names"))
                if values:
                    layers.append(SavedLayer(name=name, values=values))
    except (OSError, KeyError, TypeError) as error:
        raise WeightsError(f"the weights in {path} are damaged: {error}") from error
    return layers


def read_variables(path: str) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Read what a ``.weights.h5`` file says of the network's layers.

    Returns
    -------
    shapes : dict
        Each variable's path in the file and its shape. The optimizer's are left out, and the seeds of layers
        that draw random numbers.
    layers : set of str
        All layers, those without variables too, where the version of Keras that wrote the file named them.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    layers: set[str] = set()

    def visit(name: str, found: Any) -> None:
        if not name.startswith("layers/") or "seed_generator" in name:
            return
        layers.add(name.split("/")[1])
        if isinstance(found, h5py.Dataset):
            shapes[name] = tuple(found.shape)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"the weights in {path} are damaged: {error}") from error
    return shapes, layers


def check_layers(
    path: str,
    network: str,
    expected: Sequence[LayerShapes],
    found: Sequence[LayerShapes | SavedLayer],
    top_layers: int,
) -> None:
    """Refuse a file whose layers are not the network's, one after another, with or without the classifier.

    Parameters
    ----------
    path : str
        For the message.
    network : str
        Likewise: the network's name.
    expected : sequence of LayerShapes
        The network's layers with weights, without the classifier.
    found : sequence of LayerShapes or SavedLayer
        The file's.
    top_layers : int
        Layers of a classifier; the file has these in addition, or has none.

    Raises
    ------
    WeightsError
        They differ; the message names the first that does.
    """
    name = os.path.basename(path)
    counts = f"the file has {len(found)} layers with weights, {network} has {len(expected)}"
    for number, (want, have) in enumerate(zip(expected, found, strict=False), start=1):
        if want.shapes != have.shapes:
            raise WeightsError(
                f"{name} does not hold the weights of {network}: layer {number} is {have.name} with shapes "
                f"{_shapes(have.shapes)}, expected {want.name} with {_shapes(want.shapes)}; {counts}"
            )
    if len(found) - len(expected) not in (0, top_layers):
        plus = f" or {len(expected) + top_layers} with its classifier" if top_layers else ""
        raise WeightsError(f"{name} does not hold the weights of {network}: {counts}{plus}")


def check_variables(path: str, network: str, expected_path: str, top_layers: int) -> None:
    """Refuse a ``.weights.h5`` file that is not the network's, with or without the classifier.

    Parameters
    ----------
    path, network, top_layers
        As for :func:`check_layers`.
    expected_path : str
        A ``.weights.h5`` file of the network itself, with any values.

    Raises
    ------
    WeightsError
        They differ; the message names a variable that does.
    """
    expected, expected_layers = read_variables(expected_path)
    found, found_layers = read_variables(path)
    name = os.path.basename(path)
    for variable, shape in expected.items():
        if found.get(variable) != shape:
            has = f"with shape {_shapes([found[variable]])}" if variable in found else "missing"
            raise WeightsError(
                f"{name} does not hold the weights of {network}: {variable} is {has}, expected "
                f"{_shapes([shape])}; the file has {len(found)} variables, {network} has {len(expected)}"
            )
    weighted = {variable.split("/")[1] for variable in expected}
    weightless = {one for one in expected_layers - weighted if not one.startswith("global_")}
    if (missing := sorted(weightless - found_layers)) and weightless & found_layers:
        raise WeightsError(f"{name} does not hold the weights of {network}: it has no layer {missing[0]}")
    more = {variable.split("/")[1] for variable in found.keys() - expected.keys()}
    if len(more) not in (0, top_layers):
        raise WeightsError(
            f"{name} does not hold the weights of {network}: it has {len(more)} further layers with weights "
            f"({', '.join(sorted(more)[:3])} …)"
        )


def check_keras_archive(path: str) -> None:
    """Refuse a ``.keras`` file that is none, or that holds Python code to be run when it is opened.

    Raises
    ------
    BackboneError
        The message says which.
    """
    if not os.path.isfile(path):
        raise BackboneError(f"there is no model file at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BackboneError(
            f"{path} is not a .keras file: expected an archive as model.save('name.keras') writes it"
        ) from error
    if _holds_lambda(config):
        raise BackboneError(
            f"{path} has a Lambda layer, which is Python code that would run when the file is opened; "
            "save the model with keras.ops or Rescaling in its place"
        )


def _legacy_group(file: Any) -> Any:
    return file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file


def _names(group: Any, attribute: str) -> list[str]:
    # HDF5 limits the size of an attribute, so Keras cuts long lists into numbered ones.
    if attribute in group.attrs:
        chunks = [group.attrs[attribute]]
    else:
        chunks = []
        while f"{attribute}{len(chunks)}" in group.attrs:
            chunks.append(group.attrs[f"{attribute}{len(chunks)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for chunk in chunks for name in chunk]


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _holds_lambda(config: Any) -> bool:
    if isinstance(config, dict):
        lambdas = config.get("class_name") in ("Lambda", "__lambda__")
        return lambdas or any(_holds_lambda(value) for value in config.values())
    return isinstance(config, list) and any(_holds_lambda(value) for value in config)
