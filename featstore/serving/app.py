"""The routes of a server: a page, predictions, and what monitors ask for."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from featstore.serving.access import HANDLERS, kept_in, may, refusal, unauthorized
from featstore.serving.batching import Answer, Batcher, BusyError
from featstore.serving.bodies import form_images, instances
from featstore.serving.limits import Limits
from featstore.serving.metrics import Metrics
from featstore.serving.openapi import described
from featstore.serving.pages import SCRIPTS, STYLES, docs_page, policy_of, try_page
from featstore.serving.served import ServedModel

__all__ = ["make_app"]

_NEIGHBORS = 6
# Whoever may reach the port may see these: they hold nothing of anyone's.
_OPEN_PATHS = ("/", "/healthz", "/docs", "/openapi.json")


def make_app(
    models: Sequence[ServedModel], limits: Limits, *, token: str | None = None, hosts: Sequence[str] = ("*",)
) -> Starlette:
    """Return the application that serves models; the first is the default of ``/predict``."""
    server = _Server(models, limits, token)
    answers: list[tuple[str, str, Callable[[Request], Awaitable[Response]], str]] = [
        ("page", "/", server.page, "GET"),
        ("docs", "/docs", server.docs, "GET"),
        ("openapi", "/openapi.json", server.openapi, "GET"),
        ("healthz", "/healthz", server.health, "GET"),
        ("metrics", "/metrics", server.metrics_text, "GET"),
        ("models", "/v1/models", server.listed, "GET"),
        ("model", "/v1/models/{name}", server.model, "GET"),
        ("metadata", "/v1/models/{name}/metadata", server.metadata, "GET"),
        ("predict_instances", "/v1/models/{name}:predict", server.predict_instances, "POST"),
        ("predict_files", "/predict", server.predict_files, "POST"),
    ]
    return Starlette(
        routes=[
            Route(path, server.watched(name, answer), methods=[method])
            for name, path, answer, method in answers
        ],
        # A page elsewhere could otherwise point its own name at this address.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts])],
        exception_handlers=HANDLERS,
        lifespan=server.lifespan,
    )


class _Server:
    """What the routes share."""

    def __init__(self, models: Sequence[ServedModel], limits: Limits, token: str | None) -> None:
        self._models = {model.name: model for model in models}
        self._limits = limits
        self._token = token
        self._metrics = Metrics()
        self._batchers = {
            name: Batcher(name, model.predictor, self._metrics, most_waiting=limits.waiting)
            for name, model in self._models.items()
        }

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Start and stop the batches."""
        for batcher in self._batchers.values():
            batcher.start()
        yield
        for batcher in self._batchers.values():
            await batcher.stop()

    def watched(
        self, name: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Admit requests with the token, and count and time them."""

        async def called(request: Request) -> Response:
            started, status = time.perf_counter(), 500
            try:
                response = await answer(request) if may(request, self._token, _OPEN_PATHS) else unauthorized()
                status = response.status_code
            except HTTPException as error:
                response = await refusal(request, error)
                status = error.status_code
            finally:
                self._metrics.requests.labels(name, str(status)).inc()
                self._metrics.seconds.labels(name).observe(time.perf_counter() - started)
            return kept_in(response)

        return called

    async def page(self, _request: Request) -> Response:
        """Return the page to try the models."""
        models = [model.to_dict() for model in self._models.values()]
        text = try_page(models, needs_token=self._token is not None, limits=self._limits)
        return HTMLResponse(text, headers={"content-security-policy": policy_of(STYLES, SCRIPTS)})

    async def docs(self, _request: Request) -> Response:
        """Return the description of the routes for people."""
        return HTMLResponse(
            docs_page(described(self._limits)),
            headers={"content-security-policy": policy_of(STYLES, SCRIPTS)},
        )

    async def openapi(self, _request: Request) -> Response:
        """Return the description of the routes for programs."""
        return JSONResponse(described(self._limits))

    async def health(self, _request: Request) -> Response:
        """Return that the server answers."""
        return JSONResponse({"status": "ok"})

    async def metrics_text(self, _request: Request) -> Response:
        """Return counters for Prometheus."""
        return PlainTextResponse(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def listed(self, _request: Request) -> Response:
        """Return all models."""
        return JSONResponse({"models": [model.to_dict() for model in self._models.values()]})

    async def model(self, request: Request) -> Response:
        """Return a model's state, as TensorFlow Serving does."""
        self._named(request.path_params["name"])
        status = {"error_code": "OK", "error_message": ""}
        return JSONResponse(
            {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]}
        )

    async def metadata(self, request: Request) -> Response:
        """Return a model's classes and input."""
        return JSONResponse(self._named(request.path_params["name"]).to_dict())

    async def predict_instances(self, request: Request) -> Response:
        """Answer TensorFlow Serving's row format."""
        model = self._named(request.path_params["name"])
        images = await instances(request, self._limits)
        answers = await self._answers(model, images)
        for number, (prediction, _) in enumerate(answers):
            if prediction.reason is not None:
                raise HTTPException(400, f"instance {number}: {prediction.reason}")
        return JSONResponse({"predictions": [_values(answer, len(model.classes)) for answer in answers]})

    async def predict_files(self, request: Request) -> Response:
        """Predict the files of a form, each separately."""
        query = request.query_params
        model = self._named(query.get("model", next(iter(self._models))))
        top = _number(query.get("top", "5"), "top", most=len(model.classes))
        is_detailed = query.get("detail", "") not in ("", "0", "false")
        files = await form_images(request, self._limits)
        usable = [data for _, data in files if isinstance(data, bytes)]
        answers = iter(await self._answers(model, usable))
        results = []
        for name, data in files:
            if isinstance(data, str):
                results.append({"file": name, "error": data})
                continue
            answer = next(answers)
            if answer[0].reason is not None:
                results.append({"file": name, "error": answer[0].reason})
                continue
            values = {"file": name, **_values(answer, top)}
            if is_detailed:
                values |= await asyncio.to_thread(_details, model, data, answer)
            results.append(values)
        status = 200 if any("error" not in one for one in results) else 422
        self._metrics.images.labels(model.name, "refused").inc(len(files) - len(usable))
        return JSONResponse({"model": model.name, "predictions": results}, status)

    async def _answers(self, model: ServedModel, images: list[bytes]) -> list[Answer]:
        try:
            async with asyncio.timeout(self._limits.seconds):
                answers = await self._batchers[model.name].predict(images) if images else []
        except BusyError as error:
            raise HTTPException(503, str(error), {"retry-after": "1"}) from None
        except TimeoutError:
            raise HTTPException(
                503, f"no answer within {self._limits.seconds:g} seconds; try again"
            ) from None
        for prediction, _ in answers:
            outcome = "failed" if prediction.reason else "rejected" if prediction.is_rejected else "answered"
            self._metrics.images.labels(model.name, outcome).inc()
        return answers

    def _named(self, name: str) -> ServedModel:
        if name not in self._models:
            raise HTTPException(404, f"there is no model {name!r}; there is {', '.join(self._models)}")
        return self._models[name]


def _values(answer: Answer, top: int) -> dict[str, Any]:
    values = answer[0].to_dict()
    del values["path"]
    values["top"] = values["top"][:top]
    return values


def _details(model: ServedModel, image: bytes, answer: Answer) -> dict[str, Any]:
    near = [] if answer[1] is None else model.neighbors(answer[1], _NEIGHBORS)
    return {"seen": model.seen(image), "neighbors": near}


def _number(text: str, name: str, *, most: int) -> int:
    if not text.isdecimal() or not int(text):
        raise HTTPException(400, f"{name} must be a number of at least 1; found {text!r}")
    return min(int(text), most)
