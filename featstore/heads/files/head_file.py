"""The head file: writing and reading.

An uncompressed zip with these members:

- ``manifest.json``: ``format`` (``"featstore head"``), ``format_version`` and everything in :class:`Head`
  except the estimator;
- ``estimator.skops``: the fitted estimator as skops writes it (JSON and ``.npy`` arrays; no pickle);
- ``linear.npz``, of linear heads: their :class:`LinearForm`, which predicts without scikit-learn, whatever
  its version. The estimator beside it is read on demand only;
- ``gated.npz``, of gated heads and instead of the estimator: their :class:`GatedForm`;
- ``seen.npz``, if known: the :class:`SeenImages` that the head was fitted and chosen on.

The archive comment holds a checksum of everything else. ``docs/FORMAT.md`` describes the format byte for
byte.
"""

import errno
import io
import json
import os
import stat
import struct
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from itertools import pairwise
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import spec_from_dict
from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.files.estimator_file import StoredEstimator, read_array
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.seen import SeenImages
from featstore.images.views import MAX_VIEWS
from featstore.io.archive import (
    ARCHIVE_COMMENT,
    check_archive,
    check_contents,
    check_members,
    member_info,
    seal_archive,
)
from featstore.io.atomic import make_last_folder, replacing
from featstore.io.manifest import refuse_newer
from featstore.io.raw import open_raw
from featstore.splits import SPLITS, SplitRule
from featstore.version import __version__

__all__ = ["FIELDS", "FORMAT_VERSION", "current_versions", "read_head_file", "write_head_file"]

# 2: rejection ("unknown"); probabilities of smoothed votes.
# 3: mean probabilities over views, joined backbones, and gated heads, which have no estimator.
# 4: content hashes of seen images, renamed classes, stratified split rules.
FORMAT_VERSION = 4

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "classes": list,
    "spec": dict,
    "fingerprint": str,
    "feature_dim": int,
    "split_rule": dict,
    "params": dict,
    "counts": dict,
    "unlabelled": int,
    "sweep": list,
    "steps": list,
    "choice": dict,
    "seed": int,
    "validation": dict,
    "test": dict,
    "near_duplicates": dict,
    "reject": (dict, type(None)),
    "leaks": int,
    "label_conflicts": int,
    "extension": dict,
    "renamed": dict,
    "temperature": (float, int, type(None)),
    "train_views": int,
    "test_views": int,
    "weights": (str, list),
    "catalog": str,
    "space": str,
    "created": str,
    "versions": dict,
}

_FORMAT = "featstore head"
_MANIFEST = "manifest.json"
_ESTIMATOR = "estimator.skops"
_LINEAR = "linear.npz"
_GATED = "gated.npz"
_SEEN = "seen.npz"
_LARGEST_MANIFEST = 16 * 2**20
# NumPy pads all labels to the longest.
_MOST_LETTERS = 2**26
# A hundred times Inception's largest feature map; memory for a row is allocated before it is validated.
_MOST_FEATURES = 2**24
_Form = TypeVar("_Form", LinearForm, GatedForm)

_PICKLES = (".pkl", ".pickle", ".joblib")


def current_versions() -> dict[str, str]:
    """Return the installed versions that a head file records."""
    packages = {name: metadata.version(name) for name in ("numpy", "scikit-learn", "skops")}
    return {"featstore": __version__, **packages}


def write_head_file(
    path: str,
    manifest: Mapping[str, Any],
    estimator: bytes,
    form: LinearForm | GatedForm | None,
    seen: SeenImages | None,
) -> None:
    """Write a head file atomically, replacing an existing file."""
    # The estimator, as dump_estimator returns it, is ignored for a gated form.
    described = {"format": _FORMAT, "format_version": FORMAT_VERSION, **manifest}
    text = json.dumps(described, indent=1, allow_nan=False)
    is_gated = isinstance(form, GatedForm)

    def verify(temporary: str) -> None:
        check_contents(temporary)
        read_head_file(temporary)

    # Archives and git drop empty folders, such as that of a store's heads.
    make_last_folder(os.path.dirname(path))
    with replacing(path, verify=verify) as temporary:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            archive.comment = ARCHIVE_COMMENT
            archive.writestr(member_info(_MANIFEST), text)
            if not is_gated:
                archive.writestr(member_info(_ESTIMATOR), estimator)
            for name, part in ((_GATED if is_gated else _LINEAR, form), (_SEEN, seen)):
                if part is not None:
                    arrays: dict[str, Any] = {**part.arrays()}
                    with archive.open(name, "w", force_zip64=True) as member:
                        np.savez(member, **arrays)
        seal_archive(temporary)


def read_head_file(path: str, *, trusted: Sequence[str | type] = ()) -> dict[str, Any]:
    """Read and validate the contents of a head file, running none of it."""
    # Returns one entry for each of FIELDS, with the spec, the split rule and the classes as objects, and
    # "linear", "gated", "seen" and "load_estimator". The latter raises HeadError or UntrustedTypeError when
    # called.
    manifest, members = _read_members(path)
    try:
        values = _checked_values(manifest)
        linear = _read_form(LinearForm, members, _LINEAR, values)
        gated = _read_form(GatedForm, members, _GATED, values)
        values["seen"] = None
        if _SEEN in members:
            values["seen"] = SeenImages.from_arrays(_read_arrays(members[_SEEN], _SEEN))
    except (FeatstoreError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise HeadError(f"{path} is damaged: {first_line(error)}") from error
    if gated is not None:
        return {
            **values,
            "linear": None,
            "gated": gated,
            "load_estimator": partial(form_estimator, gated, values["classes"], values["temperature"]),
        }
    load = StoredEstimator(
        data=members[_ESTIMATOR],
        path=path,
        trusted=tuple(trusted),
        versions=values["versions"],
        classes=values["classes"],
        feature_dim=values["feature_dim"],
    )
    return {**values, "linear": linear, "gated": None, "load_estimator": load}


def _read_members(path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise HeadError(f"{path} is not a head file, nor any regular file; featstore fit writes one")
        with open_raw(path, follow_links=True) as raw, io.BufferedReader(raw) as file:
            return _members_of(path, file)
    except FeatstoreError:
        raise
    except FileNotFoundError as error:
        raise HeadError(f"there is no head file {path}") from error
    except OSError as error:
        raise HeadError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise HeadError(f"{path} is damaged: {first_line(error)}") from error


def _members_of(path: str, file: BinaryIO) -> tuple[dict[str, Any], dict[str, bytes]]:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        raise HeadError(_no_head(path, file.read(2)))
    check_archive(path)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if _MANIFEST not in names or archive.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
            raise HeadError(f"{path} is not a head file: it is a zip without a {_MANIFEST} of valid size")
        manifest = json.loads(archive.read(_MANIFEST))
        _check_format(manifest, path=path)
        kept = {*names} - {_SEEN}
        if kept != {_MANIFEST, _GATED} and kept - {_LINEAR} != {_ESTIMATOR, _MANIFEST}:
            raise HeadError(
                f"{path} is damaged: it must hold {_MANIFEST}, {_ESTIMATOR} and, of a linear head, "
                f"{_LINEAR}, or {_MANIFEST} and {_GATED}; perhaps {_SEEN}; and nothing else"
            )
        return manifest, {name: archive.read(name) for name in names if name != _MANIFEST}


def _no_head(path: str, beginning: bytes) -> str:
    # Pickles begin with their protocol; joblib's may be compressed and are recognised by name.
    if path.lower().endswith(_PICKLES) or beginning in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return (
            f"{path} is a pickle: loading one runs any code in it, so featstore never does. If you trust its "
            "author, load it in your own program and fit it again on the features: "
            "featstore.fit(table, head=joblib.load(path)).save(...)"
        )
    return f"{path} is not a head file; `featstore fit` writes one"


def _check_format(manifest: Any, *, path: str) -> None:
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or manifest.get("format") != _FORMAT:
        raise HeadError(f"{path} is not a head file: its {_MANIFEST} does not describe a head")
    refuse_newer(path, version, FORMAT_VERSION)


def _with_defaults(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Add the fields that earlier versions did not have: the first chose on validation, with seed 0."""
    if manifest["format_version"] < 4:
        manifest = {"renamed": {}, **manifest}
    if manifest["format_version"] < 3:
        manifest = {"extension": {}, "train_views": 1, "test_views": 1, **manifest}
    if manifest["format_version"] > 1:
        return dict(manifest)
    scores = manifest.get("validation")
    chosen = scores if manifest.get("sweep") and isinstance(scores, dict) else {}
    choice = {
        "by": "validation" if chosen else None,
        "folds": None,
        "n": chosen.get("n", 0),
        "top1": chosen.get("top1"),
        "fitted_on": ["train"],
    }
    return {"choice": choice, "seed": 0, "reject": None, "near_duplicates": {}, "steps": [], **manifest}


def _checked_values(manifest: Mapping[str, Any]) -> dict[str, Any]:
    manifest = _with_defaults(manifest)
    for name, kind in FIELDS.items():
        if name not in manifest:
            raise HeadError(f"its {_MANIFEST} lacks {name}")
        if not isinstance(manifest[name], kind) or isinstance(manifest[name], bool):
            raise HeadError(f"its {_MANIFEST} has an invalid {name}: {str(manifest[name])[:80]}")
    values = {name: manifest[name] for name in FIELDS}
    checks = {
        "classes": _are_labels(values["classes"]),
        "feature_dim": 1 <= values["feature_dim"] <= _MOST_FEATURES,
        "counts": sorted(values["counts"]) == sorted(SPLITS)
        and all(map(_are_counts, values["counts"].values())),
        "validation": set(values["validation"]) == {"n", "top1", "top1_ci"},
        "test": set(values["test"]) == {"n", "top1", "top1_ci"},
        "choice": set(values["choice"]) == {"by", "folds", "n", "top1", "fitted_on"},
        "renamed": all(isinstance(name, str) for name in values["renamed"].values()),
        "reject": values["reject"] is None or _is_rejection(values["reject"]),
        "temperature": values["temperature"] is None or 0 < values["temperature"] < np.inf,
        "train_views": 1 <= values["train_views"] <= MAX_VIEWS,
        "test_views": 1 <= values["test_views"] <= MAX_VIEWS,
        "weights": isinstance(values["weights"], str) or all(isinstance(w, str) for w in values["weights"]),
    }
    if invalid := [name for name, is_valid in checks.items() if not is_valid]:
        raise HeadError(f"its {_MANIFEST} has an invalid {invalid[0]}: {str(values[invalid[0]])[:80]}")
    values["classes"] = np.array(values["classes"], dtype=np.str_)
    values["spec"] = spec_from_dict(values["spec"])
    if isinstance(values["weights"], list):
        values["weights"] = tuple(values["weights"])
    values["split_rule"] = SplitRule.from_dict(values["split_rule"])
    if values["spec"].fingerprint != values["fingerprint"]:
        raise HeadError("its fingerprint is not that of its backbone's specification")
    return values


def _read_form(
    kind: type[_Form], members: Mapping[str, bytes], name: str, values: Mapping[str, Any]
) -> _Form | None:
    if name not in members:
        return None
    arrays = _read_arrays(members[name], name)
    try:
        form = kind.from_arrays(arrays)
    except FeatstoreError:
        raise
    except Exception as error:  # a file that was tampered with may raise anything
        raise HeadError(f"its {name} cannot be read: {first_line(error)}") from error
    if (form.n_classes, form.feature_dim) != (len(values["classes"]), values["feature_dim"]):
        raise HeadError(f"its {name} does not match its {_MANIFEST}")
    return form


def _read_arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    try:
        check_members(io.BytesIO(data))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {
                entry.removesuffix(".npy"): read_array(archive.read(entry)) for entry in archive.namelist()
            }
    except FeatstoreError:
        raise
    except Exception as error:  # a file that was tampered with may raise anything
        raise HeadError(f"its {name} cannot be read: {first_line(error)}") from error


def _are_labels(classes: Sequence[Any]) -> bool:
    if len(classes) < 2 or not all(isinstance(label, str) for label in classes):
        return False
    # "" stands for an image that is not answered; NumPy drops what is zero at a label's end.
    if any(not label or label.endswith("\0") for label in classes):
        return False
    if any(one >= other for one, other in pairwise(classes)):
        return False
    return len(classes) * max(map(len, classes)) <= _MOST_LETTERS


def _are_counts(counts: Any) -> bool:
    return isinstance(counts, dict) and all(isinstance(n_images, int) for n_images in counts.values())


def _is_rejection(reject: Mapping[str, Any]) -> bool:
    below = reject.get("below")
    return (
        set(reject) == {"below", "validation", "test"}
        and isinstance(below, int | float)
        and 0 <= below < 1
        and isinstance(reject["validation"], dict)
        and isinstance(reject["test"], dict)
    )
