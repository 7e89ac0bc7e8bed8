"""KerasHub: its import, and the download of its presets."""

import difflib
from importlib import import_module
from typing import Any

from featstore.backbones.files.foreign_classes import HUB_PACKAGE, HUB_PREFIX
from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import (
    UnknownBackboneError,
    WeightsUnavailableError,
    first_line,
)

__all__ = ["download_preset", "import_hub"]

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
            f"KerasHub has no preset {preset!r}{near and f' (did you mean {near}?)'}; "
            "keras_hub.models.Backbone.presets lists them, and a folder that save_to_preset wrote is given "
            "by its path"
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
