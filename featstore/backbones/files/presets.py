"""Presets of KerasHub: folders with a network, its weights and its preprocessing."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featstore.backbones.caches.cache import file_digest, recall, remember
from featstore.backbones.files.foreign_classes import HUB_PACKAGE, HUB_PREFIX, foreign_class
from featstore.backbones.files.paths import check_model_path
from featstore.errors import BackboneError
from featstore.extras import check_extra
from featstore.hashing import canonical_json
from featstore.io.hdf5.raw import cannot_read

__all__ = ["PresetFolder", "check_hub", "find_preset", "read_json"]

# As KerasHub calls the files of a preset; those of weights in several parts are named by the second.
_CONFIG, _WEIGHTS, _SHARDS, _CONVERTER = (
    "config.json",
    "model.weights.h5",
    "model.weights.json",
    "image_converter.json",
)
_LARGEST_TEXT = 2**22
_LARGEST = 2**36

# What a network's numbers do not depend on, or what is in the specification.
_OUTSIDE = ("dtype", "image_shape", "name", "trainable")
# Keras' policies of real numbers; others are of quantized weights.
_REAL = ("bfloat16", "float16", "float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class PresetFolder:
    """A folder as ``save_to_preset`` of KerasHub writes it."""

    path: str

    @property
    def architecture(self) -> str:
        """What such networks are called in specifications: ``"keras_hub_dinov2"``."""
        name = re.sub(r"\W+", "", str(self._config()["class_name"]))
        return f"{HUB_PACKAGE}_{name.removesuffix('Backbone').lower()}"

    @property
    def weights(self) -> str:
        """The file to load the weights by."""
        names = (_WEIGHTS, _SHARDS)
        return next((path for path in map(self._file, names) if os.path.exists(path)), self._file(_WEIGHTS))

    def weights_files(self) -> list[str]:
        """Return the HDF5 files that the weights are in."""
        found = [self.weights]
        if found[0].endswith(_SHARDS):
            try:
                mapped = read_json(found[0])["weight_map"].values()
                names = {name for one in mapped for name in ([one] if isinstance(one, str) else one)}
            except (AttributeError, KeyError, TypeError) as error:
                raise BackboneError(f"{found[0]} does not name the parts of the weights") from error
            if any(not isinstance(name, str) or os.path.basename(name) != name for name in names):
                raise BackboneError(f"{self.path} is refused: its weights are outside of its own folder")
            found = [self._file(name) for name in sorted(names)]
        for path in found:
            check_model_path(path)
        if (n_bytes := sum(map(os.path.getsize, found))) > _LARGEST:
            most = f"at most {_LARGEST / 1e9:,.0f} GB are read"
            raise BackboneError(f"{self.path} has {n_bytes / 1e9:,.0f} GB of weights; {most}")
        return found

    def check(self) -> None:
        """Raise an error if KerasHub is missing, or the folder would run code or do harm."""
        from featstore.io.hdf5.plain import open_plain  # which imports h5py

        check_hub(f"the preset {self.path}")
        if (foreign := foreign_class(self._config())) is not None:
            raise BackboneError(f"{self.path} has {foreign}")
        for path in self.weights_files():
            try:
                with open_plain(path):
                    pass
            except (OSError, ValueError) as error:
                raise BackboneError(
                    cannot_read(path, error) or f"the weights in {path} are damaged: {error}"
                ) from error

    def digest(self) -> str:
        """Return the SHA-256 over the network and its weights; it does not depend on where they are."""
        try:
            digests = [file_digest(path) for path in (self._file(_CONFIG), *self.weights_files())]
        except OSError as error:
            raise BackboneError(f"cannot read {self.path}: {error.strerror or error}") from error
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def configuration(self, size_px: tuple[int, int] | None = None) -> dict[str, Any]:
        """Return the network's configuration for Keras, where it can be for images of another size."""
        # Names count the networks of the program that saved it, and layers are called after them.
        config = dict(_without(self._config(), ("dtype", "name"), where=self.path))
        if size_px is not None and isinstance(config["config"].get("image_shape"), list):
            config["config"] = {**config["config"], "image_shape": [*size_px, 3]}
        return config

    def salt(self) -> bytes:
        """Return what is digested with the values of the weights: the architecture."""
        return canonical_json(_without(self._config(), _OUTSIDE, where=self.path)).encode()

    def converter(self) -> tuple[str, Mapping[str, Any]] | None:
        """Return the file of the preset's image converter and its arguments, or None if it has none."""
        path = self._file(_CONVERTER)
        return (path, _inner(read_json(path), path)) if os.path.exists(path) else None

    def _config(self) -> dict[str, Any]:
        found = read_json(self._file(_CONFIG))
        _inner(found, self._file(_CONFIG))
        return found

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)


def find_preset(name: str) -> PresetFolder | None:
    """Return the preset of a name or folder, downloaded where no earlier run has done so, or None."""
    folder = _downloaded(name.removeprefix(HUB_PREFIX)) if name.startswith(HUB_PREFIX) else name
    path = os.path.join(folder, _CONFIG)
    if not os.path.isfile(path):
        return None
    # Hugging Face and timm have files of the same name.
    if not str(read_json(path).get("registered_name")).startswith(f"{HUB_PACKAGE}>"):
        return None
    return PresetFolder(os.path.abspath(folder))


def check_hub(what: str) -> None:
    """Raise MissingExtraError unless KerasHub is installed."""
    check_extra("keras-hub", what, HUB_PACKAGE)


def read_json(path: str) -> dict[str, Any]:
    """Return the object in a JSON file of bounded size."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST_TEXT + 1)
        found = json.loads(text) if len(text) <= _LARGEST_TEXT else None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(cannot_read(path, error) or f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BackboneError(f"{path} holds no JSON object, or is larger than {_LARGEST_TEXT // 2**20} MiB")
    return found


def _downloaded(preset: str) -> str:
    check_hub(f"--backbone {HUB_PREFIX}{preset}")
    key = {"preset": preset}
    if (known := recall("presets", key)) is not None and os.path.isdir(known["folder"]):
        return str(known["folder"])
    from featstore.backbones.keras.hub import download_preset

    folder = download_preset(preset)
    remember("presets", key, {"folder": folder})
    return folder


def _inner(found: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    inner = found.get("config")
    if not isinstance(inner, dict):
        raise BackboneError(f"{path} is no configuration of KerasHub, or is damaged")
    return inner


def _without(value: Any, names: tuple[str, ...], *, where: str) -> Any:
    """Return a configuration without some fields; the type of numbers must be one of real ones."""
    if isinstance(value, list):
        return [_without(one, names, where=where) for one in value]
    if not isinstance(value, dict):
        return value
    policy = value.get("dtype")
    named = policy.get("config", {}).get("name") if isinstance(policy, dict) else policy
    if named not in (None, *_REAL):
        raise BackboneError(f"{where} holds quantized weights ({str(named)[:40]}); expected a preset without")
    return {key: _without(one, names, where=where) for key, one in value.items() if key not in names}
