"""A server of Azure's Blob Storage on loopback: Azurite, Microsoft's own, as a package of npm."""

import base64
import email.utils
import hashlib
import hmac
import re
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager

from filelock import FileLock

AZURITE = "azurite@3.35.0"
# The account and key that every Azurite has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def azurite_command(folder):
    """Return what starts Azurite, installed once in a folder; raise RuntimeError where it cannot be."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("there is no npm")
    done = folder / "done.txt"
    with FileLock(f"{folder}.lock"):
        if not done.exists() or done.read_text(encoding="utf-8") != AZURITE:
            command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), AZURITE]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                raise RuntimeError((made.stderr.strip().splitlines() or ["npm failed"])[-1])
            done.write_text(AZURITE, encoding="utf-8")
    return str(folder / "node_modules" / ".bin" / "azurite-blob")


@contextmanager
def azurite(command):
    """Run Azurite, which keeps all in memory; yield the account's URL."""
    options = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        "0",
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
    ]
    with subprocess.Popen(
        [command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as one:
        try:
            found = (re.search(r"listens on (http://\S+)", line) for line in one.stdout)
            yield f"{next(match for match in found if match)[1]}/{ACCOUNT}"
        finally:
            # It would wait for its clients.
            one.kill()


def make_container(url, name, *, is_public=False):
    """Make a container, which anyone may read if it is public."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    if is_public:
        headers["x-ms-blob-public-access"] = "container"
    lines = [f"{header}:{headers[header]}\n" for header in sorted(headers)]
    signed = "PUT" + "\n" * 12 + "".join(lines) + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    signature = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(
        f"{url}/{name}?restype=container",
        method="PUT",
        headers={**headers, "Authorization": signature, "Content-Length": "0"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201
