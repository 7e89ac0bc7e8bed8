"""The store's JSON files: ``featstore.json`` of the store and ``space.json`` of each space."""

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError, StoreError, StoreNotFoundError
from featstore.hashing import fingerprint
from featstore.io.atomic import failure_reason, write_text
from featstore.io.hdf5.raw import damaged
from featstore.io.manifest import check_version, has_checksum, with_checksum
from featstore.io.storage.opening import storage_of
from featstore.io.urls import is_url

__all__ = [
    "STORE_VERSION",
    "read_json",
    "read_space_description",
    "write_json",
    "write_space_description",
]

STORE_VERSION = 1
SPACE_VERSION = 1

_SPACE_FORMAT = "featstore-space"
_MAX_JSON_BYTES = 2**20
# What files hold that were written before there was a checksum in them.
_UNCHECKED = {"format", "format_version", "spec", "fingerprint", "feature_dim", "provenance"}
_MAX_FEATURE_DIM = 2**28


def read_space_description(folder: str) -> tuple[BackboneSpec, int, dict[str, Any]]:
    """Read ``space.json``: specification, feature dimension, provenance of the first rows."""
    path = os.path.join(folder, "space.json")
    data = read_json(path, kind=_SPACE_FORMAT, version=SPACE_VERSION)
    described, feature_dim = data.get("spec"), data.get("feature_dim")
    provenance = data.get("provenance", {})
    if not isinstance(described, dict) or not isinstance(provenance, dict):
        raise damaged(path, "spec and provenance must be objects")
    if type(feature_dim) is not int or not 1 <= feature_dim <= _MAX_FEATURE_DIM:
        raise damaged(path, f"feature_dim must be from 1 to {_MAX_FEATURE_DIM:,}; found {feature_dim!r}")
    try:
        agrees = fingerprint(described) == data.get("fingerprint")
        spec = BackboneSpec.from_dict(described)
    except BackboneError as error:
        raise StoreError(f"cannot use {path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise damaged(path, str(error)) from error
    if not agrees:
        raise damaged(path, "the specification does not have the fingerprint that stands beside it")
    if spec.name != os.path.basename(folder):
        raise damaged(path, f"it describes {spec.name}, not {os.path.basename(folder)}")
    return spec, feature_dim, provenance


def write_space_description(
    folder: str, spec: BackboneSpec, *, feature_dim: int, provenance: Mapping[str, Any] | None = None
) -> None:
    """Create a space's folder and write its ``space.json``."""
    if not 1 <= feature_dim <= _MAX_FEATURE_DIM:
        raise StoreError(f"feature_dim must be from 1 to {_MAX_FEATURE_DIM:,}; found {feature_dim}")
    about = {
        "format": _SPACE_FORMAT,
        "format_version": SPACE_VERSION,
        "fingerprint": spec.fingerprint,
        "feature_dim": int(feature_dim),
        "spec": spec.to_dict(),
        "provenance": dict(provenance or {}),
    }
    try:
        text = with_checksum(about)
    except (TypeError, ValueError) as error:
        raise StoreError(f"provenance must consist of JSON values: {error}") from error
    if len(text) > _MAX_JSON_BYTES:
        raise StoreError(
            f"a space's description may have {_MAX_JSON_BYTES:,} bytes; with this provenance and "
            f"specification it has {len(text):,}"
        )
    try:
        storage_of(folder).make_folder(folder)
    except OSError as error:
        raise StoreError(f"cannot make the folder {folder}: {failure_reason(error)}") from error
    write_text(
        os.path.join(folder, "space.json"),
        text,
        verify=lambda temporary: _check_written(temporary, kind=_SPACE_FORMAT, version=SPACE_VERSION),
        through=storage_of(folder).replacing,
    )


def write_json(path: str, about: Mapping[str, Any]) -> None:
    """Write one of the store's JSON files with a checksum."""
    write_text(
        path,
        with_checksum(about),
        verify=lambda temporary: _check_written(
            temporary, kind=about["format"], version=about["format_version"]
        ),
        through=storage_of(path).replacing,
    )


def read_json(path: str, *, kind: str, version: int) -> dict[str, Any]:
    """Read one of the store's JSON files, and check format, version and checksum."""
    try:
        if not is_url(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise damaged(path, "it is not a regular file")
        with storage_of(path).open(path) as file:
            text = file.read(_MAX_JSON_BYTES)
        data = json.loads(text)
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise StoreNotFoundError(f"cannot read {path}: {failure_reason(error)}") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {failure_reason(error)}") from error
    except (RecursionError, ValueError) as error:
        raise damaged(path, f"it is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != kind:
        raise damaged(path, f"it is not a {kind}")
    check_version(path, data.get("format_version"), version)
    if not _agrees(text, data):
        raise damaged(path, "it does not agree with its checksum")
    return data


def _check_written(path: str, *, kind: str, version: int) -> None:
    read_json(path, kind=kind, version=version)


def _agrees(text: bytes, data: Mapping[str, Any]) -> bool:
    checksum = data.get("checksum")
    return data.keys() <= _UNCHECKED if checksum is None else has_checksum(text, checksum)
