"""Which files an extraction takes for unchanged, and which it reads again."""

import hashlib
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import featstore
from fakes import CountingBackbone
from featstore.flow.extraction import ExtractionInterrupted
from featstore.images import formats
from featstore.images.photo import Photo
from featstore.io.stamps import FileStamp
from featstore.store.catalogs.file import read_catalog, write_catalog

OLD_NS = 1_600_000_000 * 10**9
FINE_NS = 1_600_000_000_123_456_789


def write_bitmap(path, seed, time_ns=OLD_NS):
    """Write a picture whose file has the same size and time as any other's."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(time_ns, time_ns))


@pytest.fixture
def photos(tmp_path):
    for number in range(10):
        write_bitmap(tmp_path / "photos" / ("cat" if number < 5 else "dog") / f"{number % 5}.bmp", number)
    return tmp_path / "photos"


def extracted(photos, **options):
    return featstore.extract(
        photos, photos.parent / "photos.fstore", **{"backbone": CountingBackbone(), **options}
    )


def wrong_rows(report):
    """Return the images whose content hash is not that of the file at their path."""
    catalog = featstore.FeatureStore(report.store).catalog()
    return [
        path
        for path, content in zip(catalog.absolute_paths(), catalog.content_hash, strict=True)
        if hashlib.sha256(Path(path).read_bytes()).digest() != content.tobytes()
    ]


def swap(first, second):
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def copied_over(source, target):
    data, status = source.read_bytes(), target.stat()
    target.write_bytes(data)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = {
    "folders swapped": lambda photos, others: swap(photos / "cat", photos / "dog"),
    "files swapped": lambda photos, others: swap(photos / "cat" / "0.bmp", photos / "dog" / "0.bmp"),
    "renamed over": lambda photos, others: (others / "cat" / "0.bmp").rename(photos / "cat" / "0.bmp"),
    "copied with its times": lambda photos, others: shutil.copy2(
        others / "cat" / "0.bmp", photos / "cat" / "0.bmp"
    ),
    "rewritten, time set back": lambda photos, others: copied_over(
        others / "cat" / "0.bmp", photos / "cat" / "0.bmp"
    ),
    "folder replaced": lambda photos, others: (shutil.rmtree(photos), shutil.copytree(others, photos)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_of_the_same_size_and_time_with_other_content_are_read_again(photos, change):
    others = photos.parent / "others"
    for number in range(10):
        write_bitmap(others / ("cat" if number < 5 else "dog") / f"{number % 5}.bmp", 100 + number)
    extracted(photos)
    CHANGES[change](photos, others)
    report = extracted(photos)
    assert report.read
    assert wrong_rows(report) == []


def without_memory(photo, *args, **options):
    raise MemoryError


def without_decoder(*args):
    raise OSError("decoder jpeg not available")


LACKS = {
    "pillow-heif": ("HEIC", lambda patch: patch.setitem(sys.modules, "pillow_heif", None)),
    "a Pillow with AVIF": ("AVIF", lambda patch: patch.setattr(formats, "READS_AVIF", False)),
    "memory": ("JPEG", lambda patch: patch.setattr(Photo, "of", without_memory)),
    "memory within Pillow": (
        "JPEG",
        lambda patch: patch.setattr(Photo, "of", lambda *_, **__: _raise(OSError("decoder error -9"))),
    ),
    "a decoder": ("JPEG", lambda patch: patch.setattr(ImageFile.ImageFile, "load", without_decoder)),
}


def _raise(error):
    raise error


@pytest.mark.parametrize("lack", LACKS)
def test_what_could_not_be_decoded_for_lack_of_something_is_tried_again(photos, monkeypatch, lack):
    kind, take_away = LACKS[lack]
    extracted(photos)
    path = photos / "cat" / "odd"
    picture = Image.effect_noise((32, 32), 50).convert("RGB")
    with path.open("wb") as file:
        if kind == "HEIC":
            pytest.importorskip("pillow_heif").from_pillow(picture).save(file)
        else:
            picture.save(file, kind)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    with monkeypatch.context() as patch:
        take_away(patch)
        assert [path for path, _ in extracted(photos).failures] == ["cat/odd"]
    report = extracted(photos)
    assert (report.failed, report.extracted) == (0, 1)
    assert extracted(photos).read == 0


def test_what_is_damaged_is_not_read_again(photos):
    (photos / "cat" / "odd.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more than this")
    os.utime(photos / "cat" / "odd.jpg", ns=(OLD_NS, OLD_NS))
    assert extracted(photos).failed == 1
    report = extracted(photos)
    assert (report.read, report.failed) == (0, 1)


def test_a_link_that_points_elsewhere_is_read_again(photos):
    link = photos / "cat" / "link.bmp"
    link.symlink_to(photos / "cat" / "0.bmp")
    extracted(photos)
    link.unlink()
    link.symlink_to(photos / "cat" / "1.bmp")
    report = extracted(photos)
    assert report.read == 1
    assert wrong_rows(report) == []


def test_a_changed_time_of_change_costs_no_forward_pass(photos):
    extracted(photos)
    os.chmod(photos / "cat" / "0.bmp", 0o600)
    backbone = CountingBackbone()
    assert extracted(photos, backbone=backbone).read == 1
    assert backbone.images == 0


def test_rehash_reads_everything_and_computes_nothing(photos):
    extracted(photos)
    backbone = CountingBackbone()
    report = extracted(photos, backbone=backbone, rehash=True)
    assert (report.read, report.reused, backbone.images) == (10, 10, 0)
    assert extracted(photos).read == 0


def test_rehash_finds_what_no_stamp_tells(photos, monkeypatch):
    monkeypatch.setattr(FileStamp, "of", classmethod(lambda cls, status: cls(status.st_size, 1, 1, 0)))
    extracted(photos)
    write_bitmap(photos / "cat" / "0.bmp", 500)
    assert wrong_rows(extracted(photos)) == [str(photos / "cat" / "0.bmp")]
    assert wrong_rows(extracted(photos, rehash=True)) == []


def test_an_interrupted_rehash_forgets_nothing_and_vouches_for_nothing(photos):
    extracted(photos)

    def interrupt(number):
        raise KeyboardInterrupt

    write_bitmap(photos / "cat" / "0.bmp", 500)
    with pytest.raises(ExtractionInterrupted):
        extracted(photos, backbone=CountingBackbone(batch_size=1, before_batch=interrupt), rehash=True)
    assert len(featstore.FeatureStore(photos.parent / "photos.fstore").catalog()) == 10
    report = extracted(photos)
    assert wrong_rows(report) == []


def test_a_catalog_of_an_earlier_version_costs_one_reading(photos):
    report = extracted(photos)
    path = featstore.FeatureStore(report.store).catalog_path("photos")
    whole = read_catalog(path)
    write_catalog(path, replace(whole, ctimes_ns=None, inodes=None))
    swap(photos / "cat", photos / "dog")
    backbone = CountingBackbone()
    again = extracted(photos, backbone=backbone)
    assert (again.read, again.reused, backbone.images) == (10, 10, 0)
    assert wrong_rows(again) == []
    assert extracted(photos).read == 0


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "seconds", "is_racy"),
    [
        (FINE_NS, FINE_NS, 0.01, True),
        (FINE_NS, FINE_NS, 0.1, False),
        (OLD_NS, OLD_NS, 0.1, True),
        (OLD_NS, OLD_NS, 1.9, True),
        (OLD_NS, OLD_NS, 2.1, False),
        # Rounded up, as FAT may be.
        (OLD_NS, OLD_NS, -1.5, True),
        (OLD_NS - 10**9 * 86400, OLD_NS, 1.5, True),
        (OLD_NS, OLD_NS + 123, 1.5, True),
        (OLD_NS - 10**9 * 86400, OLD_NS + 123, 1.5, False),
        (10**19, OLD_NS, 100, True),
        (-(10**19), OLD_NS, 100, True),
        (OLD_NS, 10**19, 100, True),
        (-1, OLD_NS, 100, False),
    ],
)
def test_times_as_coarse_as_the_clock_of_the_file_system_are_not_trusted(
    mtime_ns, ctime_ns, seconds, is_racy
):
    stamp = FileStamp.of(stat_result(mtime_ns, ctime_ns))
    assert (
        stamp.is_racy(OLD_NS + int(seconds * 10**9) + (123_456_789 if mtime_ns == FINE_NS else 0)) == is_racy
    )


def stat_result(mtime_ns, ctime_ns, size=5, inode=7):
    class Status:
        st_mtime_ns, st_ctime_ns, st_size, st_ino = mtime_ns, ctime_ns, size, inode

    return Status()


def test_an_image_rewritten_within_a_whole_second_is_read_again(photos, monkeypatch):
    """A file system of whole seconds, on which the inode stays the same."""
    of = FileStamp.of.__func__

    def whole_seconds(cls, status):
        stamp = of(cls, status)
        return stamp._replace(ctime_ns=now_ns // 10**9 * 10**9, mtime_ns=now_ns // 10**9 * 10**9)

    now_ns = time.time_ns()
    monkeypatch.setattr(FileStamp, "of", classmethod(whole_seconds))
    extracted(photos)
    write_bitmap(photos / "cat" / "0.bmp", 500)
    report = extracted(photos)
    assert wrong_rows(report) == []


def test_a_file_written_as_it_was_read_is_read_again_next_time(photos, monkeypatch):
    now_ns = time.time_ns()
    write_bitmap(photos / "cat" / "0.bmp", 500, now_ns)
    monkeypatch.setattr("featstore.flow.record_item.time.time_ns", lambda: now_ns + 10**7)
    extracted(photos)
    monkeypatch.undo()
    assert extracted(photos).read == 1
    write_bitmap(photos / "cat" / "0.bmp", 500, now_ns - 10**10)
    extracted(photos)
    assert extracted(photos).read == 0


@pytest.mark.parametrize("year", [1600, 1901, 1969, 1971, 2262, 2263, 2400, 2446, 9999, 200_000])
def test_no_time_of_a_file_is_too_far_away(photos, year, monkeypatch):
    of = FileStamp.of.__func__
    far_ns = int((year - 1970) * 365.2425 * 86400) * 10**9 + 5

    def far_away(cls, status):
        return of(cls, stat_result(far_ns, status.st_ctime_ns, status.st_size, status.st_ino))

    monkeypatch.setattr(FileStamp, "of", classmethod(far_away))
    report = extracted(photos)
    assert (report.extracted, report.failed) == (10, 0)
    write_bitmap(photos / "cat" / "0.bmp", 500)
    backbone = CountingBackbone()
    report = extracted(photos, backbone=backbone)
    assert backbone.images == 1
    # A time that no 64 bits hold is not known, so that nothing can be said of the file without reading it.
    assert report.read == (10 if abs(far_ns) >= 2**63 else 1)
    assert wrong_rows(report) == []


def test_a_file_dated_2400_is_extracted(photos):
    os.utime(photos / "cat" / "0.bmp", (13_569_465_600, 13_569_465_600))
    assert extracted(photos).extracted == 10
    assert wrong_rows(extracted(photos)) == []


@pytest.mark.parametrize("inode", [0, 2**63, 2**64 - 1, 2**127 + 5])
def test_any_inode_is_remembered(photos, inode, monkeypatch):
    of = FileStamp.of.__func__

    def numbered(cls, status):
        return of(cls, stat_result(status.st_mtime_ns, status.st_ctime_ns, status.st_size, inode))

    monkeypatch.setattr(FileStamp, "of", classmethod(numbered))
    extracted(photos)
    assert extracted(photos).read == 0
