"""Servers that fail while images are read from them: nothing is lost, and the same command goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import SourceUnavailableError
from featstore.flow import ExtractionInterrupted
from featstore.io.remote import failures
from featstore.io.remote.opening import forget_servers
from object_server import Server, passed_on

PREFIX = "s3://photos/flowers"


def extract(store, **options):
    return featstore.extract(PREFIX, store, backbone=CountingBackbone(batch_size=2), **options)


def of_image(handler):
    return handler.command == "GET" and "list-type" not in handler.path


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(failures, "RETRY_SECONDS", 20)


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """The rows of the same files, by content."""
    store = tmp_path_factory.mktemp("expected") / "photos.fstore"
    featstore.extract(photos, store, backbone=CountingBackbone())
    return rows_of(store)


def rows_of(store):
    table = featstore.FeatureStore(store).table()
    return dict(zip(map(bytes, table.content_hash_bytes), map(bytes, table.X), strict=True))


def complete(store, expected):
    """Run again without faults: all is there, each row once and to the bit."""
    again = extract(store)
    assert (again.images, again.extracted + again.reused) == (13, 12)
    assert rows_of(store) == expected
    assert len(featstore.FeatureStore(store).space().content_hash) == 12
    return again


def test_a_burst_of_errors_and_broken_answers_passes_unnoticed(patient, s3, expected, tmp_path):
    kinds = iter([*["503", "slow", "cut", "500", "gone", "429"] * 3, *[""] * 999])
    lock = threading.Lock()

    def fault(handler):
        if not of_image(handler):
            return False
        with lock:
            kind = next(kinds)
        if kind.isdecimal():
            handler.reply(int(kind), b"<Error><Code>SlowDown</Code></Error>")
        elif kind == "cut":
            handler.reply(
                200, b"x" * 800, {"ETag": '"x"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, cut=300
            )
        elif kind == "gone":
            handler.close_connection = True
        elif kind == "slow":
            s3.released.wait(0.05)
            return False
        return bool(kind)

    s3.fault = fault
    report = extract(tmp_path / "flowers.fstore")
    assert [path for path, _ in report.failures] == ["roses/broken.png"]
    s3.fault = None
    assert complete(tmp_path / "flowers.fstore", expected).read == 0


@pytest.mark.parametrize("kind", ["refused", "5xx", "silent", "expired"])
def test_an_outage_keeps_what_was_read_and_the_run_goes_on_later(s3, expected, tmp_path, monkeypatch, kind):
    from featstore.io.remote import buckets

    n_read = 0
    said = {
        "refused": "its server breaks the connection off",
        "5xx": "its server answers 500 InternalError",
        "silent": "its server does not answer in time",
        "expired": r"the credentials are refused \(403 ExpiredToken\)",
    }[kind]
    monkeypatch.setattr(failures, "REQUESTS_AT_ONCE", 1)
    monkeypatch.setattr(buckets, "_CLIENT", {**buckets._CLIENT, "read_timeout": "200ms"})

    def fault(handler):
        nonlocal n_read
        if not of_image(handler) or (n_read := n_read + 1) <= 7:
            return False
        if kind == "5xx":
            handler.reply(500, b"<Error><Code>InternalError</Code></Error>")
        elif kind == "expired":
            handler.reply(403, b"<Error><Code>ExpiredToken</Code><Token>very-secret</Token></Error>")
        elif kind == "silent":
            s3.released.wait(1)
            handler.close_connection = True
        else:
            handler.close_connection = True
        return True

    s3.fault = fault
    with pytest.raises(SourceUnavailableError, match=f"s3://photos cannot be used: {said}; ") as caught:
        extract(tmp_path / "flowers.fstore")
    assert "very-secret" not in str(caught.value)
    s3.fault = None
    # What was read before the outage is stored; the last batch may have been on its way.
    assert 6 <= complete(tmp_path / "flowers.fstore", expected).reused <= 7


def test_a_server_that_goes_away_is_named_and_its_return_goes_on(
    s3, moto_port, expected, tmp_path, monkeypatch
):
    monkeypatch.setattr(failures, "REQUESTS_AT_ONCE", 1)
    front = Server(passed_on(moto_port)).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)

    def fault(handler):
        if "tulips" in handler.path:
            # Who connects from now on is refused.
            front.socket.close()
            handler.close_connection = True
            return True
        return False

    front.fault = fault
    with pytest.raises(
        SourceUnavailableError, match="s3://photos cannot be used: no connection to its server; once"
    ):
        extract(tmp_path / "flowers.fstore")
    front.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    forget_servers()
    assert complete(tmp_path / "flowers.fstore", expected).reused >= 6


def test_ctrl_c_does_not_wait_for_a_server_that_is_away(patient, s3, expected, tmp_path):
    pressed = threading.Lock()

    def fault(handler):
        if of_image(handler) and "tulips" in handler.path:
            if pressed.acquire(blocking=False):
                signal.raise_signal(signal.SIGINT)
            handler.reply(503)
            return True
        return False

    s3.fault = fault
    began = time.monotonic()
    with pytest.raises(ExtractionInterrupted):
        extract(tmp_path / "flowers.fstore")
    assert time.monotonic() - began < failures.RETRY_SECONDS
    s3.fault = None
    complete(tmp_path / "flowers.fstore", expected)


RUN = f"""
import sys
import featstore
from fakes import CountingBackbone
featstore.extract("{PREFIX}", sys.argv[1], backbone=CountingBackbone(batch_size=2))
"""


def test_a_killed_run_goes_on(s3, expected, tmp_path):
    reached = threading.Event()

    def fault(handler):
        if of_image(handler) and "tulips/3" in handler.path:
            reached.set()
            s3.released.wait(30)
            return True
        return False

    s3.fault = fault
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", RUN, str(tmp_path / "flowers.fstore")]
    with subprocess.Popen(command, env=environment) as process:
        assert reached.wait(120)
        process.kill()
    s3.fault = None
    complete(tmp_path / "flowers.fstore", expected)


def test_reads_run_ahead_32_at_a_time_and_no_more(s3, photos, tmp_path):
    lock, now, most = threading.Lock(), 0, 0
    for number in range(100):
        s3.bucket.put(f"many/{number:03d}.png", (photos / "daisy/0.png").read_bytes())
    together = threading.Barrier(32)

    def fault(handler):
        nonlocal now, most
        if not of_image(handler):
            return False
        with lock:
            now += 1
            most = max(most, now)
        # The first ones wait for each other: fewer at a time would wait in vain.
        if "/many/0" in handler.path and int(handler.path.split("/many/")[1][:3]) < 32:
            together.wait(30)
        handler.server.answer(handler)
        with lock:
            now -= 1
        return True

    s3.fault = fault
    report = featstore.extract("s3://photos/many", tmp_path / "many.fstore", backbone=CountingBackbone())
    assert (report.read, most) == (100, 32)
