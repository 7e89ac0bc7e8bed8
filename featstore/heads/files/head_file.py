"""The head file: writing and reading.

An uncompressed zip with these members:

- ``manifest.json``: ``format`` (``"featstore head"``), ``format_version`` and everything in :class:`Head`
  except the estimator;
- ``estimator.skops``: the fitted estimator as skops writes it (JSON and ``.npy`` arrays; no pickle);
- ``linear.npz``, of linear heads: their :class:`LinearForm`, which predicts without scikit-learn, whatever
  its version. The estimator beside it is read on demand only;
- ``gated.npz``, of gated heads and instead of the estimator: their :class:`GatedForm`;
- ``kernel.npz``, of kernel heads and instead of the estimator: their :class:`KernelForm`;
- ``network.npz``, of heads with a hidden layer and instead of the estimator: their :class:`NetworkForm`;
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, SeveralLabelsError, TargetError, first_line
from featstore.heads.files.estimator_file import StoredEstimator, read_array
from featstore.heads.files.manifest import MANIFEST, checked_values
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.seen import SeenImages
from featstore.io.archives.safe_zip import (
    ARCHIVE_COMMENT,
    check_archive,
    check_contents,
    check_members,
    member_info,
    seal_archive,
)
from featstore.io.hdf5.raw import open_raw
from featstore.io.manifest import refuse_newer
from featstore.io.storage.opening import storage_of
from featstore.io.urls import is_url
from featstore.version import __version__

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "KERNEL",
    "LABELS",
    "LARGEST_MANIFEST",
    "LINEAR",
    "NEIGHBORS",
    "NUMBER",
    "QUESTIONS",
    "SEEN",
    "Question",
    "current_versions",
    "read_arrays",
    "read_head_file",
    "read_members",
    "write_archive",
    "write_head_file",
]

# 2: rejection ("unknown"); probabilities of smoothed votes.
# 3: mean probabilities over views, joined backbones, and gated heads, which have no estimator.
# 4: content hashes of seen images, renamed classes, stratified split rules.
# 5: kernel heads, 6: heads with a hidden layer; neither has an estimator. 7: gated heads of other than linear
# classifiers, or with features that the old head does not see. Of other heads 4 is written, which earlier
# readers read.
FORMAT_VERSION = 7

FORMAT = "featstore head"
_ESTIMATOR = "estimator.skops"
LINEAR = "linear.npz"
_GATED = "gated.npz"
KERNEL = "kernel.npz"
NEIGHBORS = "neighbors.npz"
_NETWORK = "network.npz"
_MEMBERS: Mapping[type, tuple[str, int]] = {
    GatedForm: (_GATED, 4),
    KernelForm: (KERNEL, 5),
    NetworkForm: (_NETWORK, 6),
}
SEEN = "seen.npz"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What heads of another question than one label have in their files."""

    version: int
    members: tuple[str, ...]  # of which a file has one
    does: str
    takers: str
    error: type[FeatstoreError]


LABELS, NUMBER = "labels", "number"
QUESTIONS = {
    LABELS: Question(
        version=8,
        members=(LINEAR, KERNEL),
        does="gives several labels",
        takers="predict, evaluate, compare, report, serve and export",
        error=SeveralLabelsError,
    ),
    NUMBER: Question(
        version=9,
        members=(LINEAR, KERNEL, NEIGHBORS),
        does="predicts a number",
        takers="predict, evaluate, compare and export",
        error=TargetError,
    ),
}

LARGEST_MANIFEST = 16 * 2**20
_Form = TypeVar("_Form", LinearForm, GatedForm, KernelForm, NetworkForm)

_PICKLES = (".pkl", ".pickle", ".joblib")


def current_versions() -> dict[str, str]:
    """Return the installed versions that a head file records."""
    packages = {name: metadata.version(name) for name in ("numpy", "scikit-learn", "skops")}
    return {"featstore": __version__, **packages}


def write_head_file(
    path: str,
    manifest: Mapping[str, Any],
    estimator: bytes,
    form: LinearForm | GatedForm | KernelForm | NetworkForm | None,
    seen: SeenImages | None,
) -> None:
    """Write a head file atomically, replacing an existing file."""
    # The estimator, as dump_estimator returns it, is ignored unless the form is linear, or there is none.
    member_name, version = _MEMBERS.get(type(form), (LINEAR, 4))
    if isinstance(form, GatedForm) and not form.is_plain:
        version = 7
    described = {"format": FORMAT, "format_version": version, **manifest}
    parts = {member_name: form, SEEN: seen}
    write_archive(path, described, parts, estimator if member_name == LINEAR else None, read_head_file)


def write_archive(
    path: str,
    described: Mapping[str, Any],
    parts: Mapping[str, Any],
    estimator: bytes | None,
    read: Callable[[str], Any],
) -> None:
    """Write a manifest and arrays by the names of their members, and read them back before renaming."""
    text = json.dumps(described, indent=1, allow_nan=False)

    def verify(temporary: str) -> None:
        check_contents(temporary)
        read(temporary)

    # Archives and git drop empty folders, such as that of a store's heads.
    storage = storage_of(path)
    storage.make_folder(os.path.dirname(path), parents=False)
    with storage.replacing(path, verify=verify) as temporary:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            archive.comment = ARCHIVE_COMMENT
            archive.writestr(member_info(MANIFEST), text)
            if estimator is not None:
                archive.writestr(member_info(_ESTIMATOR), estimator)
            for name, part in parts.items():
                if part is not None:
                    arrays: dict[str, Any] = {**part.arrays()}
                    with archive.open(name, "w", force_zip64=True) as member:
                        np.savez(member, **arrays)
        seal_archive(temporary)


def read_head_file(path: str, *, trusted: Sequence[str | type] = ()) -> dict[str, Any]:
    """Read and validate the contents of a head file, running none of it."""
    # Returns one entry for each of FIELDS, with the spec, the split rule and the classes as objects, and
    # "linear", "gated", "kernel", "network", "seen" and "load_estimator". The latter raises HeadError or
    # UntrustedTypeError when called.
    manifest, members = read_members(path)
    try:
        values = checked_values(manifest)
        linear = _read_form(LinearForm, members, LINEAR, values)
        gated = _read_form(GatedForm, members, _GATED, values)
        kernel = _read_form(KernelForm, members, KERNEL, values)
        network = _read_form(NetworkForm, members, _NETWORK, values)
        values["seen"] = None
        if SEEN in members:
            values["seen"] = SeenImages.from_arrays(read_arrays(members[SEEN], SEEN))
    except (FeatstoreError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise HeadError(f"{path} is damaged: {first_line(error)}") from error
    forms = {"gated": gated, "kernel": kernel, "network": network}
    if (form := gated or kernel or network) is not None:
        return {
            **values,
            "linear": None,
            **forms,
            "load_estimator": partial(form_estimator, form, values["classes"], values["temperature"]),
        }
    load = StoredEstimator(
        data=members[_ESTIMATOR],
        path=path,
        trusted=tuple(trusted),
        versions=values["versions"],
        classes=values["classes"],
        feature_dim=values["feature_dim"],
    )
    return {**values, "linear": linear, **forms, "load_estimator": load}


def read_members(path: str, *, question: str = "") -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the other members of a head's file, of one label or of another question."""
    try:
        mode = stat.S_IFREG if is_url(path) else os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise HeadError(f"{path} is not a head file, nor any regular file; featstore fit writes one")
        with open_raw(path, follow_links=True) as raw, io.BufferedReader(raw) as file:
            return _members_of(path, file, question)
    except FeatstoreError:
        raise
    except FileNotFoundError as error:
        raise HeadError(f"there is no head file {path}") from error
    except OSError as error:
        raise HeadError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise HeadError(f"{path} is damaged: {first_line(error)}") from error


def _members_of(path: str, file: BinaryIO, question: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        raise HeadError(_no_head(path, file.read(2)))
    check_archive(path)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if MANIFEST not in names or archive.getinfo(MANIFEST).file_size > LARGEST_MANIFEST:
            raise HeadError(f"{path} is not a head file: it is a zip without a {MANIFEST} of valid size")
        manifest = json.loads(archive.read(MANIFEST))
        _check_format(manifest, path=path, question=question)
        kept = {*names} - {SEEN}
        whole = [{MANIFEST, member} for member, _ in _MEMBERS.values()]
        if question:
            forms = QUESTIONS[question].members
            if SEEN not in names or kept not in [{MANIFEST, form} for form in forms]:
                raise HeadError(
                    f"{path} is damaged: it must hold {MANIFEST}, {SEEN} and one of {', '.join(forms)}"
                )
        if not question and kept not in whole and kept - {LINEAR} != {_ESTIMATOR, MANIFEST}:
            raise HeadError(
                f"{path} is damaged: it must hold {MANIFEST}, {_ESTIMATOR} and, of a linear head, "
                f"{LINEAR}, or {MANIFEST} and one of {_GATED}, {KERNEL} and {_NETWORK}; "
                f"perhaps {SEEN}; and nothing else"
            )
        return manifest, {name: archive.read(name) for name in names if name != MANIFEST}


def _no_head(path: str, beginning: bytes) -> str:
    # Pickles begin with their protocol; joblib's may be compressed and are recognised by name.
    if path.lower().endswith(_PICKLES) or beginning in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return (
            f"{path} is a pickle: loading one runs any code in it, so featstore never does. If you trust its "
            "author, load it in your own program and fit it again on the features: "
            "featstore.fit(table, head=joblib.load(path)).save(...)"
        )
    return f"{path} is not a head file; `featstore fit` writes one"


def _check_format(manifest: Any, *, path: str, question: str = "") -> None:
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or manifest.get("format") != FORMAT:
        raise HeadError(f"{path} is not a head file: its {MANIFEST} does not describe a head")
    found = manifest.get("question", "")
    if found in QUESTIONS and not question:
        other = QUESTIONS[found]
        raise other.error(
            f"{path} is a head that {other.does}, and this takes heads with one label: fit one on a catalog "
            f"of one label an image. A head that {other.does} is for {other.takers} (featstore.load_head)"
        )
    if question and found != question:
        raise HeadError(
            f"{path} is not a head that {QUESTIONS[question].does}; featstore.load_head reads any head"
        )
    refuse_newer(path, version, QUESTIONS[question].version if question else FORMAT_VERSION)


def _read_form(
    kind: type[_Form], members: Mapping[str, bytes], name: str, values: Mapping[str, Any]
) -> _Form | None:
    if name not in members:
        return None
    arrays = read_arrays(members[name], name)
    try:
        form = kind.from_arrays(arrays)
    except FeatstoreError:
        raise
    except Exception as error:  # a file that was tampered with may raise anything
        raise HeadError(f"its {name} cannot be read: {first_line(error)}") from error
    if (form.n_classes, form.feature_dim) != (len(values["classes"]), values["feature_dim"]):
        raise HeadError(f"its {name} does not match its {MANIFEST}")
    return form


def read_arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays in a member."""
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
