"""The estimator within a head file, as skops writes it: without pickle.

It is read without skops and without running any of its code: :mod:`featstore.heads.files.estimators` knows
which types may occur and validates each. Only types that the caller trusts are read by skops.
"""

import ast
import functools
import io
import json
import logging
import math
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, UntrustedTypeError, first_line
from featstore.heads.calibration import class_scores
from featstore.heads.files.estimators import build, decode, foreign_types, without_jobs, written_with
from featstore.io.archives.safe_zip import allow_any_clock, check_members
from featstore.io.atomic import failure_reason
from featstore.io.hdf5.raw import refusal
from featstore.process import warnings_to

__all__ = ["StoredEstimator", "dump_estimator", "read_array"]

_SCHEMA = "schema.json"
_LARGEST_SCHEMA = 32 * 2**20
# Objects used n times count n times, as skops walks them: a chain of forty lists that each hold the one
# before twice would keep it busy for ever.
_MOST_NODES = 2**22
# As NumPy's own limit, max_header_size.
_LARGEST_HEADER = 10_000
# SciPy's matrices are compressed within.
_LARGEST_MATRIX = 2**28

_logger = logging.getLogger(__name__)


def dump_estimator(estimator: Any) -> bytes:
    """Serialise a fitted estimator; raise HeadError if that takes pickle."""
    import skops.io

    allow_any_clock()
    try:
        data = bytes(skops.io.dumps(estimator))
        unknown = _foreign_types(data, _checked_schema(data))
    except Exception as error:  # an estimator of the user's own may raise anything
        name = type(estimator).__name__
        raise HeadError(f"{name} cannot be saved without pickle: {first_line(error)}") from error
    if unknown:
        _logger.warning("loading this head will need %s", _how_to_trust(unknown))
    return data


def _how_to_trust(types: Sequence[str]) -> str:
    options = " ".join(f"--trust {shlex.quote(name)}" for name in types)
    return f"trusted=[{', '.join(map(repr, types))}] (on the command line {options})"


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredEstimator:
    """A serialised estimator, which is rebuilt when called."""

    data: bytes
    path: str
    trusted: tuple[str | type, ...]
    versions: Mapping[str, str]
    classes: NDArray[np.str_]  # (n_classes,)
    feature_dim: int

    def __call__(self) -> Any:
        """Rebuild the estimator; raise HeadError or UntrustedTypeError."""
        allowed = [
            entry if isinstance(entry, str) else f"{entry.__module__}.{entry.__qualname__}"
            for entry in self.trusted
        ]
        try:
            schema = _checked_schema(self.data)
            foreign = _foreign_types(self.data, schema)
            unknown = sorted({*foreign} - {*allowed})
            if not unknown:
                estimator = self._trusted(allowed) if foreign else self._checked(schema)
                self._note_version(schema)
                # Inconsistent parts only fail when they are used.
                with warnings_to(lambda _text: None):
                    estimator.predict(np.ones((1, self.feature_dim)))
                    class_scores(estimator, np.ones((1, self.feature_dim)))
        except Exception as error:  # a file that was tampered with may raise anything
            if refused := refusal(error):
                raise HeadError(f"{self.path} cannot be read: {failure_reason(refused)}") from error
            raise HeadError(
                f"{self.path} is damaged: its estimator cannot be read: {first_line(error)}"
            ) from error
        if unknown:
            raise UntrustedTypeError(
                f"{self.path} contains types that are not trusted, because their content cannot be "
                f"validated: {', '.join(unknown)}; if you trust their code and the author of the file, load "
                f"it with {_how_to_trust(foreign)}"
            )
        return estimator

    def _checked(self, schema: Any) -> Any:
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            # Each member is read once, so that the file's size bounds the memory.
            array = functools.cache(lambda name: read_array(archive.read(name)))
            stored = decode(schema, array)
        return build(stored, feature_dim=self.feature_dim, classes=self.classes)

    def _trusted(self, allowed: Sequence[str]) -> Any:
        import skops.io

        with warnings_to(lambda _text: None):
            estimator = skops.io.loads(self.data, trusted=allowed)
        without_jobs(estimator)
        known = np.asarray(getattr(estimator, "classes_", ()))
        n_features = getattr(estimator, "n_features_in_", self.feature_dim)
        if n_features != self.feature_dim or not np.array_equal(known, self.classes):
            raise ValueError("its estimator does not match its manifest")
        return estimator

    def _note_version(self, schema: Any) -> None:
        import sklearn

        if written_with(schema) not in ("", sklearn.__version__):
            written = self.versions.get("scikit-learn", "?")
            _logger.warning("%s was written with scikit-learn %s; its results may differ", self.path, written)


def read_array(data: bytes) -> NDArray[Any]:
    """Read a ``.npy`` file whose size matches its header and which holds no objects."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"an array has format version {version}, which does not exist")
    width = 2 if version == (1, 0) else 4
    header = file.read(int.from_bytes(file.read(width), "little"))
    if len(header) > _LARGEST_HEADER:
        raise ValueError(f"an array has a header of {len(header):,} bytes")
    described = ast.literal_eval(header.decode("utf-8" if version == (3, 0) else "latin1").strip())
    dtype, shape = np.lib.format.descr_to_dtype(described["descr"]), described["shape"]
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"an array has the type {dtype}, which is not read")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"an array has the shape {shape}")
    if file.tell() + math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(
            f"an array of shape {shape} and type {dtype} has another size than its header states"
        )
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def _checked_schema(data: bytes) -> Any:
    """Return the schema of a skops file; refuse decompression bombs and unknown members."""
    file = io.BytesIO(data)
    check_members(file)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                read_array(archive.read(member))
            elif member.filename.endswith(".npz"):
                with zipfile.ZipFile(io.BytesIO(archive.read(member))) as matrix:
                    if sum(part.file_size for part in matrix.infolist()) > _LARGEST_MATRIX:
                        raise ValueError("a matrix in it would unpack to more than 256 MiB")
            elif member.filename != _SCHEMA and not member.filename.endswith(".bin"):
                raise ValueError(f"it contains {member.filename[:80]!r}, which skops does not write")
        if archive.getinfo(_SCHEMA).file_size > _LARGEST_SCHEMA:
            raise ValueError(f"its {_SCHEMA} is larger than {_LARGEST_SCHEMA // 2**20} MiB")
        schema = json.loads(archive.read(_SCHEMA))
    if _n_nodes(schema) > _MOST_NODES:
        raise ValueError("its objects are nested within each other too often")
    return schema


def _n_nodes(schema: Any) -> int:
    """Count the nodes of a schema as often as they are used; repeated nodes are found by their id."""
    found: dict[Any, list[Any]] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("__id__") is not None:
                found.setdefault(value["__id__"], []).append(value)
            value = value.values()
        elif not isinstance(value, list):
            return
        for entry in value:
            collect(entry)

    counts: dict[Any, int] = {}

    def count(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(count, value))
        if not isinstance(value, dict):
            return 0
        number = value.get("__id__")
        if number is None:
            return 1 + sum(map(count, value.values()))
        if number not in counts:
            counts[number] = 1  # for what holds itself
            counts[number] = max(1 + sum(map(count, node.values())) for node in found[number])
        return counts[number]

    collect(schema)
    return count(schema)


def _foreign_types(data: bytes, schema: Any) -> list[str]:
    """Return the names of the types in a file that are not validated."""
    foreign = foreign_types(schema)
    if foreign:
        import skops.io

        # It also names methods, which are not types.
        foreign |= {*skops.io.get_untrusted_types(data=data)}
    return sorted(foreign)
