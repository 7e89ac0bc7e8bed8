"""Loading of the user's own Keras models, in every saved form."""

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featstore.backbones.files.foreign_classes import has_hub_classes
from featstore.backbones.files.keras2 import HDF5_ENDINGS, is_keras2, model_configuration, modern
from featstore.backbones.files.own_code import custom_objects
from featstore.backbones.files.presets import check_hub
from featstore.backbones.files.weights import check_model_file, read_layers
from featstore.backbones.keras.hub import import_hub
from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import BackboneError, FeatstoreError, first_line, last_line
from featstore.io.hdf5.raw import cannot_read
from featstore.messages import listed

with quiet_import():
    import keras

__all__ = ["open_model", "variables_in_order"]

# A model's weights as Keras keeps them in its archives.
_WEIGHTS = "model.weights.h5"

# Of layers that draw random numbers: no weights, though Keras 2 saves them as such.
_RANDOM_STATES = ("StateVar", "seed_generator_state")


def open_model(path: str, *, trust_model: bool = False, imports: Sequence[str] = ()) -> Any:
    """Open a model; code in it runs only if it is trusted."""
    known = custom_objects(imports)
    check_model_file(path, trust_model=trust_model, known=known)
    if has_hub_classes(_configuration(path)):
        check_hub(path)
        import_hub()
    try:
        if path.endswith(HDF5_ENDINGS):
            model = _from_configuration(model_configuration(path), known, trust_model)
            _fill(model, path)
            return model
        with zipfile.ZipFile(path) as archive:
            configuration = json.loads(archive.read("config.json"))
            metadata = (
                json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
            )
            if is_keras2(configuration, metadata):
                model = _from_configuration(configuration, known, trust_model)
                with tempfile.TemporaryDirectory() as folder:
                    archive.extract(_WEIGHTS, folder)
                    model.load_weights(os.path.join(folder, _WEIGHTS))
                return model
        return keras.models.load_model(
            path, compile=False, safe_mode=not trust_model, custom_objects=known or None
        )
    except FeatstoreError:
        raise
    except Exception as error:
        raise BackboneError(
            cannot_read(path, error) or f"Keras cannot open {path}: {_reason(error, path)}"
        ) from error


def variables_in_order(layer: Any) -> list[Any]:
    """Return a layer's variables in the order of Keras' older HDF5 layout."""
    return list(layer.trainable_weights + layer.non_trainable_weights)


def _from_configuration(configuration: Any, known: Mapping[str, Any], trust_model: bool) -> Any:
    return keras.saving.deserialize_keras_object(
        modern(configuration), custom_objects=dict(known), safe_mode=not trust_model
    )


def _fill(model: Any, path: str) -> None:
    """Load the values of an HDF5 file into a model, all or none."""
    file = os.path.basename(path)
    saved = {layer.name.replace("/", "_"): layer for layer in read_layers(path)}
    for layer in model.layers:
        variables = variables_in_order(layer)
        found = saved.pop(layer.name, None)
        if found is None and variables:
            raise BackboneError(f"{file} is damaged: it has no weights of the layer {layer.name}")
        if found is None:
            continue
        called = [one.rpartition("/")[2].partition(":")[0] for one in found.variables]
        kept = [
            (one, value)
            for one, value in zip(called, found.values, strict=True)
            if not one.startswith(_RANDOM_STATES)
        ]
        wanted = [(str(variable.name), tuple(variable.shape)) for variable in variables]
        fits = len(kept) == len(wanted) and all(
            # Keras 2 called the kernel of a depthwise convolution depthwise_kernel.
            one.endswith(name) and value.shape == shape
            for (one, value), (name, shape) in zip(kept, wanted, strict=True)
        )
        if not fits:
            raise BackboneError(
                f"the weights in {file} do not fit its layer {layer.name}: found "
                f"{_listed((one, value.shape) for one, value in kept)}, expected {_listed(wanted)}; save the "
                "model again with model.save('name.keras') in the program that made it"
            )
        for variable, (_, value) in zip(variables, kept, strict=True):
            variable.assign(value)
    if saved:
        raise BackboneError(
            f"{file} is damaged: it has weights of {next(iter(saved))}, which is no layer of it"
        )
    _finalize(model)


def _finalize(network: Any) -> None:
    for layer in getattr(network, "layers", []):
        _finalize(layer)
        # Normalization keeps what it computes from its weights.
        if hasattr(layer, "finalize_state") and layer.weights:
            layer.finalize_state()


def _listed(variables: Any) -> str:
    descriptions = [f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in variables]
    return listed(descriptions, most=4) or "none"


def _reason(error: BaseException, path: str) -> str:
    """Explain why Keras cannot open a model, and what to do about an unknown class."""
    found = re.search(
        r"(?:Could not locate (?:class|function)|Could not deserialize|Unknown \w+:?) ['\"]?([\w>.]+)",
        str(error),
    )
    if found is None:
        # Of a layer that cannot be built, the last line says why.
        return last_line(error) if "could not be deserialized" in str(error) else first_line(error)
    kind = re.split("[.>]", found[1])[-1]
    layer = next(_called(_configuration(path), kind), None)
    of = f" of its layer {layer!r}" if layer else ""
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        return (
            f"the {kind}{of} is an operation of TensorFlow that Keras 3 has no layer for; build the model "
            "with a layer in its place (Rescaling for arithmetic) and save it again"
        )
    return (
        f"the class {kind!r}{of} is not one of Keras; name the Python module that defines it with "
        "--import MODULE (imports=['MODULE']), which runs that module"
    )


def _configuration(path: str) -> Any:
    if path.endswith(HDF5_ENDINGS):
        return model_configuration(path)
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def _called(configuration: Any, kind: str) -> Iterator[str]:
    """Return the names of the layers of a class."""
    if isinstance(configuration, list):
        for entry in configuration:
            yield from _called(entry, kind)
    elif isinstance(configuration, dict):
        inner = configuration.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if str(configuration.get("class_name")).rpartition(">")[2] == kind and isinstance(name, str):
            yield name[:80]
        for entry in configuration.values():
            yield from _called(entry, kind)
