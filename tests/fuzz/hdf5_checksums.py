"""The checksums of HDF5's own headers, made right again: changes of a header get past them."""

from collections.abc import Iterator

_WORD = 2**32 - 1


def mend_headers(data: bytes, seed: bytes) -> bytes:
    """Return a changed file of HDF5 1.8 with right checksums, wherever its seed has some."""
    mended = bytearray(data)
    for begin, end in _checked_regions(seed):
        mended[end : end + 4] = lookup3(bytes(mended[begin:end])).to_bytes(4, "little")
    return bytes(mended)


def _checked_regions(seed: bytes) -> Iterator[tuple[int, int]]:
    """Yield where bytes begin and end that a checksum follows (HDF5 file format 2.0, II.A and IV.A.1.b)."""
    yield 0, 44
    at = seed.find(b"OHDR")
    while at >= 0:
        flags = seed[at + 5]
        start = at + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
        width = 1 << (flags & 3)
        end = start + width + int.from_bytes(seed[start : start + width], "little")
        if lookup3(seed[at:end]).to_bytes(4, "little") == seed[end : end + 4]:
            yield at, end
            yield from _continuations(seed, start + width, end, order=bool(flags & 4))
        at = seed.find(b"OHDR", at + 4)


def _continuations(seed: bytes, at: int, end: int, *, order: bool) -> Iterator[tuple[int, int]]:
    while at + 4 <= end:
        kind, size = seed[at], int.from_bytes(seed[at + 1 : at + 3], "little")
        body = at + (6 if order else 4)
        if kind == 16:
            begin = int.from_bytes(seed[body : body + 8], "little")
            length = int.from_bytes(seed[body + 8 : body + 16], "little")
            yield begin, begin + length - 4
            yield from _continuations(seed, begin + 4, begin + length - 4, order=order)
        at = body + size


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hashlittle with 0 as its initial value, which HDF5 takes for its headers."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    at = 0
    while len(data) - at > 12:
        a = (a + int.from_bytes(data[at : at + 4], "little")) & _WORD
        b = (b + int.from_bytes(data[at + 4 : at + 8], "little")) & _WORD
        c = (c + int.from_bytes(data[at + 8 : at + 12], "little")) & _WORD
        for shift in (4, 6, 8, 16, 19, 4):
            # mix(): the three words change places after each of its six lines.
            a = ((a - c) & _WORD) ^ _turned(c, shift)
            c = (c + b) & _WORD
            a, b, c = b, c, a
        at += 12
    rest = data[at:]
    if not rest:
        return c
    rest = rest + bytes(12 - len(rest))
    a = (a + int.from_bytes(rest[:4], "little")) & _WORD
    b = (b + int.from_bytes(rest[4:8], "little")) & _WORD
    c = (c + int.from_bytes(rest[8:], "little")) & _WORD
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, shift)) & _WORD
        a, b, c = b, c, a
    return (a, b, c)[1]


def _turned(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _WORD
