"""Buckets that fail while a store is written and read there: no row is lost or doubled, and the same command goes on."""

import http.client
import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import StoreError
from featstore.io.remote import failures
from featstore.io.storage.opening import forget_buckets, storage_of


@pytest.fixture
def url(bucket):
    return f"{bucket}/photos.fstore"


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(failures, "RETRY_SECONDS", 20)


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """The rows of the same extraction into a folder, by content."""
    store = tmp_path_factory.mktemp("expected") / "photos.fstore"
    extract(photos, store)
    return rows_of(store)


def extract(source, store, **options):
    return featstore.extract(source, store, backbone=CountingBackbone(batch_size=2), **options)


def rows_of(store):
    table = featstore.FeatureStore(store).table()
    return dict(zip(map(bytes, table.content_hash_bytes), map(bytes, table.X), strict=True))


def on_another_machine(monkeypatch, tmp_path, count=itertools.count()):  # noqa: B008
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / f"machine {next(count)}"))
    forget_buckets()


def complete(url, photos, expected):
    """Run again without faults: all is there, each row once and to the bit."""
    report = extract(photos, url)
    assert report.extracted + report.reused == 12
    assert rows_of(url) == expected
    assert len(featstore.FeatureStore(url).space().content_hash) == 12
    assert featstore.FeatureStore(url).verify().ok
    return report


def passed_on_and_lost(handler, port):
    """Let the server do what is asked, and break off before its answer."""
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as onward:
        onward.request(handler.command, handler.path, body, dict(handler.headers))
        status = onward.getresponse().status
    handler.close_connection = True
    return status


def test_bursts_of_errors_and_slow_and_cut_answers_pass_unnoticed(
    patient, url, photos, s3_server, moto_port, expected, monkeypatch, tmp_path
):
    kinds = itertools.cycle(["", "503", "slow", "", "lost", "500", "", "gone", "429", "", ""])
    lock = threading.Lock()

    def fault(handler):
        with lock:
            kind = next(kinds)
        if kind.isdecimal():
            handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
            handler.reply(int(kind), b"<Error><Code>SlowDown</Code></Error>")
        elif kind == "gone":
            handler.close_connection = True
        elif kind == "lost":
            passed_on_and_lost(handler, moto_port)
        elif kind == "slow":
            s3_server.released.wait(0.05)
            return False
        return bool(kind)

    s3_server.fault = fault
    assert extract(photos, url).extracted == 12
    on_another_machine(monkeypatch, tmp_path)
    assert rows_of(url) == expected
    s3_server.fault = None
    complete(url, photos, expected)


def test_a_write_whose_answer_is_lost_counts_once(patient, url, photos, s3_server, moto_port, expected):
    lost = set()

    def fault(handler):
        # The first write of each object is done, and never heard of; what follows meets what it has written.
        if handler.command == "PUT" and handler.path not in lost:
            lost.add(handler.path)
            assert passed_on_and_lost(handler, moto_port) == 200
            return True
        return False

    s3_server.fault = fault
    assert extract(photos, url).extracted == 12
    store = featstore.FeatureStore(url)
    lost.clear()
    labels = ["changed", *store.catalog().labels[1:]]
    store.update_catalog("photos", lambda catalog: replace(catalog, labels=labels))
    assert store.catalog().labels[0] == "changed"
    s3_server.fault = None
    assert any(path.endswith(".h5") for path in lost)
    assert rows_of(url) == expected


def test_a_write_that_meets_another_s_is_tried_again(patient, url, photos, s3_server, expected):
    left = {".h5": 3, ".json": 2}

    def fault(handler):
        ending = "." + handler.path.rpartition(".")[2]
        if handler.command != "PUT" or not left.get(ending):
            return False
        left[ending] -= 1
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        handler.reply(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
        return True

    s3_server.fault = fault
    assert extract(photos, url).extracted == 12
    assert left == {".h5": 0, ".json": 0}
    assert rows_of(url) == expected


def test_what_breaks_off_goes_on_where_it_was(
    patient, url, photos, s3_server, moto_port, expected, monkeypatch, tmp_path
):
    extract(photos, url)
    segment = featstore.FeatureStore(url).space().segments[0].path
    ranges = []

    def fault(handler):
        if handler.command != "GET" or not handler.path.endswith(".h5") or "/spaces/" not in handler.path:
            return False
        ranges.append(handler.headers.get("Range"))
        if len(ranges) > 1:
            return False
        with closing(http.client.HTTPConnection("127.0.0.1", moto_port)) as onward:
            onward.request("GET", handler.path, headers=dict(handler.headers))
            response = onward.getresponse()
            names = ("ETag", "Last-Modified", "x-amz-meta-featstorecrc32c")
            headers = {name: response.getheader(name) for name in names}
            handler.reply(200, response.read(), headers, cut=700)
        return True

    on_another_machine(monkeypatch, tmp_path)
    monkeypatch.setattr("featstore.io.storage.bucket_files._PIECE_BYTES", 100)
    s3_server.fault = fault
    with storage_of(segment).open(segment) as file:
        content = file.read()
    assert ranges == [None, "bytes=700-"]
    s3_server.fault = None
    assert len(content) == storage_of(segment).find(segment).size
    assert rows_of(url) == expected


def test_bytes_that_change_on_their_way_are_fetched_again(
    patient, url, photos, s3_server, moto_port, expected, monkeypatch, tmp_path
):
    extract(photos, url)
    on_another_machine(monkeypatch, tmp_path)
    spoiled = []

    def fault(handler):
        if handler.command != "GET" or not handler.path.endswith("photos.h5") or spoiled:
            return False
        spoiled.append(handler.path)
        with closing(http.client.HTTPConnection("127.0.0.1", moto_port)) as onward:
            onward.request("GET", handler.path, headers=dict(handler.headers))
            response = onward.getresponse()
            body = bytearray(response.read())
            body[len(body) // 2] ^= 1
            names = ("ETag", "Last-Modified", "x-amz-meta-featstorecrc32c")
            handler.reply(200, bytes(body), {name: response.getheader(name) for name in names})
        return True

    s3_server.fault = fault
    assert rows_of(url) == expected
    assert len(spoiled) == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("refused", "s3://stores cannot be used: its server breaks the connection off; once that is fixed"),
        ("5xx", "s3://stores cannot be used: its server answers 500 InternalError"),
        ("silent", "s3://stores cannot be used: its server does not answer in time"),
        ("expired", r"s3://stores cannot be used: the credentials are refused \(403 ExpiredToken\)"),
        ("skewed", r"s3://stores cannot be used: the credentials are refused \(403 RequestTimeTooSkewed\)"),
        ("denied", r"access denied \(403\)"),
    ],
)
def test_an_outage_keeps_what_was_sealed_and_the_run_goes_on_later(
    url, photos, s3_server, expected, monkeypatch, kind, said
):
    if kind == "silent":
        monkeypatch.setattr("featstore.io.storage.bucket_files._patience_s", lambda n_bytes: 2)
    monkeypatch.setattr("featstore.flow.sealing.SEAL_BYTES", 4 * 5 * 4)
    n_sealed = 0

    def fault(handler):
        nonlocal n_sealed
        if handler.command != "PUT" or "/spaces/" not in handler.path or not handler.path.endswith(".h5"):
            return False
        n_sealed += 1
        if n_sealed <= 2:
            return False
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if kind == "5xx":
            handler.reply(500, b"<Error><Code>InternalError</Code></Error>")
        elif kind in ("expired", "skewed", "denied"):
            code = {"expired": "ExpiredToken", "skewed": "RequestTimeTooSkewed", "denied": "AccessDenied"}[
                kind
            ]
            handler.reply(403, f"<Error><Code>{code}</Code><Token>very-secret</Token></Error>".encode())
        elif kind == "silent":
            s3_server.released.wait(3)
            handler.close_connection = True
        else:
            handler.close_connection = True
        return True

    s3_server.fault = fault
    with pytest.raises(StoreError, match=said) as caught:
        extract(photos, url)
    assert "very-secret" not in str(caught.value)
    assert str(caught.value).startswith(f"cannot write {url}/spaces/") or "cannot be used" in str(
        caught.value
    )
    s3_server.fault = None
    assert complete(url, photos, expected).reused >= 8


def test_a_store_that_may_not_be_read_is_named(url, photos, s3_server):
    extract(photos, url)

    def fault(handler):
        if handler.command == "GET" and handler.path.endswith("photos.h5"):
            handler.reply(403, b"<Error><Code>AccessDenied</Code></Error>")
            return True
        return False

    s3_server.fault = fault
    with pytest.raises(StoreError, match=r"cannot read s3://stores/.*/photos.h5: access denied \(403\)"):
        featstore.FeatureStore(url).catalog()
    report = featstore.FeatureStore(url).verify()
    assert [(one.reason, one.repairable) for one in report.damaged] == [
        ("cannot be read: access denied (403)", False)
    ]
    s3_server.fault = lambda handler: handler.reply(403, b"<Error><Code>AccessDenied</Code></Error>") or True
    with pytest.raises(StoreError, match=r"cannot read s3://stores/.*: access denied \(403\)"):
        featstore.FeatureStore(url)


def test_a_bucket_that_is_not_there_is_named(bucket):
    with pytest.raises(StoreError, match="s3://no-such-bucket cannot be used: there is no such bucket"):
        featstore.FeatureStore("s3://no-such-bucket/photos.fstore", create=True)


def test_a_server_without_conditional_writes_is_refused(url, s3_server):
    def fault(handler):
        for name in ("If-Match", "If-None-Match"):
            del handler.headers[name]
        return False

    s3_server.fault = fault
    with pytest.raises(StoreError, match="so that writers would undo each other's changes"):
        featstore.FeatureStore(url, create=True)
    s3_server.fault = None
    assert featstore.FeatureStore(url, create=True).space_names == ()


def test_eight_writers_at_once_make_what_one_makes(patient, url, photos, expected, monkeypatch):
    monkeypatch.setattr("featstore.store.catalogs.updating._MAX_ATTEMPTS", 100)
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: extract(photos, url), range(8)))
    assert {report.failed for report in reports} == {1}
    assert rows_of(url) == expected
    store = featstore.FeatureStore(url)
    store.compact(full=True)
    assert store.verify().ok
    assert featstore.FeatureStore(url).space().n_rows == 12


def test_of_eight_who_change_one_catalog_nobody_s_change_is_lost(patient, url, photos, monkeypatch):
    monkeypatch.setattr("featstore.store.catalogs.updating._MAX_ATTEMPTS", 100)
    extract(photos, url)

    def relabel(number):
        def change(catalog):
            labels = list(catalog.labels)
            labels[number] = f"new {number}"
            return replace(catalog, labels=labels)

        featstore.FeatureStore(url).update_catalog("photos", change)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(relabel, range(8)))
    assert featstore.FeatureStore(url).catalog().labels[:8] == tuple(f"new {number}" for number in range(8))


KILLED = """
import sys
import featstore
import featstore.flow.sealing
from fakes import CountingBackbone
featstore.flow.sealing.SEAL_BYTES = 4 * 5 * 4
featstore.extract(sys.argv[1], sys.argv[2], backbone=CountingBackbone(batch_size=2))
"""


def test_a_writer_that_is_killed_leaves_what_it_sealed_and_nothing_else(url, photos, s3_server, expected):
    seen = threading.Event()
    n_sealed = itertools.count()

    def fault(handler):
        is_segment = handler.command == "PUT" and "/spaces/" in handler.path and handler.path.endswith(".h5")
        if not is_segment or next(n_sealed) < 2:
            return False
        seen.set()
        s3_server.released.wait(20)
        handler.close_connection = True
        return True

    s3_server.fault = fault
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, photos, url], env=environment)
    assert seen.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    s3_server.fault = None
    names = [path.rpartition("/")[2] for path in featstore.FeatureStore(url)._storage.below(url)]
    assert sorted(name.rpartition(".")[2] for name in names) == ["h5", "h5", "json", "json"]
    assert complete(url, photos, expected).reused == 8
