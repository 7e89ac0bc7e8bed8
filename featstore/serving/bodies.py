"""Images in the bodies of requests."""

import asyncio
import binascii
import json
from base64 import b64decode
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from featstore.errors import ImageError
from featstore.serving.limits import Limits, checked_image

__all__ = ["form_images", "instances", "read_body"]


_MOST_TIMES = 4


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read a body that is not too large and not too slow."""
    body, n_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                n_bytes += len(part)
                if n_bytes <= limits.request_bytes:
                    body += part
                # Clients read the answer once they have sent all; those that send far too much do not matter.
                elif n_bytes > _MOST_TIMES * limits.request_bytes:
                    break
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {limits.seconds:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the request ends before its body does") from None
    if n_bytes > limits.request_bytes:
        raise HTTPException(413, f"the request is larger than {limits.request_mb:g} MB")
    return bytes(body)


async def instances(request: Request, limits: Limits) -> list[bytes]:
    """Return the images of TensorFlow Serving's row format: ``{"instances": [{"b64": …}, …]}``."""
    body = await read_body(request, limits)
    return await asyncio.to_thread(_decoded, body, limits)


def _decoded(body: bytes, limits: Limits) -> list[bytes]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {str(error).splitlines()[0]}") from None
    rows = given.get("instances") if isinstance(given, dict) else None
    if not isinstance(rows, list) or not rows:
        raise HTTPException(
            400, 'expected {"instances": [{"b64": "…"}]} with at least one image, each a file in base64'
        )
    _check_number(len(rows), limits)
    return [_instance(row, number, limits) for number, row in enumerate(rows)]


def _instance(row: Any, number: int, limits: Limits) -> bytes:
    text = row
    # With the name of an input around it, as for models of several.
    for _ in range(2):
        if isinstance(text, dict) and len(text) == 1:
            (text,) = text.values()
    if not isinstance(text, str):
        raise HTTPException(400, f'instance {number}: expected {{"b64": "…"}}, an image file in base64')
    try:
        return checked_image(b64decode(text, validate=True), limits)
    except (binascii.Error, ValueError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"not base64: {error}"
        raise HTTPException(400, f"instance {number}: {reason}") from None


async def form_images(request: Request, limits: Limits) -> list[tuple[str, bytes | str]]:
    """Return each file of a form by its name: its bytes, or the reason why it is no image to take."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "expected multipart/form-data with one or more files")
    body = await read_body(request, limits)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, receive).form(max_files=limits.images + 1, max_fields=100)
    except (MultiPartException, HTTPException) as error:
        said = getattr(error, "message", None) or getattr(error, "detail", str(error))
        raise HTTPException(400, f"the form cannot be read: {said}") from None
    try:
        files = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
        if not files:
            raise HTTPException(400, "the form has no file; send one or more images as files")
        _check_number(len(files), limits)
        named = [(one.filename or "", await one.read()) for one in files]
    finally:
        await form.close()
    return await asyncio.to_thread(lambda: [(name, _taken(data, limits)) for name, data in named])


def _taken(data: bytes, limits: Limits) -> bytes | str:
    try:
        return checked_image(data, limits)
    except ImageError as error:
        return str(error)


def _check_number(n_images: int, limits: Limits) -> None:
    if n_images > limits.images:
        raise HTTPException(413, f"{n_images} images in one request; this server takes {limits.images}")
