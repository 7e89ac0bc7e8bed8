"""Parameters and fitted attributes of a stored estimator, before it is rebuilt."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts", "Stored", "is_number", "is_plain"]

_LARGEST = 1e150


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An estimator as stored in a file."""

    kind: str  # "module.Class"
    values: dict[str, Any]  # plain values, arrays and nested Stored


@dataclass(kw_only=True)
class Parts:
    """Validated parts to rebuild an estimator from, collected by its check."""

    stored: Stored
    width: int  # number of input features
    widest: int
    classes: NDArray[Any]  # (n_classes,)
    build: Callable[[Stored, int, NDArray[Any]], tuple[Any, int]]
    params: dict[str, Any] = field(default_factory=dict)  # constructor parameters
    fitted: dict[str, Any] = field(default_factory=dict)  # attributes set afterwards

    @property
    def n_rows(self) -> int:
        """Number of rows of coefficients of a linear classifier: one for two classes."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def wrong(self, what: str) -> ValueError:
        """Return the error for an inconsistent part."""
        return ValueError(f"{self.stored.kind.rpartition('.')[2]} has {what}")

    def array(self, name: str, *shape: int | None, above: float | None = None) -> NDArray[Any]:
        """Take over an array of finite floats; None in the shape stands for any positive length."""
        array = self._floats(name, self.stored.values.get(name), shape, above)
        self.fitted[name] = array
        return array

    def optional(self, name: str, *shape: int | None, above: float | None = None) -> None:
        """Take over an array that may be missing or None."""
        if self.stored.values.get(name) is None:
            self.fitted[name] = None
        else:
            self.array(name, *shape, above=above)

    def arrays(
        self, name: str, shapes: Sequence[tuple[int | None, ...]], *, above: float | None = None
    ) -> list[NDArray[Any]]:
        """Take over a list of arrays."""
        found = self.stored.values.get(name)
        if not isinstance(found, list) or len(found) != len(shapes):
            raise self.wrong(f"not {len(shapes)} arrays in {name}")
        self.fitted[name] = [
            self._floats(f"{name}[{at}]", array, shape, above)
            for at, (array, shape) in enumerate(zip(found, shapes, strict=True))
        ]
        return list(self.fitted[name])

    def labels(self) -> None:
        """Take over ``classes_``, which must be the expected ones."""
        found = self.stored.values.get("classes_", self.classes)
        if not (
            isinstance(found, np.ndarray)
            and found.dtype.kind == self.classes.dtype.kind
            and np.array_equal(found, self.classes)
        ):
            raise self.wrong("other classes: its estimator does not match its manifest")
        self.fitted["classes_"] = found

    def intercepts(self, name: str, count: int) -> None:
        """Take over one number for each row of coefficients, or one for all."""
        found = self.stored.values.get(name)
        if is_number(found):
            self.fitted[name] = np.full(count, found, np.float64)
        elif isinstance(found, np.ndarray) and found.shape == (1,):
            self.array(name, 1)
        else:
            self.array(name, count)

    def one_of(self, name: str, choices: Iterable[Any]) -> Any:
        """Return a parameter that must have one of the given values."""
        value = self.params.get(name)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise self.wrong(f"{name}={str(value)[:80]!r}, which is not read")
        return value

    def _floats(
        self, name: str, array: Any, shape: tuple[int | None, ...], above: float | None
    ) -> NDArray[Any]:
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
            raise self.wrong(f"a {name} that is no array of floats")
        fits = len(shape) == array.ndim and all(
            found == wanted if wanted is not None else found > 0
            for found, wanted in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("n" if length is None else str(length) for length in shape)
            raise self.wrong(f"a {name} of shape {array.shape}; expected ({wanted})")
        # Larger numbers overflow even double precision when multiplied by a feature.
        if not float(np.abs(array).max(initial=0.0)) < _LARGEST:
            raise self.wrong(f"a {name} with NaN, infinity or numbers beyond {_LARGEST:g}")
        if above is not None and not (array > above).all():
            raise self.wrong(f"a {name} that is not above {above:g}")
        return array


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    is_real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_real and bool(abs(value) < _LARGEST)


def is_plain(value: Any) -> bool:
    """Return whether a value contains no estimator."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not isinstance(value, Stored)
