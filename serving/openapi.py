"""The OpenAPI document, made from the table of calls and the schemas they name."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.calls import Call
from serving.errors import ErrorResponse
from serving.schemas import ReadinessResponse

_REFERENCE = "#/components/schemas/{model}"
_KEY = "api_key"
# What an answer is good for in the next call, by path: one of its names as a field of the next request's body.
_LINKS = {
    "/prompts": {"prompt_id": "$response.body#/prompts/0/prompt_id"},
    "/models": {"model": "$response.body#/models/0/name"},
}
_MEANINGS = {
    400: "The body is no JSON, or the essay no Unicode text",
    401: "No API key, or none that is known",
    403: "An API key that may not do this",
    404: "No such model or prompt; the message lists those there are",
    406: "The caller takes no application/json",
    408: "The body did not arrive in time",
    413: "The body is larger than GET /status allows",
    415: "The body is not application/json",
    422: "A field is missing, extra or wrong, or the essay cannot be scored: the code says why",
    429: "Too many essays wait; Retry-After says when to come back",
    431: "The headers are too large",
    503: "Models are still being loaded",
    504: "No score within the time for one request",
}


def document(calls: Sequence[Call]) -> dict[str, Any]:
    """What a client generator or the page at /docs needs to know."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairmark",
            "version": "1",
            "description": "Scores essays as human raters would, says how far to trust each score,"
            " and names a reason where there can be none. No essay is stored or logged.",
        },
        "paths": {**{call.path: {call.method.lower(): _operation(call)} for call in calls}, **_health_paths()},
        "components": {"schemas": _schemas(calls), "securitySchemes": {_KEY: {"type": "http", "scheme": "bearer"}}},
    }


def _schemas(calls: Sequence[Call]) -> dict[str, Any]:
    kinds: dict[str, type[BaseModel]] = {kind.__name__: kind for kind in (ErrorResponse, ReadinessResponse)}
    for call in calls:
        kinds.update({kind.__name__: kind for kind in (call.takes, call.gives) if kind})
    ordered = [kinds[name] for name in sorted(kinds)]
    _, definitions = models_json_schema([(kind, "validation") for kind in ordered], ref_template=_REFERENCE)
    return definitions["$defs"]


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": call.summary,
        "operationId": call.path.strip("/").replace("/", "_"),
        "tags": ["scoring" if call.method == "POST" else "about"],
        "responses": {
            "200": _body("Done", call.gives) | _links(call.path),
            **{str(status): _body(_MEANINGS[status], ErrorResponse) for status in sorted(call.errors)},
        },
    }
    if call.scope:
        # Both ways, since a service may be set to score for everybody.
        operation["security"] = [{_KEY: [call.scope]}, *([{}] if call.scope == "score" else [])]
    if call.takes:
        operation["requestBody"] = {"required": True, **_content(call.takes)}
    return operation


def _links(path: str) -> dict[str, Any]:
    if path not in _LINKS:
        return {}
    return {"links": {"score": {"operationId": "score", "requestBody": _LINKS[path]}}}


def _health_paths() -> dict[str, Any]:
    ready = {"200": {"description": "Every model is warm"}, "503": _body("Not yet, or never", ReadinessResponse)}
    return {
        "/livez": {"get": _plain("Whether the process lives", {"200": {"description": "It does"}})},
        "/readyz": {"get": _plain("Whether requests may be sent here", ready)},
        "/metrics": {"get": _plain("Numbers for Prometheus", {"200": {"description": "Prometheus' text format"}})},
    }


def _plain(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "tags": ["health"], "responses": responses}


def _body(description: str, kind: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, **_content(kind)}


def _content(kind: type[BaseModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=kind.__name__)}}}}
