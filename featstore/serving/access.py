"""Who may ask a server what, and how it refuses."""

import hmac
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["HANDLERS", "kept_in", "may", "refusal", "unauthorized"]


def may(request: Request, token: str | None, open_paths: Sequence[str]) -> bool:
    """Return whether a request has the token, or needs none."""
    if token is None or request.url.path in open_paths:
        return True
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def kept_in(response: Response) -> Response:
    """Keep browsers from guessing a response's type, and from telling others of this server."""
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["referrer-policy"] = "no-referrer"
    return response


def unauthorized() -> Response:
    """Return the refusal of a request without the token."""
    says = "this server needs a token: send the header Authorization: Bearer TOKEN"
    return JSONResponse({"error": says}, 401, {"www-authenticate": "Bearer"})


async def refusal(_request: Request, error: Exception) -> Response:
    """Return a refusal with its reason."""
    assert isinstance(error, HTTPException)
    says = error.detail
    if says == HTTPStatus(error.status_code).phrase:
        says = f"{says}: /docs lists the routes of this server"
    return JSONResponse({"error": says}, error.status_code, error.headers)


async def _failure(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "the server failed on this request; its log says why"}, 500)


HANDLERS: dict[Any, Any] = {HTTPException: refusal, Exception: _failure}
