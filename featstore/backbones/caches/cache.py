"""The user's cache folder: digests of weights, and networks converted for OpenVINO.

Nothing here is ever required: whatever is missing, damaged or unwritable is computed again.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featstore.errors import StoreError
from featstore.hashing import canonical_json, fingerprint
from featstore.io.atomic import STALE_SECONDS, TEMPORARY_PREFIX, remove_stale, sync_folder, write_text
from featstore.io.cache_folder import cache_folder
from featstore.io.stamps import FileStamp

__all__ = [
    "ConvertedNetwork",
    "file_digest",
    "has_room",
    "recall",
    "recall_network",
    "remember",
    "remember_network",
]

_log = logging.getLogger(__name__)

_NETWORK_FILES = ("network.bin", "network.xml")


@dataclass(frozen=True, kw_only=True)
class ConvertedNetwork:
    """A network in OpenVINO's intermediate representation, and what was recorded with it."""

    xml: bytes
    weights: bytes
    facts: dict[str, Any]


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file, cached while the file is unchanged."""
    path = os.path.abspath(path)
    stamp = FileStamp.of(os.stat(path))
    key = {"path": os.fsencode(path).hex(), "stamp": list(stamp)}
    known = recall("files", key)
    if known is not None and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    is_racy = stamp.is_racy(time.time_ns())
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not is_racy:
        remember("files", key, {"sha256": digest})
    return digest


def recall(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an entry written by :func:`remember`, or None; damaged entries count as none."""
    try:
        with open(_entry_path(kind, key), encoding="utf-8") as file:
            found = json.load(file)
        if found["key"] == json.loads(canonical_json(key)) and found["digest"] == fingerprint(found["entry"]):
            return dict(found["entry"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if not isinstance(error, FileNotFoundError):
            _log.debug("ignoring a damaged cache entry of %s: %s", kind, error)
    return None


def remember(kind: str, key: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Cache an entry for :func:`recall`, if the cache folder is writable."""
    path = _entry_path(kind, key)
    whole = {"key": json.loads(canonical_json(key)), "entry": dict(entry), "digest": fingerprint(entry)}
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        remove_stale(os.path.dirname(path))
        write_text(path, json.dumps(whole, indent=1) + "\n")
    except (OSError, StoreError) as error:
        _log.debug("cannot write the cache entry %s: %s", path, error)


def recall_network(key: Mapping[str, Any]) -> ConvertedNetwork | None:
    """Return a converted network, or None; a damaged one is removed."""
    folder = _network_folder(key)
    try:
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        contents = {}
        for name in _NETWORK_FILES:
            with open(os.path.join(folder, name), "rb") as file:
                contents[name] = file.read()
        whole = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        damaged = [name for name, digest in whole.items() if digest != manifest["sha256"][name]]
        facts = dict(manifest["facts"])
    except OSError as error:
        # What the system does not give out now is no damage.
        if not isinstance(error, FileNotFoundError):
            _log.info("the converted network in %s cannot be read: %s", folder, error)
        return None
    except (ValueError, KeyError, TypeError) as error:
        damaged = [f"manifest.json ({error})"]
    if damaged:
        _log.info(
            "the converted network in %s is damaged and will be converted again: %s", folder, damaged[0]
        )
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return ConvertedNetwork(xml=contents["network.xml"], weights=contents["network.bin"], facts=facts)


def remember_network(key: Mapping[str, Any], convert: Callable[[str], Mapping[str, Any]]) -> ConvertedNetwork:
    """Convert a network and cache it for :func:`recall_network`."""
    target = _network_folder(key)
    try:
        return _kept(_building_folder(os.path.dirname(target)), target, key, convert)
    except OSError as error:
        _log.info("the converted network is not cached: %s", error)
    return _kept(tempfile.mkdtemp(prefix="featstore-"), target, key, convert)


def has_room(folder: str, n_bytes: int) -> bool:
    """Return whether a folder has room for this many bytes now."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(-(-n_bytes // 2**20)):
                file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def _kept(
    folder: str, target: str, key: Mapping[str, Any], convert: Callable[[str], Mapping[str, Any]]
) -> ConvertedNetwork:
    """Convert a network in a temporary folder and rename that into place."""
    try:
        facts = dict(convert(os.path.join(folder, "network.xml")))
        contents = {}
        for name in _NETWORK_FILES:
            with open(os.path.join(folder, name), "rb") as file:
                contents[name] = file.read()
                os.fsync(file.fileno())
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        manifest = {"key": dict(key), "facts": facts, "sha256": digests}
        with contextlib.suppress(OSError, StoreError):
            write_text(os.path.join(folder, "manifest.json"), json.dumps(manifest, indent=1) + "\n")
            _publish(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ConvertedNetwork(xml=contents["network.xml"], weights=contents["network.bin"], facts=facts)


def _entry_path(kind: str, key: Mapping[str, Any]) -> str:
    return os.path.join(cache_folder(), kind, f"{fingerprint(key)}.json")


def _network_folder(key: Mapping[str, Any]) -> str:
    return os.path.join(cache_folder(), "networks", fingerprint(key))


def _building_folder(parent: str) -> str:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            is_ours = entry.name.startswith(TEMPORARY_PREFIX)
            if is_ours and time.time() - entry.stat().st_mtime >= STALE_SECONDS:
                shutil.rmtree(entry.path, ignore_errors=True)
    folder = os.path.join(parent, TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        os.makedirs(folder)
    except OSError as error:
        _log.debug("the converted network is not cached: %s", error)
        return tempfile.mkdtemp(prefix="featstore-")
    return folder


def _publish(folder: str, target: str) -> None:
    if os.path.dirname(folder) != os.path.dirname(target):
        return
    try:
        os.rename(folder, target)
    except OSError:
        # Another process was first, and its network is as good; or an older one is there in part.
        if os.path.exists(os.path.join(target, "manifest.json")):
            return
        shutil.rmtree(target, ignore_errors=True)
        os.rename(folder, target)
    sync_folder(os.path.dirname(target))
