"""The description of a server's routes (OpenAPI 3.1)."""

from typing import Any

from featstore.serving.limits import Limits
from featstore.version import __version__

__all__ = ["described"]


def described(limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI document of a server with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "featstore",
            "version": __version__,
            "description": f"A request has at most {limits.request_mb:g} MB and {limits.images} images, "
            f"an image at most {limits.megapixels:g} megapixels."
            f" An answer takes at most {limits.seconds:g} seconds.",
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
        "paths": _PATHS,
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _operation(summary: str, content: dict[str, Any], *refusals: int, **more: Any) -> dict[str, Any]:
    says = {
        400: "The request is malformed, or an image cannot be read; the error says which and why.",
        404: "There is no such model.",
        408: "The request did not arrive in time.",
        413: "The request is too large.",
        415: "The request is no form.",
        422: "None of the images can be used.",
        503: "Too many images are waiting, or the answer took too long: try again.",
    }
    responses = {
        str(status): {
            "description": says[status],
            "content": _json("Predictions" if status == 422 else "Error"),
        }
        for status in refusals
    }
    return {
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": content}, **responses},
        **more,
    }


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}

_SCHEMAS: dict[str, Any] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "Model": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "classes": {"type": "array", "items": {"type": "string"}},
            "size_px": {"type": "array", "items": {"type": "integer"}, "description": "Height and width."},
            "resize": {"enum": ["stretch", "crop", "pad"]},
            "rejects_below": {"type": "number"},
            "thresholds": {
                "type": "object",
                "description": "Only of a model that gives several labels: the probability from which "
                "on each is given.",
                "additionalProperties": {"type": "number"},
            },
            "shows_neighbors": {"type": "boolean"},
        },
    },
    "Instances": {
        "type": "object",
        "required": ["instances"],
        "properties": {
            "instances": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["b64"],
                    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
                },
            }
        },
    },
    "Prediction": {
        "type": "object",
        "properties": {
            "label": {
                "type": ["string", "null"],
                "description": "null where rejected, and of a model that gives several labels.",
            },
            "probability": {"type": ["number", "null"]},
            "labels": {
                "type": "array",
                "description": "Of a model that gives several labels: those whose probability reaches their "
                "own threshold; maybe none.",
                "items": {
                    "type": "object",
                    "properties": {"label": {"type": "string"}, "probability": {"type": "number"}},
                },
            },
            "rejected": {"type": "boolean", "description": "Only where true."},
            "top": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"label": {"type": "string"}, "probability": {"type": "number"}},
                },
            },
            "file": {"type": "string", "description": "Of /predict alone: the name that the form gave."},
            "error": {"type": "string", "description": "Of /predict alone: why the file cannot be used."},
            "seen": {"type": "string", "description": "With detail: the picture that the network got."},
            "neighbors": {
                "type": "array",
                "description": "With detail: the most similar training images.",
                "items": {
                    "type": "object",
                    "properties": {
                        "label": {"type": "string"},
                        "similarity": {"type": "number"},
                        "picture": {"type": ["string", "null"]},
                    },
                },
            },
        },
    },
    "Predictions": {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
        },
    },
}

_FILES = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "files": {"type": "array", "items": {"type": "string", "contentMediaType": "image/*"}}
            },
        }
    }
}

_PATHS: dict[str, Any] = {
    "/predict": {
        "post": _operation(
            "Label image files, each separately.",
            _json("Predictions"),
            *(400, 404, 408, 413, 415, 422, 503),
            parameters=[
                {"name": "model", "in": "query", "schema": {"type": "string"}},
                {"name": "top", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 5}},
                {"name": "detail", "in": "query", "schema": {"type": "boolean", "default": False}},
            ],
            requestBody={"required": True, "content": _FILES},
        )
    },
    "/v1/models/{name}:predict": {
        "post": _operation(
            "Label images in base64, as TensorFlow Serving's REST API takes them.",
            _json("Predictions"),
            *(400, 404, 408, 413, 503),
            parameters=[_NAME],
            requestBody={"required": True, "content": _json("Instances")},
        )
    },
    "/v1/models/{name}": {
        "get": _operation(
            "State of a model, as TensorFlow Serving has it.",
            {"application/json": {"schema": {"type": "object"}}},
            404,
            parameters=[_NAME],
        )
    },
    "/v1/models/{name}/metadata": {
        "get": _operation("Classes and input of a model.", _json("Model"), 404, parameters=[_NAME])
    },
    "/v1/models": {"get": _operation("All models.", {"application/json": {"schema": {"type": "object"}}})},
    "/healthz": {
        "get": _operation("Whether the server answers.", {"application/json": {"schema": {"type": "object"}}})
    },
    "/metrics": {
        "get": _operation("Counters for Prometheus.", {"text/plain": {"schema": {"type": "string"}}})
    },
}
