"""Networks of KerasHub's presets, and the part of a network that sees images."""

import os
from typing import Any

from featstore.backbones.files.presets import PresetFolder
from featstore.backbones.keras.hub import import_hub
from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import BackboneError, first_line, last_line

with quiet_import():
    import keras

__all__ = ["image_part", "open_preset"]

# In networks of two towers: what gives the embedding of images, the better first.
_TOWERS = ("vision_projection", "vision_encoder")


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
