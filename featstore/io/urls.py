"""Paths that are URLs: which they are, and how they are joined."""

import os
import re

__all__ = [
    "ADDRESS",
    "FILE_URL",
    "holds_credential",
    "is_url",
    "joined",
    "last_name",
    "server_of",
    "without_credential",
]

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
FILE_URL = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)
_OF_FILE = re.compile("file:", re.IGNORECASE)

# Signed addresses of Amazon, Google and Microsoft, and what other servers call theirs.
_SECRET = re.compile(
    r"[?&](x-amz-(signature|credential|security-token)|x-goog-(signature|credential)|awsaccesskeyid|signature|"
    r"sig|(access_?)?token|api_?key|password|secret)=",
    re.IGNORECASE,
)
_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/?#]*@")


def is_url(path: str) -> bool:
    """Return whether a path is an address such as ``s3://bucket/a.jpg``; one of ``file://`` is a file's."""
    return "://" in path and ADDRESS.match(path) is not None and not _OF_FILE.match(path)


def joined(root: str, path: str) -> str:
    """Join a relative path to its root; either may be a URL."""
    if is_url(path):
        return path
    return f"{root.rstrip('/')}/{path}" if is_url(root) else os.path.join(root, path)


def last_name(url: str) -> str:
    """Return the last part of a URL's path, or its host or bucket."""
    return re.split(r"[?#]", url, maxsplit=1)[0].rstrip("/").rpartition("/")[2]


def server_of(url: str) -> str:
    """Return a URL up to its host or bucket."""
    return "/".join(url.split("/", 3)[:3])


def holds_credential(url: str) -> bool:
    """Return whether a URL has a password, a signature or a token in it."""
    return _USER.match(url) is not None or _SECRET.search(url) is not None


def without_credential(url: str) -> str:
    """Return a URL without its user and query, to name it in a message."""
    return re.sub(r"://[^/?#]*@", "://", url.partition("?")[0]) if holds_credential(url) else url
