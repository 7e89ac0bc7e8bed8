"""Images that a head has seen, identified by eight bytes of their content hashes.

The probability that another image shares its first eight bytes with any of n is n / 2**64: 5e-14 for a
million.
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
    """Images that a head was fitted on, and others that its parameters were chosen on."""

    # Arrays hold the first eight bytes of content hashes as big-endian integers, sorted and unique.
    # is_complete is False if the head was made from another one that does not know its images.

    fitted: NDArray[np.uint64]  # (any,)
    chosen: NDArray[np.uint64]  # (any,)
    is_complete: bool = True

    @classmethod
    def of(
        cls, fitted: NDArray[np.uint8], chosen: NDArray[np.uint8] | None = None, *, is_complete: bool = True
    ) -> Self:
        """Create it from content hashes, uint8 of shape (n, 32)."""
        known = np.unique(_prefixes(fitted))
        others = known[:0] if chosen is None else np.setdiff1d(_prefixes(chosen), known)
        return cls(fitted=known, chosen=others, is_complete=is_complete)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Create it from the output of :meth:`arrays`."""
        if set(arrays) != set(_NAMES):
            raise HeadError(f"unexpected arrays of seen images: {', '.join(sorted(arrays))}")
        for name in _NAMES[:2]:
            numbers = arrays[name]
            if numbers.dtype != np.dtype("<u8") or numbers.ndim != 1:
                raise HeadError(
                    f"{name} must be uint64 of one dimension; found {numbers.dtype}, {numbers.shape}"
                )
            if (numbers[1:] <= numbers[:-1]).any():
                raise HeadError(f"the numbers of {name} must increase")
        complete = arrays["complete"]
        if complete.dtype != np.bool_ or complete.shape != ():
            raise HeadError(f"complete must be a single bool; found {complete.dtype}, {complete.shape}")
        return cls(fitted=arrays["fitted"], chosen=arrays["chosen"], is_complete=bool(complete))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store."""
        fitted, chosen = (np.asarray(one, "<u8") for one in (self.fitted, self.chosen))
        return {"fitted": fitted, "chosen": chosen, "complete": np.array(self.is_complete)}

    def have_fitted(self, hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether the head was fitted on each content hash, bool of shape (n,)."""
        return _are_among(_prefixes(hashes), self.fitted)

    def have_chosen(self, hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether parameters were chosen, but not fitted, on each content hash."""
        return _are_among(_prefixes(hashes), self.chosen)

    def joined(self, other: "SeenImages | None") -> "SeenImages":
        """Return the union; with None, of which nothing is known, it is incomplete."""
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
