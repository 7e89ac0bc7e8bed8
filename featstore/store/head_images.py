"""What heads hold of the images that they were fitted on, read and removed without loading the heads."""

import io
import json
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreError
from featstore.io.archives.safe_zip import (
    ARCHIVE_COMMENT,
    check_archive,
    check_contents,
    check_members,
    member_info,
    seal_archive,
)
from featstore.io.hdf5.raw import damaged, open_raw, unreadable
from featstore.io.storage.access import ChangedError
from featstore.io.storage.opening import storage_of

__all__ = ["HeadImages", "read_head_images", "remove_from_head"]

_MANIFEST, _SEEN, _GATED = "manifest.json", "seen.npz", "gated.npz"
_WITH_ROWS = {"kernel.npz", "neighbors.npz", _GATED}
_WITHOUT_ROWS = "network.npz"
# Of other classifiers it is not known what they keep: support vectors, neighbours or, as these, no features.
_LINEAR = "linear.npz"
_LINEAR_KINDS = {"columns", "imported", "lda", "logistic", "ridge", "sgd", "softmax", "svm", "tuned"}
_MEAN_KINDS = {"centroid", "imprinting"}
_MAX_ATTEMPTS = 10


@dataclass(frozen=True, kw_only=True)
class HeadImages:
    """The images of a head, and whether it keeps features of those that it was fitted on."""

    kind: str  # as in known_heads
    seen: dict[str, NDArray[Any]] | None  # the arrays of SeenImages; None if it knows none of its images
    has_rows: bool
    is_known: bool  # False if it may have features of images that it does not know

    def which(self, name: str, contents: Collection[bytes]) -> NDArray[np.bool_]:
        """Return which of its images, ``"fitted"`` or ``"chosen"``, have some content hashes."""
        known = np.zeros(0, np.uint64) if self.seen is None else self.seen[name]
        return np.isin(known, [int.from_bytes(content[:8], "big") for content in contents])

    def has(self, name: str, contents: Collection[bytes]) -> bool:
        """Return whether any of its images, ``"fitted"`` or ``"chosen"``, has one of some content hashes."""
        return bool(self.which(name, contents).any())


def read_head_images(path: str) -> HeadImages:
    """Read what a head's file says of its images."""
    with _opened(path) as archive:
        names = {*archive.namelist()}
        manifest = json.loads(archive.read(_MANIFEST))
        kind = str(manifest.get("name"))
        seen = _arrays(archive.read(_SEEN)) if _SEEN in names else None
        has_rows = _has_rows(names, kind, manifest)
        # A gated head in another one may be older than the lists of images.
        is_nested = _GATED in names and "old.weights" in _arrays(archive.read(_GATED))
    is_complete = seen is not None and bool(seen["complete"])
    return HeadImages(
        kind=kind,
        seen=seen,
        has_rows=has_rows,
        is_known=seen is not None and (is_complete or not is_nested),
    )


def remove_from_head(path: str, contents: Collection[bytes]) -> None:
    """Remove images from those that a head knows, which from then on does not know all of them."""
    storage = storage_of(path)
    for _ in range(_MAX_ATTEMPTS):
        if (version := storage.version(path)) is None:
            return
        images = read_head_images(path)
        if images.seen is None:
            return
        left = {name: images.seen[name][~images.which(name, contents)] for name in ("fitted", "chosen")}
        if all(len(left[name]) == len(images.seen[name]) for name in left):
            return
        with _opened(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        written = io.BytesIO()
        arrays: dict[str, Any] = {**left, "complete": np.array(False)}
        np.savez(written, **arrays)
        members[_SEEN] = written.getvalue()
        try:
            with storage.replacing(path, verify=check_contents, expected=version, in_turn=True) as temporary:
                with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
                    archive.comment = ARCHIVE_COMMENT
                    for name, data in members.items():
                        archive.writestr(member_info(name), data)
                seal_archive(temporary)
        except ChangedError:
            continue
        return
    raise StoreError(f"{path} was written by others {_MAX_ATTEMPTS} times meanwhile; run this again")


def _has_rows(names: set[str], kind: str, manifest: dict[str, Any]) -> bool:
    if kind in _MEAN_KINDS and _LINEAR in names:
        # The mean of a single image is its features.
        used = [manifest["counts"][split] for split in manifest["choice"].get("fitted_on") or ("train",)]
        return any(sum(counts.get(label, 0) for counts in used) == 1 for label in manifest["classes"])
    is_linear = _LINEAR in names and kind in _LINEAR_KINDS
    return bool(names & _WITH_ROWS) or not (is_linear or _WITHOUT_ROWS in names)


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    """Open a head's file, and raise what is wrong with it as damage."""
    try:
        check_archive(path)
        with (
            open_raw(path, follow_links=True) as raw,
            io.BufferedReader(raw) as file,
            zipfile.ZipFile(file) as archive,
        ):
            yield archive
    except StoreError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except (
        AttributeError,
        EOFError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise damaged(path, str(error)) from error


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    check_members(io.BytesIO(data))
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return dict(stored)
