"""Columns of many millions of texts, most of which lie in files."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.io.long_arrays import LongArray, blocks_of, forget_pages, long_sorted, long_zeros

__all__ = ["CodedTexts", "PathIndex", "PlainTexts", "Texts", "distinct_texts"]

_BLOCK_ROWS = 2**12
_ROW_BITS = np.uint64(32)
_ROW_MASK = np.uint64(2**32 - 1)
_Pairs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


class Texts(Sequence[str | None]):
    """A column of texts, which may have surrogate escapes; the empty one is None."""

    def __iter__(self) -> Iterator[str | None]:
        for block in blocks_of(len(self), _BLOCK_ROWS):
            yield from self.block(block.start, block.stop)
        self.forget_pages()

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                return tuple(self[row] for row in range(len(self))[at])
            return tuple(self.block(start, max(start, stop)))
        row = range(len(self))[at]
        return self.block(row, row + 1)[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        if len(self) != len(other):
            return False
        for block in blocks_of(len(self), _BLOCK_ROWS):
            if self[block] != tuple(other[block]):
                return False
            for texts in (self, other):
                if isinstance(texts, Texts):
                    texts.forget_pages()
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self[:3]).removesuffix(")") + ", …)" if len(self) > 3 else repr(self[:])

    def block(self, start: int, stop: int) -> list[str | None]:
        """Return some of the texts."""
        raise NotImplementedError

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """Return some of the texts in UTF-8; None is empty."""
        raise NotImplementedError

    def distinct(self) -> set[str | None]:
        """Return the different texts."""
        return set(self)

    def forget_pages(self) -> None:
        """Give memory back to the system."""


class PlainTexts(Texts):
    """Texts most of which differ."""

    def __init__(self, texts: Sequence[str | None] = ()) -> None:
        self._bytes = LongArray(np.uint8)
        self._ends = LongArray(np.int64)
        self.extend([_encoded(text) for text in texts])

    def __len__(self) -> int:
        return len(self._ends)

    def extend(self, encoded: Sequence[bytes]) -> None:
        """Add texts, encoded as UTF-8."""
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self._ends.extend(len(self._bytes) + np.cumsum(lengths))
        self._bytes.extend(np.frombuffer(b"".join(encoded), np.uint8))

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """Return some of the texts in UTF-8; None is empty."""
        data, bounds = self._part(start, stop)
        return [data[begin:end] for begin, end in pairwise(bounds)]

    def block(self, start: int, stop: int) -> list[str | None]:
        """Return some of the texts."""
        data, bounds = self._part(start, stop)
        if data.isascii():
            text = data.decode("ascii")
            return [text[begin:end] or None for begin, end in pairwise(bounds)]
        return [_decoded(data[begin:end]) for begin, end in pairwise(bounds)]

    def forget_pages(self) -> None:
        """Give memory back to the system."""
        forget_pages(self._bytes.rows)
        forget_pages(self._ends.rows)

    def lengths(self, block: slice) -> NDArray[np.int64]:
        """Return the bytes of each of some texts."""
        ends = self._ends.rows[max(0, block.start - 1) : block.stop]
        return np.diff(ends, prepend=[0] * (block.start == 0))

    def _part(self, start: int, stop: int) -> tuple[bytes, list[int]]:
        """Return the bytes of some texts, and where each begins, and the last ends."""
        ends = self._ends.rows[max(0, start - 1) : stop].tolist()
        bounds = ends if start else [0, *ends]
        if len(bounds) < 2:
            return b"", []
        first = bounds[0]
        return self._bytes.rows[first : bounds[-1]].tobytes(), [end - first for end in bounds]


class CodedTexts(Texts):
    """Texts that repeat: each is kept once, and its number for every row."""

    def __init__(self, texts: Sequence[str | None] = ()) -> None:
        self.texts: list[str | None] = [None]
        self._codes_of: dict[str | None, int] = {None: 0, "": 0}
        self._codes = LongArray(np.int32)
        self.extend(texts)

    @classmethod
    def without_any(cls, n_rows: int) -> "CodedTexts":
        """Return a column of so many None."""
        column = cls()
        for block in blocks_of(n_rows):
            column._codes.extend(np.zeros(block.stop - block.start, np.int32))
        return column

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def codes(self) -> NDArray[np.int32]:
        """The number of each row's text in ``texts``, int32 of shape (n,); 0 is None."""
        return self._codes.rows

    def extend(self, texts: Sequence[str | None]) -> None:
        """Add texts."""
        for text in dict.fromkeys(texts):
            if text in self._codes_of:
                continue
            self._codes_of[text] = len(self.texts)
            self.texts.append(text)
        self._codes.extend(np.fromiter(map(self._codes_of.__getitem__, texts), np.int32, len(texts)))

    def block(self, start: int, stop: int) -> list[str | None]:
        """Return some of the texts."""
        return [self.texts[code] for code in self.codes[start:stop].tolist()]

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """Return some of the texts in UTF-8; None is empty."""
        known = [_encoded(text) for text in self.texts]
        return [known[code] for code in self.codes[start:stop].tolist()]

    def distinct(self) -> set[str | None]:
        """Return the different texts."""
        return set(self.counts())

    def counts(self) -> dict[str | None, int]:
        """Count the rows of each text that has any."""
        counts = np.zeros(len(self.texts), np.int64)
        for block in blocks_of(len(self)):
            counts += np.bincount(self.codes[block], minlength=len(self.texts))
        found: dict[str | None, int] = {}
        for text, count in zip(self.texts, counts.tolist(), strict=True):
            if count:
                found[text] = found.get(text, 0) + count
        return found

    def mapped(self, function: Callable[[str], str | None]) -> "CodedTexts":
        """Return the texts as a function makes them anew; it is called once for each different one."""
        texts = [text and function(text) for text in self.texts]
        if texts == self.texts:
            return self
        changed = CodedTexts()
        changed.texts, changed._codes = texts, self._codes
        # Whatever is added has numbers of its own.
        changed._codes_of = {None: 0, "": 0}
        return changed

    def forget_pages(self) -> None:
        """Give memory back to the system."""
        forget_pages(self.codes)


class PathIndex:
    """Finds the rows of paths in a column, at 8 bytes a row; a path may be in several."""

    def __init__(self, paths: Texts) -> None:
        self._paths = paths
        entries = long_zeros(len(paths), (), np.uint64)
        for part in blocks_of(len(paths)):
            for start in range(part.start, part.stop, _BLOCK_ROWS):
                stop = min(start + _BLOCK_ROWS, part.stop)
                entries[start:stop] = _marks(paths.encoded(start, stop)) | np.arange(
                    start, stop, dtype=np.uint64
                )
            paths.forget_pages()
            forget_pages(entries)
        self._entries = long_sorted(entries)

    def find(self, paths: list[bytes]) -> _Pairs:
        """Return pairs of a given path's place and a row that has this path."""
        marks = _marks(paths)
        places = np.arange(len(paths))
        at = np.searchsorted(self._entries, marks)
        found: list[tuple[int, int]] = []
        while len(places):
            near = at < len(self._entries)
            entries = self._entries[at[near]]
            marks, places, at = marks[near], places[near], at[near]
            near = entries & ~_ROW_MASK == marks
            marks, places, at = marks[near], places[near], at[near] + 1
            rows = (entries[near] & _ROW_MASK).astype(np.int64)
            there = self._texts_of(rows)
            found += [
                (place, row)
                for place, row, text in zip(places.tolist(), rows.tolist(), there, strict=True)
                if text == paths[place]
            ]
        forget_pages(self._entries)
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _texts_of(self, rows: NDArray[np.int64]) -> list[bytes]:
        if not len(rows):
            return []
        first, last = int(rows.min()), int(rows.max())
        if last - first < 4 * len(rows):
            # Most are asked for in the order in which they are here.
            block = self._paths.encoded(first, last + 1)
            return [block[row - first] for row in rows.tolist()]
        return [self._paths.encoded(row, row + 1)[0] for row in rows.tolist()]

    def repeats(self) -> dict[int, list[int]]:
        """Return the first row of each path that has several, and the others."""
        near = np.empty(0, np.uint64)
        for block in blocks_of(len(self._entries)):
            some = self._entries[max(0, block.start - 1) : block.stop]
            is_alike = some[1:] >> _ROW_BITS == some[:-1] >> _ROW_BITS
            near = np.concatenate([near, some[:-1][is_alike], some[1:][is_alike]])
        forget_pages(self._entries)
        found: dict[bytes, list[int]] = {}
        for row in sorted({*(near & _ROW_MASK).tolist()}):
            found.setdefault(self._paths.encoded(row, row + 1)[0], []).append(row)
        return {first: others for first, *others in found.values() if others}


def distinct_texts(texts: Sequence[str | None]) -> set[str | None]:
    """Return the different texts of a column."""
    return texts.distinct() if isinstance(texts, Texts) else set(texts)


def _marks(paths: list[bytes]) -> NDArray[np.uint64]:
    """Return 32 bits of each path's hash, of this process alone, in the upper half of a uint64."""
    hashes = np.fromiter(map(hash, paths), np.int64, len(paths))
    return hashes.view(np.uint64) & ~_ROW_MASK


def _encoded(text: str | None) -> bytes:
    return text.encode("utf-8", "surrogateescape") if text else b""


def _decoded(text: bytes) -> str | None:
    return text.decode("utf-8", "surrogateescape") or None
