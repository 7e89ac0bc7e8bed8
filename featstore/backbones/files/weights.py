"""Weights files: their layouts, and checks that they belong to a network."""

import json
import math
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featstore.backbones.files.checkpoints import checkpoint_prefix
from featstore.backbones.files.foreign_classes import foreign_class
from featstore.backbones.files.keras2 import (
    HDF5_ENDINGS,
    describe_checkpoint,
    describe_folder,
    model_configuration,
    modern,
)
from featstore.backbones.files.paths import check_model_path
from featstore.errors import BackboneError, WeightsError
from featstore.io.archives.safe_zip import check_unpacking
from featstore.io.hdf5.plain import open_plain
from featstore.io.hdf5.raw import cannot_read, open_raw

__all__ = [
    "MOST_VARIABLES",
    "LayerShapes",
    "SavedLayer",
    "check_keras_archive",
    "check_layers",
    "check_model_file",
    "check_variables",
    "layer_sizes",
    "nested_network_error",
    "read_layers",
    "read_variables",
    "weights_kind",
]

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LARGEST_CONFIG = 2**26

# Most variables that a layer of Keras has; those of a network inside a model are saved as one layer's.
MOST_VARIABLES = 12

_ENDINGS = "a .h5 file of Keras' ImageNet weights, a .weights.h5 file or a .keras file"


@dataclass(frozen=True, kw_only=True)
class LayerShapes:
    """A network's layer with weights: its name and its variables' shapes."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SavedLayer:
    """A saved layer with weights: its name, and its variables' values and names."""

    name: str
    values: tuple[NDArray[Any], ...]
    variables: tuple[str, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The variables' shapes."""
        return tuple(tuple(value.shape) for value in self.values)


def weights_kind(path: str) -> str:
    """Return a file's layout: "layers" (old HDF5), "variables" (.weights.h5), "model", "checkpoint"."""
    if checkpoint_prefix(path):
        return "checkpoint"
    if checkpoint := describe_checkpoint(path):
        raise WeightsError(checkpoint)
    if os.path.isdir(path):
        raise WeightsError(f"{describe_folder(path)}; expected {_ENDINGS}")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise WeightsError(f"{path} is not a regular file; expected {_ENDINGS}")
        if _is_zip(path):
            with open_raw(path, follow_links=True) as raw, zipfile.ZipFile(raw) as archive:
                if "config.json" in archive.namelist():
                    return "model"
            raise WeightsError(f"{path} is an archive but no Keras model; expected {_ENDINGS}")
        with open_plain(path) as file:
            if {"layer_names", "layer_names0"} & set(_legacy_group(file).attrs):
                return "layers"
            if "layers" in file:
                return "variables"
            is_old = "_layer_checkpoint_dependencies" in file
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file at {path}; expected {_ENDINGS}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(
            cannot_read(path, error) or f"{path} is no weights file, or is cut short: expected {_ENDINGS}"
        ) from error
    except (KeyError, ValueError) as error:
        raise WeightsError(f"the weights in {path} cannot be used: {error}") from error
    if is_old:
        raise WeightsError(
            f"{path} is laid out as versions 2.12 to 2.14 of Keras do; load it there, and save it with "
            "model.save_weights('name.h5')"
        )
    raise WeightsError(f"{path} is an HDF5 file without a network's weights; expected {_ENDINGS}")


def read_layers(path: str) -> list[SavedLayer]:
    """Read the layers with weights of a file in Keras' older HDF5 layout."""
    layers = []
    try:
        with open_plain(path) as file:
            group = _legacy_group(file)
            for name in _names(group, "layer_names"):
                saved = group[name]
                variables = tuple(_names(saved, "weight_names"))
                values = tuple(_values(saved, variable) for variable in variables)
                if values:
                    layers.append(SavedLayer(name=name, values=values, variables=variables))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            cannot_read(path, error) or f"the weights in {path} are damaged: {error}"
        ) from error
    return layers


def layer_sizes(path: str, kind: str) -> dict[str, tuple[int, int]]:
    """Return how many variables and numbers each layer of a weights file has."""
    sizes: dict[str, tuple[int, int]] = {}
    if kind == "variables":
        for name, shape in read_variables(path)[0].items():
            layer = name.split("/")[1]
            n_variables, n_numbers = sizes.get(layer, (0, 0))
            sizes[layer] = n_variables + 1, n_numbers + math.prod(shape)
        return sizes
    try:
        with open_plain(path) as file:
            group = _legacy_group(file)
            for name in _names(group, "layer_names"):
                shapes = [group[name][variable].shape for variable in _names(group[name], "weight_names")]
                if shapes:
                    sizes[name] = len(shapes), sum(map(math.prod, shapes))
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            cannot_read(path, error) or f"the weights in {path} are damaged: {error}"
        ) from error
    return sizes


def read_variables(path: str) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Read the variables' shapes by path from a ``.weights.h5`` file, and the names of all layers."""
    # Optimizer variables and seed generators are left out. Layers without variables are listed only if
    # the version of Keras that wrote the file names them.
    shapes: dict[str, tuple[int, ...]] = {}
    layers: set[str] = set()

    def visit(name: str, found: Any) -> None:
        if not name.startswith("layers/") or "seed_generator" in name:
            return
        layers.add(name.split("/")[1])
        if isinstance(found, h5py.Dataset):
            shapes[name] = tuple(found.shape)

    try:
        with open_plain(path) as file:
            file.visititems(visit)
    except (OSError, ValueError) as error:
        raise WeightsError(
            cannot_read(path, error) or f"the weights in {path} are damaged: {error}"
        ) from error
    return shapes, layers


def nested_network_error(path: str, network: str, layer: str) -> WeightsError:
    """Return the error for the weights of a model in which a whole network is one layer."""
    return WeightsError(
        f"{os.path.basename(path)} does not hold the weights of {network}, but those of a model with a "
        f"network in it, {layer!r}; expected the network's own. A whole model is given whole: "
        f"--backbone {path} --preprocess … --layer {layer}; of weights alone, save the network's with "
        f"model.get_layer({layer!r}).save_weights('name.weights.h5')"
    )


def check_layers(
    path: str,
    network: str,
    expected: Sequence[LayerShapes],
    found: Sequence[LayerShapes | SavedLayer],
    top_layers: int,
) -> None:
    """Raise WeightsError if a file's layers are not the network's, with or without ``top_layers`` more."""
    name = os.path.basename(path)
    counts = f"the file has {len(found)} layers with weights, {network} has {len(expected)}"
    for number, (want, have) in enumerate(zip(expected, found, strict=False), start=1):
        if want.shapes != have.shapes:
            if len(have.shapes) > MOST_VARIABLES:
                raise nested_network_error(path, network, have.name)
            raise WeightsError(
                f"{name} does not hold the weights of {network}: layer {number} is {have.name} with shapes "
                f"{_shapes(have.shapes)}, expected {want.name} with {_shapes(want.shapes)}; {counts}"
            )
    if len(found) - len(expected) not in (0, top_layers):
        plus = f" or {len(expected) + top_layers} with its classifier" if top_layers else ""
        raise WeightsError(f"{name} does not hold the weights of {network}: {counts}{plus}")


def check_variables(
    path: str, network: str, wanted: tuple[dict[str, tuple[int, ...]], set[str]], top_layers: int
) -> None:
    """Raise WeightsError if a ``.weights.h5`` file is not as wanted, with or without classifier."""
    (expected, expected_layers), (found, found_layers) = wanted, read_variables(path)
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


def check_model_file(path: str, *, trust_model: bool = False, known: Container[str] = ()) -> None:
    """Check a model file, archive or HDF5, as :func:`check_keras_archive` does."""
    if not path.endswith(HDF5_ENDINGS):
        check_keras_archive(path, trust_model=trust_model, known=known)
        return
    check_model_path(path)
    configuration = modern(model_configuration(path))
    if not trust_model and (foreign := foreign_class(configuration, known)) is not None:
        raise BackboneError(f"{path} has {foreign}")


def check_keras_archive(path: str, *, trust_model: bool = False, known: Container[str] = ()) -> None:
    """Raise BackboneError if a ``.keras`` file is malformed, or would run code or do harm."""
    check_model_path(path)
    try:
        with open_raw(path, follow_links=True) as raw, zipfile.ZipFile(raw) as archive:
            _check_members(archive, raw.n_bytes)
            config = json.loads(archive.read(_CONFIG))
            foreign = None if trust_model else foreign_class(config, known)
            if _WEIGHTS in archive.namelist():
                _check_weights(archive)
    except _Refused as error:
        raise BackboneError(f"{path} is refused: {error}") from error
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise BackboneError(
            cannot_read(path, error)
            or f"{path} is not a .keras file, or is damaged: expected an archive as model.save('name.keras') "
            f"writes it ({error})"
        ) from error
    if foreign is not None:
        raise BackboneError(f"{path} has {foreign}")


def _is_zip(path: str) -> bool:
    """Return whether a file is a zip; what cannot be read is an OSError, not a no."""
    with open_raw(path, follow_links=True) as raw:
        return zipfile.is_zipfile(raw)


class _Refused(Exception):  # noqa: N818
    """A property of an archive that only malice, or great damage, explains."""


def _check_members(archive: zipfile.ZipFile, file_bytes: int) -> None:
    try:
        check_unpacking(archive, file_bytes)
    except ValueError as error:
        raise _Refused(str(error)) from error
    if archive.getinfo(_CONFIG).file_size > _LARGEST_CONFIG:
        raise _Refused(f"its {_CONFIG} is larger than {_LARGEST_CONFIG // 2**20} MiB")


def _check_weights(archive: zipfile.ZipFile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.h5")
        with archive.open(_WEIGHTS) as member, open(path, "xb") as copy:
            shutil.copyfileobj(member, copy, 2**20)
        try:
            with open_plain(path):
                pass
        except ValueError as error:
            raise _Refused(f"of its weights, {error}") from error


def _values(group: Any, name: str) -> NDArray[Any]:
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise TypeError(f"{found.name} is no array")
    return np.asarray(found)


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
    descriptions = ["x".join(map(str, shape)) or "scalar" for shape in shapes]
    more = f" and {len(descriptions) - 8} more" if len(descriptions) > MOST_VARIABLES else ""
    return ", ".join(descriptions[:8] if more else descriptions) + more
