"""Buckets of S3, Google Cloud Storage and Azure, through obstore."""

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from featstore.errors import ImageError, SourceError, StoreError
from featstore.extras import check_extra
from featstore.io.remote import failures
from featstore.io.remote.access import MAX_BYTES, Found, bare_tag
from featstore.io.remote.failures import DeniedError, MissingError, PassingError, patiently, unavailable

__all__ = ["Bucket"]

_STORES = {"s3": ("S3Store", "AWS"), "gs": ("GCSStore", "GOOGLE"), "az": ("AzureStore", "AZURE")}

# The whole of a request is bounded by what the largest image takes at 2 MB/s.
_CLIENT = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "10m"}

# Of one object that Azure removes with others, the second; what it says then is in words.
_STATUS = re.compile(r"(?:status code: |\(code: )(\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|The specified (container) does not exist")
_NO_BUCKET = frozenset(("NoSuchBucket", "ContainerNotFound"))
_OF_REGION = frozenset(
    ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
)
_ARCHIVED = frozenset(("InvalidObjectState", "BlobArchived"))
_OF_ONE_OBJECT = frozenset((None, "AccessDenied", "AuthorizationPermissionMismatch"))
_BUSY = frozenset((408, 425, 429))

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN with temporary ones; for a "
    "public bucket AWS_SKIP_SIGNATURE=true (profiles of ~/.aws are not read)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; for a public bucket GOOGLE_SKIP_SIGNATURE=true",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY; for a public "
    "container AZURE_SKIP_SIGNATURE=true",
}
_NO_CREDENTIALS = re.compile(
    r"Missing(AccessKeyId|SecretAccessKey|Account)|CredentialError|TokenRequest|169\.254\."
)
_PATH = re.compile(r'Error parsing Path "(.*)": ')
_UNREACHABLE = re.compile(
    r"kind: (Connect|Timeout|Request|Interrupted|Decode)|body error|error sending request"
)

_Result = TypeVar("_Result")


class Bucket:
    """A bucket, with credentials from the environment as obstore reads it."""

    def __init__(self, scheme: str, name: str) -> None:
        check_extra("objects", f"{scheme}://", "obstore")
        self._scheme = scheme
        self.name = f"{scheme}://{name}"
        # Of single requests the retries are ours, which Ctrl-C ends.
        self._store = self._opened(name, max_retries=0)
        self._lister = self._opened(name, max_retries=10)

    def listed(self, prefix: str) -> Iterator[Found]:
        """Yield the objects below a prefix, with what follows it as their key."""
        place = f"{self.name}/{prefix}".rstrip("/")
        start = len(prefix.rstrip("/")) + 1 if prefix else 0
        chunks = None
        while True:
            try:
                chunks = chunks or iter(self._lister.list(prefix or None, chunk_size=1000))
                # A chunk comes with no object in it at the end only.
                chunk = next(chunks, ())
            except Exception as error:  # noqa: BLE001 (obstore has no common type for its errors)
                self._refuse_listing(place, error)
            if not chunk:
                return
            for found in chunk:
                yield Found(found["path"][start:], found["size"], bare_tag(found["e_tag"]))

    def look_up(self, key: str) -> Found:
        """Return what is known of an object without reading it."""
        found = self._patiently(key, lambda: self._store.head(key))
        return Found(key, found["size"], bare_tag(found["e_tag"]))

    def read(self, key: str) -> tuple[bytes, str | None]:
        """Return an object's bytes, and their tag."""

        def attempt() -> tuple[bytes, str | None]:
            response = self._store.get(key)
            if response.meta["size"] > MAX_BYTES:
                raise ImageError(
                    f"the object has {response.meta['size']:,} bytes; an image may have {MAX_BYTES:,}"
                )
            return response.bytes().to_bytes(), bare_tag(response.meta["e_tag"])

        return self._patiently(key, attempt)

    def begin(self, key: str, size: int) -> bytes:
        """Return at most ``size`` bytes from an object's begin."""
        data: bytes = self._patiently(
            key, lambda: self._store.get_range(key, start=0, length=size).to_bytes()
        )
        return data

    def _opened(self, name: str, *, max_retries: int, **client: str) -> Any:
        import obstore.store

        kind, variables = _STORES[self._scheme]
        allow_http = os.environ.get(f"{variables}_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
        seconds = {
            "retry_timeout": timedelta(seconds=failures.RETRY_SECONDS),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=8),
                "base": 2,
            },
        }
        try:
            return getattr(obstore.store, kind)(
                name,
                client_options={**_CLIENT, **client, "allow_http": allow_http},
                retry_config={"max_retries": max_retries, **seconds},
            )
        except Exception as error:  # noqa: BLE001 (obstore has no common type for its errors)
            self._refuse(str(error))

    def _patiently(self, key: str, request: Callable[[], _Result]) -> _Result:
        if not key:
            raise ImageError("the name of a bucket, and of no object")

        def attempt() -> _Result:
            try:
                return request()
            except (ImageError, PassingError, SourceError, StoreError):
                raise
            except Exception as error:  # noqa: BLE001 (obstore has no common type for its errors)
                self._explain(str(error))

        return patiently(attempt, self.name)

    def _explain(self, text: str) -> NoReturn:
        """Raise the error of ours for one of obstore."""
        if _NO_CREDENTIALS.search(text):
            self._refuse(text)
        if _PATH.search(text):
            raise ImageError("a name that obstore does not read: it has an empty, '.' or '..' part") from None
        status, code = _status_and_code(text)
        if status == 404 and code not in _NO_BUCKET:
            raise MissingError("no such object") from None
        if code in _ARCHIVED:
            raise ImageError("in an archive: restore it to read it") from None
        if status in (401, 403) and code in _OF_ONE_OBJECT:
            raise DeniedError(f"access denied ({status})") from None
        if status in _BUSY or status >= 500:
            raise PassingError(f"its server answers {status}{_in_words(code)}") from None
        if not status and _UNREACHABLE.search(text) and "certificate" not in text:
            raise PassingError(_connection(text)) from None
        self._refuse(text)

    def _refuse_listing(self, place: str, error: Exception) -> NoReturn:
        text = str(error)
        status, code = _status_and_code(text)
        if (named := _PATH.search(text)) is not None:
            raise SourceError(
                f"{place} cannot be listed: obstore does not read the name {named[1]!r}, which has an empty, "
                "a '.' or a '..' part; rename that object, or give a prefix that it is not below"
            ) from None
        if _NO_CREDENTIALS.search(text):
            self._refuse(text)
        if status in (401, 403) and code in _OF_ONE_OBJECT:
            unavailable(place, f"listing it is denied ({status}{_in_words(code)}); check its permissions")
        if status in _BUSY or status >= 500:
            unavailable(place, f"its server answers {status}{_in_words(code)}")
        self._refuse(text)

    def _refuse(self, text: str) -> NoReturn:
        """Raise SourceUnavailableError for what concerns the bucket as a whole."""
        status, code = _status_and_code(text)
        variables = _STORES[self._scheme][1]
        if _NO_CREDENTIALS.search(text):
            why = f"no credentials are found; set {_CREDENTIALS[self._scheme]}"
        elif code in _NO_BUCKET or status == 404:
            why = "there is no such bucket"
        elif code in _OF_REGION or status in (301, 307) or "redirect" in text:
            why = f"it is in another region{_in_words(code)}; set {variables}_REGION"
        elif status in (401, 403):
            why = f"the credentials are refused ({status}{_in_words(code)}); check those in the environment"
        elif "BadScheme" in text:
            why = f"its endpoint is http://, not https://; allow that with {variables}_ALLOW_HTTP=true"
        elif "certificate" in text:
            why = "its certificate is not trusted"
        elif status:
            why = f"its server answers {status}{_in_words(code)}"
        elif _UNREACHABLE.search(text):
            why = _connection(text)
        else:
            why = text.partition("\n")[0].partition("?")[0][:200]
        unavailable(self.name, why)


def _status_and_code(text: str) -> tuple[int, str | None]:
    status, code = _STATUS.search(text), _CODE.search(text)
    return int(status[1]) if status else 0, code and ("ContainerNotFound" if code[2] else code[1])


def _in_words(code: str | None) -> str:
    return f" {code}" if code else ""


def _connection(text: str) -> str:
    if "dns error" in text:
        return "no host of its name is found"
    if "kind: Connect" in text:
        return "no connection to its server"
    return (
        "its server does not answer in time" if "Timeout" in text else "its server breaks the connection off"
    )
