"""What is known of many rows lies in files: it takes no more memory than a block of them."""

import tracemalloc

import numpy as np
import pytest

from featstore.io import long_arrays, texts
from featstore.io.long_arrays import as_read_only, long_zeros
from featstore.io.texts import CodedTexts, PathIndex, PlainTexts
from featstore.store.catalogs import digests
from featstore.store.catalogs.catalog import Catalog
from featstore.store.catalogs.digests import digest_of_catalog
from featstore.store.segments import keys
from featstore.store.segments.keys import ContentFilter, KeyIndex

N_ROWS, BLOCK_ROWS = 100_000, 2**10


@pytest.fixture
def hashes(monkeypatch, tmp_path):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path))
    monkeypatch.setattr(long_arrays, "_MAX_BYTES", 2**16)
    monkeypatch.setattr(long_arrays.blocks_of, "__defaults__", (BLOCK_ROWS,))
    for module in (texts, keys, digests):
        monkeypatch.setattr(module, "_BLOCK_ROWS", BLOCK_ROWS)
    content_hash = long_zeros(N_ROWS, (32,), np.uint8)
    chance = np.random.default_rng(0)
    for block in long_arrays.blocks_of(N_ROWS):
        content_hash[block] = chance.integers(0, 256, content_hash[block].shape, np.uint8)
    content_hash[N_ROWS // 2 :: 100] = content_hash[: N_ROWS // 2 : 100]
    return as_read_only(content_hash)


def count_repeated_keys(hashes):
    index = KeyIndex()
    for block in long_arrays.blocks_of(N_ROWS):
        index.extend(hashes[block], np.zeros(len(hashes[block]), np.uint16))
    first = index.is_first()
    assert sum(int(first[block].sum()) for block in long_arrays.blocks_of(N_ROWS)) == N_ROWS - 500


def find_what_filters_share(hashes):
    contents, others = ContentFilter.of_contents(hashes), ContentFilter.of_contents(hashes[: N_ROWS // 2])
    assert len(contents.prefixes) == N_ROWS - 500
    assert len(contents.common(others).prefixes) == contents.n_common(others) == N_ROWS // 2


def find_paths(hashes):
    paths = PlainTexts()
    for block in long_arrays.blocks_of(len(hashes)):
        paths.extend([b"%d.jpg" % number for number in range(block.start, block.stop)])
    paths.extend([b"7.jpg"])
    index = PathIndex(paths)
    assert index.find([b"9.jpg"])[1].tolist() == [9]
    assert index.repeats() == {7: [N_ROWS]}


def digest(hashes):
    plain, coded = PlainTexts(), CodedTexts()
    for block in long_arrays.blocks_of(N_ROWS):
        plain.extend([b"a.jpg"] * (block.stop - block.start))
        coded.extend([None] * (block.stop - block.start))
    stamps, weights = as_read_only(long_zeros(N_ROWS, (), np.int64)), long_zeros(N_ROWS, (), np.float64)
    weights[:] = 1
    catalog = Catalog(
        name="many",
        root="/",
        location="/",
        paths=plain,
        content_hash=hashes,
        weights=as_read_only(weights),
        targets=as_read_only(weights),
        target_name="number",
        **dict.fromkeys(("labels", "groups", "splits", "reasons", "near_groups"), coded),
        **dict.fromkeys(("sizes", "mtimes_ns", "ctimes_ns", "inodes"), stamps),
    )
    assert len(digest_of_catalog(catalog)) == 64


def compare_catalogs(hashes):
    """Without what a catalog may lack."""
    plain, coded = PlainTexts(), CodedTexts.without_any(N_ROWS)
    for block in long_arrays.blocks_of(N_ROWS):
        plain.extend([b"a.jpg"] * (block.stop - block.start))
    stamps = as_read_only(long_zeros(N_ROWS, (), np.int64))
    catalogs = [
        Catalog(
            name="many",
            root="/",
            location="/",
            paths=plain,
            content_hash=hashes,
            **dict.fromkeys(("labels", "groups", "splits", "reasons"), coded),
            **dict.fromkeys(("sizes", "mtimes_ns"), stamps),
        )
        for _ in range(2)
    ]
    assert catalogs[0].near_groups.distinct() == {None}
    assert catalogs[0].equals(catalogs[1])


@pytest.mark.parametrize(
    "use", [compare_catalogs, count_repeated_keys, digest, find_paths, find_what_filters_share]
)
def test_memory_does_not_grow_with_rows(hashes, use):
    tracemalloc.start()
    try:
        use(hashes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * N_ROWS
