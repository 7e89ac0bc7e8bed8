"""Which images a head has seen, by their content: eight bytes an image.

An image is known by the first eight bytes of its content hash. That another image has the same ones as any
of n has a probability of n / 2**64: 5e-14 for a million.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = ["SeenImages"]

_NAMES = ("fitted", "chosen", "complete")


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenImages:
    """The images that a head was fitted on, and those that its parameters were chosen on.

    Parameters
    ----------
    fitted, chosen : ndarray of shape (any,), uint64
        The first eight bytes of content hashes as big-endian integers, rising, each once. Images that are in
        the first are not in the second.
    is_complete : bool
        False of a head that was made of another one which does not know what it was fitted on.
    """

    fitted: NDArray[np.uint64]
    chosen: NDArray[np.uint64]
    is_complete: bool = True

    @classmethod
    def of(
        cls, fitted: NDArray[np.uint8], chosen: NDArray[np.uint8] | None = None, *, is_complete: bool = True
    ) -> Self:
        """Make it of content hashes, uint8 of shape (n, 32)."""
        told = np.unique(_prefixes(fitted))
        others = told[:0] if chosen is None else np.setdiff1d(_prefixes(chosen), told)
        return cls(fitted=told, chosen=others, is_complete=is_complete)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild it from :meth:`arrays`.

        Raises
        ------
        HeadError
            One is missing, unknown or unfit.
        """
        if set(arrays) != set(_NAMES):
            raise HeadError(f"the arrays of the images that it has seen are not {', '.join(sorted(arrays))}")
        for name in _NAMES[:2]:
            numbers = arrays[name]
            if numbers.dtype != np.dtype("<u8") or numbers.ndim != 1:
                raise HeadError(f"{name} is uint64 of one dimension; found {numbers.dtype}, {numbers.shape}")
            if (numbers[1:] <= numbers[:-1]).any():
                raise HeadError(f"the numbers of {name} must rise")
        complete = arrays["complete"]
        if complete.dtype != np.bool_ or complete.shape != ():
            raise HeadError(f"complete is one truth value; found {complete.dtype}, {complete.shape}")
        return cls(fitted=arrays["fitted"], chosen=arrays["chosen"], is_complete=bool(complete))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a file holds of it."""
        fitted, chosen = (np.asarray(one, "<u8") for one in (self.fitted, self.chosen))
        return {"fitted": fitted, "chosen": chosen, "complete": np.array(self.is_complete)}

    def have_fitted(self, hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return for each content hash whether the head was fitted on it, bool of shape (n,)."""
        return _are_among(_prefixes(hashes), self.fitted)

    def have_chosen(self, hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the same of the images that parameters were chosen on, and that it was not fitted on."""
        return _are_among(_prefixes(hashes), self.chosen)

    def joined(self, other: "SeenImages | None") -> "SeenImages":
        """Return what was seen in both; with None, of which nothing is known, it is not complete."""
        if other is None:
            return replace(self, is_complete=False)
        fitted = np.union1d(self.fitted, other.fitted)
        return SeenImages(
            fitted=fitted,
            chosen=np.setdiff1d(np.union1d(self.chosen, other.chosen), fitted),
            is_complete=self.is_complete and other.is_complete,
        )


def _prefixes(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    first = np.ascontiguousarray(np.asarray(hashes, np.uint8)[:, :8])
    return first.view(">u8").ravel().astype(np.uint64)


def _are_among(numbers: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(numbers), np.bool_)
    at = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    return np.asarray(known[at] == numbers, np.bool_)
