"""The estimator within a head file: skops without pickle, looked through before skops sees it."""

import ast
import io
import json
import logging
import math
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, UntrustedTypeError
from featstore.heads.calibration import class_scores
from featstore.store.archive import check_members

__all__ = ["dump_estimator", "first_line", "load_estimator", "read_array"]

# What our heads need beyond the types that skops trusts of itself (scikit-learn's estimators, NumPy's arrays,
# SciPy's matrices): nothing, and a test says so.
_TRUSTED: tuple[str, ...] = ()

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

    try:
        data = bytes(skops.io.dumps(estimator))
        _look_through(data)
        unknown = _untrusted_types(data)
    except Exception as error:  # an estimator of the user's own may raise anything
        name = type(estimator).__name__
        raise HeadError(f"{name} cannot be saved without pickle: {first_line(error)}") from error
    if unknown:
        _logger.warning("loading this head will need trusted=[%s]", ", ".join(map(repr, unknown)))
    return data


def load_estimator(
    data: bytes,
    *,
    path: str,
    trusted: Sequence[str | type],
    versions: Mapping[str, str],
    classes: NDArray[np.str_],
    feature_dim: int,
) -> Any:
    """Rebuild an estimator.

    Parameters
    ----------
    data : bytes
        As :func:`dump_estimator` writes it.
    path : str
        The head file, for messages.
    trusted : sequence of str or type
        Types that may be created beyond those that are always trusted.
    versions : mapping
        The head's.
    classes : ndarray of shape (n_classes,), str
    feature_dim : int

    Raises
    ------
    HeadError
        It is damaged, or not of this head.
    UntrustedTypeError
        It holds types that are not trusted.
    """
    import skops.io

    allowed = [*_TRUSTED]
    allowed += [
        entry if isinstance(entry, str) else f"{entry.__module__}.{entry.__qualname__}" for entry in trusted
    ]
    try:
        _look_through(data)
        unknown = _untrusted_types(data, allowed)
        if not unknown:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator = skops.io.loads(data, trusted=allowed)
            if any("version" in type(entry.message).__name__.lower() for entry in caught):
                written = versions.get("scikit-learn", "?")
                _logger.warning("%s was written with scikit-learn %s; its results may differ", path, written)
            known = np.asarray(getattr(estimator, "classes_", ()))
            n_features = getattr(estimator, "n_features_in_", feature_dim)
            agrees = n_features == feature_dim and np.array_equal(known, classes)
            if agrees:
                # Parts that do not fit together show when they are first used.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    estimator.predict(np.zeros((1, feature_dim)))
                    class_scores(estimator, np.zeros((1, feature_dim)))
    except Exception as error:  # what can go wrong in a file that was tampered with is no closed set
        raise HeadError(f"{path} is damaged: its estimator cannot be read: {first_line(error)}") from error
    if unknown:
        listed = ", ".join(map(repr, unknown))
        raise UntrustedTypeError(
            f"{path} holds types that are not trusted: {', '.join(unknown)}; if you trust their code and "
            f"whoever wrote the file, load it with trusted=[{listed}]"
        )
    if not agrees:
        raise HeadError(f"{path} is damaged: its estimator and its manifest do not agree")
    return estimator


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


def _look_through(data: bytes) -> None:
    """Refuse a skops file that would take much more time or memory than its size.

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


def _untrusted_types(data: bytes, allowed: Sequence[str] = _TRUSTED) -> list[str]:
    import skops.io

    return sorted({*skops.io.get_untrusted_types(data=data)} - {*allowed})


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]
