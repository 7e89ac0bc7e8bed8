"""Which way up a picture is: the one EXIF tag that changes what a network sees."""

import re
import struct

__all__ = ["exif_orientation"]

_ORIENTATION = 0x0112
_TYPES = {1: "B", 3: "H", 4: "L"}  # BYTE, SHORT, LONG
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def exif_orientation(exif: bytes) -> int:
    r"""Read the orientation from an EXIF block.

    Only the first directory is looked at, and only for tag 0x0112 (EXIF 2.32, 4.6.4 A, "Orientation"). A
    reader of all tags would take longer than decoding a small photo, and would stumble over the maker notes
    that editors leave broken.

    Parameters
    ----------
    exif : bytes
        A TIFF header with its directory, with or without ``b"Exif\0\0"`` before it.

    Returns
    -------
    int
        1 to 8; 1, upright, where the tag is missing or makes no sense.

    Examples
    --------
    >>> exif_orientation(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0")
    6
    >>> exif_orientation(b"damaged")
    1
    """
    block = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order = _BYTE_ORDERS.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}L", block, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", block, start)
        for place in range(start + 2, start + 2 + 12 * n_entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, place)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + _TYPES.get(kind, "H"), block, place + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
