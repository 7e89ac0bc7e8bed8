"""Listing and clearing of the user's cache folder."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any

from featstore.backbones.cache import cache_folder
from featstore.errors import StoreError

__all__ = ["CacheContents", "CachedNetwork", "cache_contents", "clear_cache"]

# Its folders: networks, and what is remembered of files, weights and networks that cannot be converted.
_NETWORKS = "networks"
_ENTRIES = ("files", "unconvertible", "weights")


@dataclass(frozen=True, kw_only=True)
class CachedNetwork:
    """A network converted for OpenVINO.

    Attributes
    ----------
    architecture, layer : str
        Empty where the folder does not tell, after an interrupted conversion.
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
        Digests of files and the like that are remembered.
    n_bytes : int
        Of everything.
    """

    folder: str
    networks: tuple[CachedNetwork, ...]
    n_entries: int
    n_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        networks = [{**asdict(network), "size_px": list(network.size_px)} for network in self.networks]
        return {**self.__dict__, "networks": networks}


def cache_contents() -> CacheContents:
    """List the contents of the cache folder."""
    folder = cache_folder()
    networks = [_network(path) for path in _children(os.path.join(folder, _NETWORKS))]
    entries = [path for kind in _ENTRIES for path in _children(os.path.join(folder, kind))]
    return CacheContents(
        folder=os.path.abspath(folder),
        networks=tuple(sorted(networks, key=lambda network: -network.n_bytes)),
        n_entries=len(entries),
        n_bytes=sum(network.n_bytes for network in networks) + sum(map(_bytes_in, entries)),
    )


def clear_cache() -> CacheContents:
    """Remove what featstore keeps in the cache folder, and nothing else."""
    contents = cache_contents()
    for kind in (_NETWORKS, *_ENTRIES):
        path = os.path.join(contents.folder, kind)
        try:
            if os.path.islink(path):
                os.unlink(path)
            elif os.path.isdir(path):
                shutil.rmtree(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from error
    try:
        os.rmdir(contents.folder)
    except OSError:
        # It holds what is not ours, or is not there.
        return contents
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


def _children(folder: str) -> list[str]:
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except OSError:
        return []


def _bytes_in(path: str) -> int:
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.lexists(path) else 0
    return sum(_bytes_in(child) for child in _children(path))
