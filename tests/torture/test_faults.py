"""What the machine does to a store: full, read-only or vanished disks, and many processes at once."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from featstore.errors import NotInStoreError, StoreError
from featstore.store import FeatureStore
from torture.harness import Workshop, needs_proc, numbers_of, rows_of

pytestmark = needs_proc
_APPEND_AND_FOLD = """
import sys
import numpy as np
from featstore.store import FeatureStore

store = FeatureStore(sys.argv[1])
for number in range(40):
    hashes = np.full((5, 32), number, np.uint8)
    hashes[:, 0] = np.arange(5)
    store.space().append(np.full((5, 4), number, np.float32), hashes)
    if number % 3 == 2:
        store.compact(full=True)
    print(number, flush=True)
"""


@contextmanager
def mounted(folder, *options):
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def assert_one_line(run, *parts):
    assert run.stderr.count("\n") == 1, run.stderr
    for part in parts:
        assert part in run.stderr


@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount")
def test_a_full_disk_keeps_what_was_sealed_and_says_what_to_free(shop):
    # With its JSON files, a store of so little room takes one or two of the three segments.
    with mounted(shop.place(), "-t", "tmpfs", "-o", "size=16k", "featstore-test") as disk:
        store = os.path.join(disk, "s.fstore")
        run = shop.extract(store)
        assert run.status == 1
        assert_one_line(
            run, "no space left on device; what was written before is safe; free some space", "MB are free"
        )
        n_rows = shop.check_left(store, run)
        assert 0 < n_rows < len(shop.rows)
        assert FeatureStore(store).verify().leftovers == ()
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        shop.check_goes_on(store, n_rows=n_rows)


@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount")
def test_a_read_only_store_is_read_and_every_write_is_one_clear_error(shop, tmp_path):
    shop.fold_apart(str(tmp_path / "kept"))
    with mounted(str(tmp_path / "seen"), "--bind", str(tmp_path / "kept")) as store:
        subprocess.run(["mount", "-o", "remount,ro,bind", store], check=True)
        assert rows_of(FeatureStore(store)) == shop.rows
        for command in ("info", "verify"):
            assert shop.run([command, store]).status == 0
        assert shop.extract(store).report["reused"] == len(shop.rows)
        for arguments in (["compact", store], ["fit", store, "--head", "centroid", "--quiet"]):
            done = shop.run(arguments)
            assert done.status == 1, arguments
            assert_one_line(done, "read-only file system")


@pytest.fixture(scope="module")
def obedient(tmp_path_factory):
    """A workshop whose processes permissions bind, as they do not bind root."""
    prefix = ()
    if os.geteuid() == 0:
        prefix = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
        if not shutil.which("setpriv") or subprocess.run([*prefix, "true"]).returncode:
            pytest.skip("root cannot give up its rights here")
    return Workshop(tmp_path_factory.mktemp("obedient"), n_pictures=24, tiny=True, prefix=prefix)


def test_permission_lost_midway_keeps_what_was_sealed(obedient):
    shop = obedient
    for number in numbers_of(shop.whole.steps, where="before flush file", at_most=2):
        store = shop.place()
        run = shop.extract(store, at=number, how="permission")
        for folder, _, _ in os.walk(store):
            os.chmod(folder, 0o700)
        assert_one_line(run, "permission denied")
        assert run.status == (0 if "the features are stored" in run.stderr else 1)
        shop.check_goes_on(store, n_rows=shop.check_left(store, run))


def test_a_store_removed_under_a_writer_is_one_clear_error_and_no_part_of_it_comes_back(shop):
    for number in numbers_of(shop.whole.steps, where="after write of rows, segment"):
        store = shop.place()
        run = shop.extract(store, at=number, how="removal")
        assert run.status == 1
        assert_one_line(run, "no longer exists")
        assert not os.path.exists(store)
        shop.check_goes_on(store, n_rows=0)


def test_a_store_removed_under_a_reader_is_one_clear_error(shop, tmp_path):
    store = str(tmp_path / "s.fstore")
    shutil.copytree(shop.undisturbed, store)
    opened = FeatureStore(store)
    space = opened.space()
    numbers = np.arange(space.n_rows)
    mapped = space.rows(numbers)
    expected = mapped.copy()
    shutil.rmtree(store)
    # What is mapped stays as long as it is held; the system keeps the file for so long.
    np.testing.assert_array_equal(space.rows(numbers), expected)
    with pytest.raises(NotInStoreError, match="there is no space"):
        opened.space()
    with pytest.raises(StoreError, match=r"has been removed|is not there"):
        opened.write_catalog(shop.catalog)


def test_eight_runs_at_once_make_what_one_makes(shop):
    store = shop.place()
    runs = shop.extract_at_once(8, store)
    assert [(run.status, run.stderr) for run in runs] == [(0, "")] * 8
    opened = FeatureStore(store)
    assert rows_of(opened) == shop.rows
    assert opened.catalog().equals(shop.catalog)
    report = opened.verify()
    assert (report.ok, report.leftovers) == (True, ())
    opened.compact(full=True)
    assert FeatureStore(store).space().n_rows == len(shop.rows)


def test_readers_see_every_row_while_others_append_and_compact(tmp_path, shop):
    spec = FeatureStore(shop.undisturbed).space().spec
    store = FeatureStore(tmp_path / "s.fstore", create=True)
    store.create_space(spec, feature_dim=4)
    writer = subprocess.Popen(
        [sys.executable, "-c", _APPEND_AND_FOLD, store.path], stdout=subprocess.PIPE, text=True
    )
    told = []

    def listen():
        told.extend(int(line) for line in writer.stdout)

    listening = threading.Thread(target=listen)
    listening.start()
    while writer.poll() is None:
        sealed = told[-1] + 1 if told else 0
        space = FeatureStore(store.path).space()
        keys = {bytes(key) for key in space.content_hash}
        assert len(keys) >= 5 * sealed
        features = space.rows(np.arange(space.n_rows))
        assert (features == space.content_hash[:, 1:2]).all()
    listening.join()
    writer.stdout.close()
    assert (writer.returncode, told) == (0, list(range(40)))
