"""What the operating system refuses is not damage: nothing is set aside for it."""

import errno
import os
import subprocess
import sys
import zipfile

import pytest

import featstore.io.hdf5.raw
import featstore.store.segments.segment
from featstore.errors import DamagedError, StoreError
from featstore.io.archives.safe_zip import ARCHIVE_COMMENT, seal_archive
from featstore.store import FeatureStore


@pytest.fixture
def whole(store, fill, make_catalog):
    fill(store, n=5, n_segments=3)
    store.write_catalog(make_catalog())
    path = store.head_path("ridge")
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        archive.comment = ARCHIVE_COMMENT
        archive.writestr("manifest.json", "{}" * 5000)
    seal_archive(path)
    assert store.verify().ok
    return FeatureStore(store.path)


def files_of(store):
    return sorted(
        os.path.relpath(os.path.join(folder, name), store.path)
        for folder, _, names in os.walk(store.path)
        for name in names
    )


class Refusing:
    """Refuses the n-th read of the files with an ending, once or for ever."""

    def __init__(self, monkeypatch, number, *, ending="", stays=False, code=errno.EIO):
        self.number, self.ending, self.stays, self.code, self.count = number, ending, stays, code, 0
        real = featstore.io.hdf5.raw._read_at

        def read(descriptor, view, position):
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith(self.ending):
                self.count += 1
                if self.count == self.number or (self.stays and self.count > self.number):
                    raise OSError(self.code, os.strerror(self.code))
            return real(descriptor, view, position)

        monkeypatch.setattr(featstore.io.hdf5.raw, "_read_at", read)


pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files are told by /proc")


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOMEM])
def test_a_read_that_is_refused_once_sets_nothing_aside_and_is_reported(whole, monkeypatch, code):
    before = files_of(whole)
    counting = Refusing(monkeypatch, 0)
    assert whole.verify().ok
    monkeypatch.undo()
    for number in range(1, counting.count + 1):
        with monkeypatch.context() as patched:
            Refusing(patched, number, code=code)
            report = FeatureStore(whole.path).repair()
        assert report.set_aside == (), number
        assert files_of(whole) == before
        [left] = report.remaining
        assert (left.repairable, report.ok) == (False, False)
        assert left.path not in left.reason
        assert left.reason.endswith(featstore.io.hdf5.raw.failure_reason(OSError(code, os.strerror(code))))
    assert FeatureStore(whole.path).verify().ok


@pytest.mark.parametrize("ending", [".h5", ".head"])
def test_files_that_can_never_be_read_stay_where_they_are(whole, monkeypatch, ending):
    before = files_of(whole)
    Refusing(monkeypatch, 1, ending=ending, stays=True)
    report = FeatureStore(whole.path).repair()
    assert report.set_aside == ()
    assert {damage.path.endswith(ending) for damage in report.remaining} == {True}
    assert files_of(whole) == before


def test_a_damaged_segment_stays_where_its_rows_cannot_be_read(whole, monkeypatch):
    path = whole.space().segments[0].path
    with open(path, "rb+") as file:
        file.seek(whole.space().segments[0].offsets[0])
        file.write(b"\xff\xff")
    real = featstore.store.segments.segment.Segment.damaged_row_numbers
    count = iter(range(100))

    def refuse(segment):
        # The first look finds the damage; the second is for the rows to keep.
        if segment.path == path and next(count) > 0:
            raise StoreError(f"cannot read {path}: input/output error")
        return real(segment)

    monkeypatch.setattr(featstore.store.segments.segment.Segment, "damaged_row_numbers", refuse)
    report = FeatureStore(whole.path).repair()
    assert report.set_aside == ()
    assert os.path.exists(path)
    assert [damage.path for damage in report.remaining] == [path]


def test_a_damaged_segment_stays_where_its_good_rows_cannot_be_written(whole, monkeypatch):
    path = whole.space().segments[0].path
    with open(path, "rb+") as file:
        file.seek(whole.space().segments[0].offsets[0])
        file.write(b"\xff\xff")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="no space left on device"):
        FeatureStore(whole.path).repair()
    monkeypatch.undo()
    assert os.path.exists(path)
    report = FeatureStore(whole.path).repair()
    assert (report.rescued, report.lost) == (4, 1)


def test_a_description_stays_where_no_segment_can_be_read_to_write_it_anew(whole, monkeypatch):
    description = os.path.join(whole.space().path, "space.json")
    with open(description, "r+") as file:
        file.write("x")
    Refusing(monkeypatch, 1, ending=".h5", stays=True)
    report = FeatureStore(whole.path).repair()
    assert report.set_aside == ()
    assert os.path.exists(description)
    monkeypatch.undo()
    assert FeatureStore(whole.path).repair().ok
    assert FeatureStore(whole.path).space().n_rows == 15


def test_a_catalog_that_another_process_has_mended_meanwhile_is_not_set_aside(
    whole, make_catalog, monkeypatch
):
    path = whole.catalog_path("photos")
    with open(path, "rb+") as file:
        file.seek(2000)
        file.write(b"x" * 50)
    with pytest.raises(DamagedError):
        whole.catalog()
    real = featstore.store.maintenance.repair._Repair.mend

    def mend(repair, damage):
        FeatureStore(whole.path).write_catalog(make_catalog(7))
        return real(repair, damage)

    monkeypatch.setattr(featstore.store.maintenance.repair._Repair, "mend", mend)
    report = FeatureStore(whole.path).repair()
    assert (report.set_aside, report.catalogs, report.ok) == ((), (), True)
    assert len(FeatureStore(whole.path).catalog()) == 7


_HELD = """
import os, sys
from featstore.store import FeatureStore

store = FeatureStore(sys.argv[1])
try:
    store.catalog()
except OSError as error:
    held = error
    print(held)
os.remove(store.catalog_path("photos"))
sys.exit(3)
"""


@pytest.mark.parametrize("place", [0, 60, 2000])
def test_a_process_that_holds_an_error_about_a_file_ends_as_it_should(whole, place):
    with open(whole.catalog_path("photos"), "rb+") as file:
        file.seek(place)
        file.write(b"x" * 40)
    ended = subprocess.run([sys.executable, "-c", _HELD, whole.path], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert "is damaged" in ended.stdout


def test_segments_of_a_time_that_no_reader_takes_are_rescued(store, fill):
    space = fill(store, n=3)
    import h5py
    import numpy as np

    from featstore.io.hdf5.frame import lay_out_frame, seal_frame

    [segment] = space.segments
    with h5py.File(segment.path, "r+") as file:
        file.attrs.modify("created_ns", np.int64(2**62 + 5))
        del file["frame_checksum"]
        frame = lay_out_frame(file)
    with open(segment.path, "rb+") as file:
        seal_frame(file, frame, segment.extents)
    with pytest.raises(DamagedError, match="created_ns"):
        FeatureStore(store.path).space().n_rows  # noqa: B018
    report = FeatureStore(store.path).repair()
    assert (report.rescued, report.ok) == (3, True)
    assert FeatureStore(store.path).space().n_rows == 3
