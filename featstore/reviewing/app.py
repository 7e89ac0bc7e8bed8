"""The routes of a review: its page, the queue, the photos, and decisions."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from featstore.errors import CorrectionsError, FeatstoreError, ImageError
from featstore.page_security import embedded_json
from featstore.reviewing.session import ReviewSession
from featstore.serving.access import HANDLERS, kept_in, may, refusal, unauthorized
from featstore.serving.bodies import read_body
from featstore.serving.limits import Limits
from featstore.serving.pages import policy_of, render

__all__ = ["make_app"]

_log = logging.getLogger(__name__)

_PACKAGE = "featstore.reviewing"
_STYLES, _SCRIPTS = ("serving/page.css", "review.css"), ("serving/shared.js", "review.js")
# Whoever may reach the port may see these: they hold nothing of anyone's.
_OPEN_PATHS = ("/", "/healthz")
_LIMITS = Limits(request_mb=0.1, seconds=10)


def make_app(session: ReviewSession, *, token: str | None = None, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Return the application of a review."""
    server = _Server(session, token)
    answers: list[tuple[str, Callable[[Request], Awaitable[Response]], str]] = [
        ("/", server.page, "GET"),
        ("/healthz", server.health, "GET"),
        ("/queue", server.queue, "GET"),
        ("/photos/{content_hash}", server.photo, "GET"),
        ("/decisions", server.decide, "POST"),
        ("/undo", server.undo, "POST"),
    ]
    return Starlette(
        routes=[Route(path, server.guarded(answer), methods=[method]) for path, answer, method in answers],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts])],
        exception_handlers=HANDLERS,
    )


class _Server:
    """What the routes share."""

    def __init__(self, session: ReviewSession, token: str | None) -> None:
        self._session = session
        self._token = token
        # One decision after another, in the order in which they come.
        self._turn = asyncio.Lock()

    def guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Any:
        """Let in whoever has the token."""

        async def called(request: Request) -> Response:
            try:
                response = await answer(request) if may(request, self._token, _OPEN_PATHS) else unauthorized()
            except HTTPException as error:
                response = await refusal(request, error)
            # What the photos and decisions of a store are is for this session alone.
            response.headers.setdefault("cache-control", "no-store")
            return kept_in(response)

        return called

    async def page(self, _request: Request) -> Response:
        """Return the page."""
        text = render(
            "review.html",
            package=_PACKAGE,
            styles=_STYLES,
            scripts=_SCRIPTS,
            head=self._session.name,
            needs_token=self._token is not None,
            data=embedded_json({"needsToken": self._token is not None}),
        )
        policy = policy_of(_STYLES, _SCRIPTS, _PACKAGE)
        return HTMLResponse(text, headers={"content-security-policy": policy})

    async def health(self, _request: Request) -> Response:
        """Return that the server answers."""
        return JSONResponse({"status": "ok"})

    async def queue(self, _request: Request) -> Response:
        """Return the queue, and what is decided."""
        return JSONResponse(await _called(self._session.state))

    async def photo(self, request: Request) -> Response:
        """Return an image of the table."""
        photo = await _called(self._session.photo, request.path_params["content_hash"])
        return Response(photo, media_type="image/webp")

    async def decide(self, request: Request) -> Response:
        """Record a decision."""
        told = await _body(request, "content_hash", "decision", "new")
        async with self._turn:
            return JSONResponse(await _called(self._session.decide, *told))

    async def undo(self, request: Request) -> Response:
        """Take a decision back."""
        told = await _body(request, "content_hash")
        async with self._turn:
            return JSONResponse(await _called(self._session.undo, *told))


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what may wait for a disk, and turn its errors into refusals."""
    try:
        return await asyncio.to_thread(function, *arguments)
    except LookupError as error:
        raise HTTPException(404, str(error)) from None
    except ImageError as error:
        raise HTTPException(422, str(error)) from None
    except CorrectionsError as error:
        raise HTTPException(400, str(error)) from None
    except FeatstoreError as error:
        _log.error("%s", error)
        raise HTTPException(500, str(error)) from None


async def _body(request: Request, *names: str) -> list[str]:
    """Return texts of a JSON object, of this page alone."""
    # A page elsewhere can send forms and plain text here, but JSON only with this server's leave.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected application/json")
    body = await read_body(request, _LIMITS)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    found = [told.get(name, "") for name in names] if isinstance(told, dict) else []
    texts = [one for one in found if isinstance(one, str)]
    if len(texts) != len(names):
        raise HTTPException(400, f"expected an object with the texts {', '.join(names)}")
    return texts
