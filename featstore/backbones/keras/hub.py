"""Networks of KerasHub: presets downloaded and built, and the part of a network that sees images."""

import difflib
import os
from importlib import import_module
from typing import Any

from featstore.backbones.foreign_classes import HUB_PACKAGE
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.presets import HUB_PREFIX, PresetFolder
from featstore.errors import (
    BackboneError,
    UnknownBackboneError,
    WeightsUnavailableError,
    first_line,
    last_line,
)

with quiet_import():
    import keras

__all__ = ["download_preset", "image_part", "import_hub", "open_preset"]

# In networks of two towers: what gives the embedding of images, the better first.
_TOWERS = ("vision_projection", "vision_encoder")
_KAGGLE = "kaggle://"


def import_hub() -> Any:
    """Import KerasHub, which registers its classes."""
    with quiet_import():
        return import_module(HUB_PACKAGE)


def download_preset(preset: str) -> str:
    """Return the folder of a preset of KerasHub, from kagglehub's cache or downloaded."""
    known = import_hub().models.Backbone.presets
    handle = preset if preset.startswith(_KAGGLE) else known.get(preset, {}).get("kaggle_handle")
    if handle is None:
        close = [name for name in sorted(known) if preset in name] or difflib.get_close_matches(preset, known)
        near = ", ".join(close[:3])
        raise UnknownBackboneError(
            f"KerasHub has no preset {preset!r}{near and f' (near are {near})'}; keras_hub.models.Backbone."
            "presets lists them, and a folder that save_to_preset wrote is given by its path"
        )
    kagglehub = import_module("kagglehub")
    try:
        return str(kagglehub.model_download(handle.removeprefix(_KAGGLE)))
    except Exception as error:
        raise WeightsUnavailableError(
            f"{HUB_PREFIX}{preset} cannot be fetched: KerasHub downloads it from kaggle.com into "
            f"~/.cache/kagglehub ({first_line(error)}). Without a network, give the path of the folder that "
            "another machine has put there, or that save_to_preset wrote"
        ) from error


def open_preset(path: str, size_px: tuple[int, int] | None) -> Any:
    """Build the part of a preset's network that sees images, for images of a size, with its weights."""
    preset = PresetFolder(path)
    preset.check()
    import_hub()
    config = preset.configuration(size_px)
    try:
        model = keras.saving.deserialize_keras_object(config)
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(
            f"KerasHub cannot build the {config['class_name']} of {path}: {last_line(error)}"
        ) from error
    try:
        model.load_weights(preset.weights)
    except (OSError, KeyError, ValueError) as error:
        of = "" if size_px is None else f" for images of {size_px[0]}x{size_px[1]} pixels"
        raise BackboneError(
            f"the weights in {path} do not fit its {config['class_name']}{of}: {first_line(error)}"
        ) from error
    return image_part(model, os.path.basename(path))


def image_part(model: Any, of: str) -> Any:
    """Return the part of a network of KerasHub that takes images alone."""
    images = [one for one in model.inputs if len(one.shape) == 4]
    if len(model.inputs) == 1 or len(images) != 1:
        return model
    tower = next((getattr(model, name) for name in _TOWERS if hasattr(model, name)), None)
    if tower is None:
        names = ", ".join(one.name for one in model.inputs)
        raise BackboneError(f"{of} takes {len(model.inputs)} inputs, {names}; expected images alone")
    return tower if isinstance(tower, keras.Model) else keras.Model(images, tower.output)
