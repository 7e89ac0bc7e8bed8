"""`featstore serve`, as a process."""

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from featstore_cli.main import main


@pytest.fixture(scope="module")
def started(small_demo):
    """A server of the demo's head, and where it listens."""
    line = "serve logistic --store digits.fstore --port 0"
    command = [sys.executable, "-m", "featstore_cli", *shlex.split(line)]
    with subprocess.Popen(
        command, cwd=small_demo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        told = process.stdout.readline()
        assert told.startswith("serving logistic on http://127.0.0.1:"), process.stderr.read()
        yield process, int(told.rpartition(":")[2])
        process.kill()


def test_it_answers_and_ends_by_sigterm_after_what_it_has_begun(started, small_demo):
    process, port = started
    image = (small_demo / "digits" / "7" / "0007.png").read_bytes()
    body = (
        b'--a\r\nContent-Disposition: form-data; name="f"; filename="7.png"\r\n\r\n'
        + image
        + b"\r\n--a--\r\n"
    )
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        "Content-Type: multipart/form-data; boundary=a\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(head.encode())
        # It has begun to read the body.
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        process.send_signal(signal.SIGTERM)
        connection.sendall(body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert b'"label":"7"' in answer.read()
    assert process.wait(120) == 0
    assert process.stderr.read() == ""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=60)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("serve ridge --host 0.0.0.0", 1, "0.0.0.0 can be reached from other machines: give a token"),
        ("serve ridge --host 0.0.0.0 --token 'two words'", 1, "ASCII letters, digits and signs alone"),
        ("serve ridge --host nowhere.invalid --token x", 1, "cannot listen on nowhere.invalid, port 8501"),
        ("serve nothing --port 0", 2, "has no head 'nothing'; it has ridge"),
        ("serve ridge ridge --port 0", 1, "several models are called ridge"),
        ("serve ridge --port 99999", 2, "--port"),
        ("serve ridge --max-images 0", 2, "--max-images"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(photos, monkeypatch, line, code, says):
    monkeypatch.chdir(photos)
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    assert says in " ".join(result.stderr.split())


def test_a_port_that_is_taken_is_named(photos, monkeypatch):
    monkeypatch.chdir(photos)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["serve", "ridge", "--port", str(number)])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: cannot listen on 127.0.0.1, port {number}: another program does; choose another --port, or 0 "
        "for any that is free\n"
    )


def test_the_token_comes_from_the_environment_too(photos, monkeypatch):
    monkeypatch.chdir(photos)
    monkeypatch.setenv("FEATSTORE_TOKEN", "two words")
    result = CliRunner().invoke(main, ["serve", "ridge", "--port", "0"])
    assert "ASCII letters" in result.stderr
    assert os.environ["FEATSTORE_TOKEN"] == "two words"
