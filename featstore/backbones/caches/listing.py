"""Listing and clearing of the user's cache folder."""

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from featstore.errors import StoreError
from featstore.io.atomic import TEMPORARY_PREFIX
from featstore.io.cache_folder import cache_folder
from featstore.io.json_values import json_values
from featstore.io.storage.mirror import ENDINGS, mirror_folder, mirrored

__all__ = ["CacheContents", "CachedNetwork", "cache_contents", "clear_cache"]

# Its folders: networks, and what is remembered of files, weights, networks that cannot be converted, files
# that hold many images, where KerasHub put presets, and how fast networks were.
_NETWORKS = "networks"
_ENTRIES = ("files", "listings", "presets", "speeds", "unconvertible", "weights")
# And what is in them: the fingerprints of keys, and what was being written under another name.
_OURS = re.compile(r"[0-9a-f]{64}(\.json)?|" + re.escape(TEMPORARY_PREFIX) + "[0-9a-f]+(\\.json)?")


@dataclass(frozen=True, kw_only=True)
class CachedNetwork:
    """A network converted for OpenVINO.

    Attributes
    ----------
    architecture, layer : str
        Empty if unknown, after an interrupted conversion.
    size_px : tuple of int
    n_bytes : int
    """

    architecture: str
    layer: str
    size_px: tuple[int, ...]
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class CacheContents:
    """The contents of the cache folder, all of which can be recreated.

    Attributes
    ----------
    folder : str
    networks : tuple of CachedNetwork
        The largest first.
    n_entries : int
        Remembered digests of files and similar entries.
    n_copies : int
        Copies of objects of stores in buckets.
    n_bytes : int
        Of everything.
    """

    folder: str
    networks: tuple[CachedNetwork, ...]
    n_entries: int
    n_bytes: int
    n_copies: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


def cache_contents() -> CacheContents:
    """List the contents of the cache folder."""
    folder = cache_folder()
    networks = [_network(path) for path in _ours(os.path.join(folder, _NETWORKS))]
    entries = [path for kind in _ENTRIES for path in _ours(os.path.join(folder, kind))]
    copies = mirrored()
    return CacheContents(
        folder=os.path.abspath(folder),
        networks=tuple(sorted(networks, key=lambda network: -network.n_bytes)),
        n_entries=len(entries),
        n_bytes=sum(network.n_bytes for network in networks) + sum(map(_bytes_in, [*entries, *copies])),
        n_copies=sum(path.endswith(ENDINGS) for path in copies),
    )


def clear_cache() -> CacheContents:
    """Remove what featstore keeps in the cache folder, and nothing else."""
    contents = cache_contents()
    folders = [os.path.join(contents.folder, kind) for kind in (_NETWORKS, *_ENTRIES)]
    links = [folder for folder in folders if os.path.islink(folder)]
    ours = [path for folder in folders if folder not in links for path in _ours(folder)]
    for path in [*links, *ours, *mirrored()]:
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from error
    for folder in (*folders, mirror_folder(), contents.folder):
        # One that holds what is not ours stays.
        with suppress(OSError):
            os.rmdir(folder)
    return contents


def _network(folder: str) -> CachedNetwork:
    key: dict[str, Any] = {}
    try:
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            key = dict(json.load(file)["key"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    size = key.get("size_px")
    return CachedNetwork(
        architecture=str(key.get("architecture", "")),
        layer=str(key.get("layer", "")),
        size_px=tuple(size) if isinstance(size, list) else (),
        n_bytes=_bytes_in(folder),
    )


def _ours(folder: str) -> list[str]:
    """Return the paths in a folder that are of our making: others may keep theirs in the same place."""
    return [path for path in _children(folder) if _OURS.fullmatch(os.path.basename(path))]


def _children(folder: str) -> list[str]:
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except OSError:
        return []


def _bytes_in(path: str) -> int:
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.lexists(path) else 0
    return sum(_bytes_in(child) for child in _children(path))
