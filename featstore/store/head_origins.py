"""The spaces and catalogs that heads in a store were fitted on, read without loading the heads."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from featstore.errors import StoreError
from featstore.io.hdf5.raw import open_raw

__all__ = ["HeadOrigin", "read_origin"]

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 2**24


@dataclass(frozen=True, kw_only=True)
class HeadOrigin:
    """The spaces and catalogs of a head, and digests of the catalogs as they were; all empty if unknown."""

    spaces: tuple[str, ...] = ()
    catalogs: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_manifest(cls, manifest: Any) -> Self:
        """Return what a manifest says; nothing where it is not that of a head."""
        if not isinstance(manifest, dict):
            return cls()
        named = {name: str(manifest.get(name) or "") for name in ("space", "catalog")}
        digests = manifest.get("catalog_digests")
        known = digests if isinstance(digests, dict) else {}
        catalogs = {*named["catalog"].split("+"), *map(str, known)} - {""}
        return cls(
            spaces=tuple(name for name in named["space"].split("+") if name),
            catalogs=tuple(sorted(catalogs)),
            digests={str(name): str(digest) for name, digest in known.items()},
        )

    def changes(self, current: Mapping[str, str]) -> dict[str, str]:
        """Return, given the digests of a store's catalogs, what has become of each catalog of the head."""
        # "unchanged", "changed", "missing" or "unknown".
        return {name: self._change(name, current.get(name)) for name in self.catalogs}

    def _change(self, name: str, digest: str | None) -> str:
        if digest is None:
            return "missing"
        if name not in self.digests:
            return "unknown"
        return "unchanged" if self.digests[name] == digest else "changed"


def read_origin(path: str) -> HeadOrigin:
    """Read what a head's file says; a file that cannot be read says nothing, and ``verify`` finds it."""
    try:
        with (
            open_raw(path, follow_links=True) as raw,
            io.BufferedReader(raw) as file,
            zipfile.ZipFile(file) as archive,
        ):
            if archive.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
                return HeadOrigin()
            return HeadOrigin.of_manifest(json.loads(archive.read(_MANIFEST)))
    except (
        *(StoreError, OSError, EOFError, KeyError, NotImplementedError, RecursionError, RuntimeError),
        *(ValueError, zipfile.BadZipFile),
    ):
        return HeadOrigin()
