"""An S3 server of moto's, which needs a date library of its own, and in front of it one that counts and fails."""

import http.client
import os
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from filelock import FileLock

MOTO = ("moto[s3]==5.2.5", "flask>=3", "flask-cors>=5")
SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def moto_python(folder):
    """Return the Python of an environment with moto, made once in a folder; raise RuntimeError where it cannot be."""
    folder = folder / f"{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / "done.txt"
    with FileLock(f"{folder}.lock"):
        if not done.exists() or done.read_text(encoding="utf-8") != repr(MOTO):
            made = _run(sys.executable, "-m", "venv", "--clear", str(folder))
            made = made or _run(str(python), "-m", "pip", "install", "-q", *MOTO)
            if made:
                raise RuntimeError(made)
            done.write_text(repr(MOTO), encoding="utf-8")
    return python


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode and (done.stderr.strip().splitlines() or ["pip failed"])[-1]


@contextmanager
def moto_server(python):
    """Run moto's server; yield its port."""
    with subprocess.Popen(
        [python, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        lines = iter(process.stdout.readline, "")
        port = next(int(line) for line in lines if line.strip().isdecimal())
        try:
            yield port
        finally:
            process.stdin.close()
            process.wait()


class Server(ThreadingHTTPServer):
    """Answers on loopback what ``answer(handler)`` says, and counts.

    Attributes
    ----------
    url : str
    requests : list of (str, str)
        Method and path of each request.
    fault : callable or None
        Called with each handler first; returns whether it has answered.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = []
        self.fault = None
        self.released = threading.Event()

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()

    def ask(self, method, path, body=None):
        """Send a request as any client does; return the answer's status."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server_port)) as connection:
            connection.request(method, path, body)
            return connection.getresponse().status

    def count(self, method):
        return sum(one == method for one, _ in self.requests)

    def handle_error(self, request, client_address):
        pass  # A client that was cut off.


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    onward = None

    def log_message(self, *_):
        pass

    def finish(self):
        super().finish()
        if self.onward is not None:
            self.onward.close()

    def do(self):
        self.server.requests.append((self.command, self.path))
        if self.server.fault is None or not self.server.fault(self):
            self.server.answer(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815 (the library's names)

    def reply(self, status, body=b"", headers=None, *, cut=None):
        """Send an answer, or its first ``cut`` bytes before the connection ends."""
        self.send_response_only(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


def passed_on(port):
    """Return what answers as the server on another port does."""

    def answer(handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.onward is None:
            handler.onward = http.client.HTTPConnection("127.0.0.1", port)
        handler.onward.request(handler.command, handler.path, body, dict(handler.headers))
        response = handler.onward.getresponse()
        data = response.read()
        skipped = ("content-length", "connection", "transfer-encoding", "date")
        headers = {name: value for name, value in response.getheaders() if name.lower() not in skipped}
        if handler.command == "HEAD":
            headers["Content-Length"] = response.getheader("Content-Length", "0")
        handler.reply(response.status, data, headers)

    return answer
