"""The estimator within a head file, as skops writes it: without pickle.

It is read without skops, and without running anything of it: :mod:`featstore.heads.files.estimators` knows
which types may be there, and checks each against itself. Only where the caller trusts others does skops read
it.
"""

import ast
import functools
import io
import json
import logging
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, UntrustedTypeError, first_line
from featstore.heads.calibration import class_scores
from featstore.heads.files.estimators import build, decode, foreign_types, without_jobs, written_with
from featstore.io.archive import allow_any_clock, check_members
from featstore.process import warnings_to

__all__ = ["StoredEstimator", "dump_estimator", "read_array"]

_SCHEMA = "schema.json"
_LARGEST_SCHEMA = 32 * 2**20
# Objects that are there once and used n times count n times, as skops walks them: a chain of forty lists that
# each hold the one before twice would keep it busy for ever.
_MOST_NODES = 2**22
# As NumPy's own limit, max_header_size.
_LARGEST_HEADER = 10_000
# SciPy compresses its matrices within.
_LARGEST_MATRIX = 2**28

_logger = logging.getLogger(__name__)


def dump_estimator(estimator: Any) -> bytes:
    """Write a fitted estimator.

    Raises
    ------
    HeadError
        It cannot be saved without pickle.
    """
    import skops.io

    allow_any_clock()
    try:
        data = bytes(skops.io.dumps(estimator))
        unknown = _foreign_types(data, _look_through(data))
    except Exception as error:  # an estimator of the user's own may raise anything
        name = type(estimator).__name__
        raise HeadError(f"{name} cannot be saved without pickle: {first_line(error)}") from error
    if unknown:
        _logger.warning("loading this head will need trusted=[%s]", ", ".join(map(repr, unknown)))
    return data


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredEstimator:
    """An estimator in a file, which is rebuilt when it is called.

    Parameters
    ----------
    data : bytes
        As :func:`dump_estimator` writes it.
    path : str
        The head file, for messages.
    trusted : tuple of str or type
        Types that may be created beyond those that are always trusted.
    versions : mapping
        The head's.
    classes : ndarray of shape (n_classes,), str
    feature_dim : int
    """

    data: bytes
    path: str
    trusted: tuple[str | type, ...]
    versions: Mapping[str, str]
    classes: NDArray[np.str_]
    feature_dim: int

    def __call__(self) -> Any:
        """Rebuild the estimator.

        Raises
        ------
        HeadError
            It is damaged, or not of this head.
        UntrustedTypeError
            It holds types that are not trusted.
        """
        allowed = [
            entry if isinstance(entry, str) else f"{entry.__module__}.{entry.__qualname__}"
            for entry in self.trusted
        ]
        try:
            schema = _look_through(self.data)
            foreign = _foreign_types(self.data, schema)
            unknown = sorted({*foreign} - {*allowed})
            if not unknown:
                estimator = self._trusted(allowed) if foreign else self._checked(schema)
                self._note_version(schema)
                # Parts that do not fit together show when they are first used.
                with warnings_to(lambda _text: None):
                    estimator.predict(np.ones((1, self.feature_dim)))
                    class_scores(estimator, np.ones((1, self.feature_dim)))
        except Exception as error:  # what can go wrong in a file that was tampered with is no closed set
            raise HeadError(
                f"{self.path} is damaged: its estimator cannot be read: {first_line(error)}"
            ) from error
        if unknown:
            listed = ", ".join(map(repr, foreign))
            raise UntrustedTypeError(
                f"{self.path} holds types that are not trusted, for what is in them cannot be checked: "
                f"{', '.join(unknown)}; if you trust their code and whoever wrote the file, load it with "
                f"trusted=[{listed}]"
            )
        return estimator

    def _checked(self, schema: Any) -> Any:
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            # One that is there twice is read once: the file's size bounds the memory.
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
            raise ValueError("its estimator and its manifest do not agree")
        return estimator

    def _note_version(self, schema: Any) -> None:
        import sklearn

        if written_with(schema) not in ("", sklearn.__version__):
            written = self.versions.get("scikit-learn", "?")
            _logger.warning("%s was written with scikit-learn %s; its results may differ", self.path, written)


def read_array(data: bytes) -> NDArray[Any]:
    """Read a ``.npy`` file whose array is exactly as large as it says, and holds no objects.

    Raises
    ------
    ValueError
        The message says what was found.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"an array has format version {version}, which does not exist")
    width = 2 if version == (1, 0) else 4
    header = file.read(int.from_bytes(file.read(width), "little"))
    if len(header) > _LARGEST_HEADER:
        raise ValueError(f"an array has a header of {len(header):,} bytes")
    told = ast.literal_eval(header.decode("utf-8" if version == (3, 0) else "latin1").strip())
    dtype, shape = np.lib.format.descr_to_dtype(told["descr"]), told["shape"]
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"an array has the type {dtype}, which is not read")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"an array has the shape {shape}")
    if file.tell() + math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} and type {dtype} is not as large as it says")
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def _look_through(data: bytes) -> Any:
    """Return the schema of a skops file; refuse one that would take much more time or memory than its size.

    Raises
    ------
    ValueError
        The message says why; also for a file that is no zip.
    """
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
                raise ValueError(f"it holds {member.filename[:80]!r}, which skops does not write")
        if archive.getinfo(_SCHEMA).file_size > _LARGEST_SCHEMA:
            raise ValueError(f"its {_SCHEMA} is larger than {_LARGEST_SCHEMA // 2**20} MiB")
        schema = json.loads(archive.read(_SCHEMA))
    if _n_nodes(schema) > _MOST_NODES:
        raise ValueError("its objects are nested within each other too often")
    return schema


def _n_nodes(schema: Any) -> int:
    """Count the nodes of a schema as often as they are used: one that is there again is known by its id."""
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
            counts[number] = max(1 + sum(map(count, told.values())) for told in found[number])
        return counts[number]

    collect(schema)
    return count(schema)


def _foreign_types(data: bytes, schema: Any) -> list[str]:
    """Return the names of the types that are in a file beyond those that are checked."""
    foreign = foreign_types(schema)
    if foreign:
        import skops.io

        # It also names methods, which are not types.
        foreign |= {*skops.io.get_untrusted_types(data=data)}
    return sorted(foreign)
