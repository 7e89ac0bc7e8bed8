"""Fuzz targets of the rooms that take what users bring: pictures, CSV lists, split lists.

A target takes bytes and returns; what it raises is a finding. ``SEEDS`` holds what each starts from.
"""

import os
import tempfile
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

import corpus
from featstore.errors import ImageError, SourceError
from featstore.images import formats
from featstore.images.decode import RESIZE_RULES, decode_image
from featstore.images.sources import open_source

_MAX_PIXELS = 2**18
_MAX_TEXT_BYTES = 8192


def decode(data: bytes) -> None:
    """Pixels of the right shape, or one printable line. Large pictures are refused, so that a run is short."""
    rule = RESIZE_RULES[len(data) % len(RESIZE_RULES)]
    with mock.patch.object(formats, "MAX_PIXELS", _MAX_PIXELS):
        try:
            pixels = decode_image(data, size_px=(10, 14), resize=rule)
        except ImageError as error:
            reason = str(error)
            if not reason.isprintable() or not 0 < len(reason) < 200 or "object at" in reason:
                raise AssertionError(reason) from error
            return
    assert pixels.shape == (10, 14, 3), pixels.shape
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.flags.c_contiguous


def csv(data: bytes) -> None:
    """A source whose files are there and whose texts can be kept, or a SourceError of one line."""
    source = _opened("fuzz.csv" if len(data) % 2 else "fuzz.tsv", data)
    if source is None:
        return
    paths = [record.path for record in source.records] + [path for path, _ in source.failures]
    assert source.records
    assert len(set(paths)) == len(paths), paths
    for record in source.records:
        assert os.path.isfile(os.path.join(source.root, record.path)), record
        assert record.split in (None, "train", "validation", "test"), record
        for text in (record.label, record.group):
            assert text is None or text.strip() == text != "", record
            assert text is None or "\0" not in text, record
            assert text is None or len(text.encode()) <= _MAX_TEXT_BYTES, record
    for path in paths:
        assert "\0" not in path
        assert len(os.fsencode(path)) <= _MAX_TEXT_BYTES, path


def split_list(data: bytes) -> None:
    """The images that the list names, or a SourceError of one line."""
    source = _opened("fuzz.txt", data)
    if source is not None:
        told = source.given_splits()
        assert told["test"] + told["rule"] == len(source.records) == 4, told
        assert told["test"] <= sum(bool(line.strip()) for line in data.splitlines()), told


def _opened(name, data):
    folder = _folder()
    path = folder / name
    path.write_bytes(data)
    try:
        return open_source(folder / "photos", test_list=path) if name == "fuzz.txt" else open_source(path)
    except SourceError as error:
        if not str(error).isprintable() or len(str(error)) > 10_000:
            raise AssertionError(str(error)) from error
        return None
    finally:
        path.unlink()


@cache
def _folder():
    folder = Path(tempfile.mkdtemp(prefix="featstore-fuzz-"))
    for name in ("a.jpg", "b.jpg", "sub/c.png", os.fsdecode(b"sub/\xe9.png")):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(b"not looked at")
    return folder


TARGETS = {"decode": decode, "csv": csv, "split_list": split_list}

SEEDS = {
    "decode": [data for data, _ in corpus.IMAGES.values() if len(data) < 20_000],
    "csv": [
        *(
            b"path\nphotos/a.jpg\n",
            b"path,label\nphotos/a.jpg,roses\nphotos/b.jpg,tulips\nphotos/gone.jpg,\n",
        ),
        b"path,label,group,split\r\nphotos/a.jpg,roses,1,train\r\nphotos/sub/c.png,tulips,2,val\r\n",
        b"path\tsplit\nphotos/a.jpg\ttest\n",
        b'\xef\xbb\xbfpath,label\r"photos/a.jpg","a ""quoted"", label\nof two lines"\r',
        b"path,label\nphotos/../photos/./a.jpg,\xf0\x9f\x8c\xb9\nphotos/sub/\xe9.png,x\n/dev/null,y\n",
        "path,label\nphotos/a.jpg,roses\n".encode("utf-16"),
        b"path,label\nphotos/a.jpg," + b"x" * 9000 + b"\n",
    ],
    "split_list": [
        *(
            b"a\n",
            b"a.jpg\nsub/c\n",
            b"sub/\xe9\r\n\r\nb\r\n",
            b"\xef\xbb\xbf./a\r  b.jpg ",
            b"a\na.jpg\nnone\n",
        ),
        "a\nb\n".encode("utf-16"),
    ],
}
