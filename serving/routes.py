"""The HTTP application: calls, page and documentation, with every error in the one form.

BentoML hosts it (`serving.service`). It is not made of `bentoml.api` methods, because those log a wrong request with
the essay in it, answer errors in three different forms, and accept fields that they do not know.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from essays.errors import FairmarkError
from serving.access import require_scope
from serving.bodies import JSON, read_body, require_accepted
from serving.cache.http import cache_headers, cache_mode
from serving.calls import CALLS, Call
from serving.desk import Desk
from serving.errors import (
    MAX_NAME_CHARACTERS,
    RETRY_AFTER_S,
    ErrorResponse,
    MalformedRequest,
    Reply,
    from_validation,
    internal_error,
    reply_to,
    reply_to_http,
)
from serving.headers import DOCS_POLICY, HeaderLimit, ListedOrigins, SafeHeaders
from serving.metrics import CONTENT_TYPE
from serving.mistakes import log_mistake
from serving.openapi import document
from serving.presence import unless_gone
from serving.tracing import answered
from serving.web.page import STATIC_FOLDER, Page

GetDesk = Callable[[], Desk]
Handler = Callable[[Request], Awaitable[Response]]
ShowError = Callable[[Reply], Response]


def create_app(get_desk: GetDesk, swagger_folder: Path) -> Starlette:
    """All paths; BentoML takes GET of the health checks before us. `swagger_folder` holds the files of Swagger UI."""
    page = Page(get_desk)
    openapi = document(CALLS)

    async def docs(_: Request) -> Response:
        return FileResponse(STATIC_FOLDER / "docs.html", headers={"Content-Security-Policy": DOCS_POLICY})

    async def docs_json(_: Request) -> Response:
        return JSONResponse(openapi)

    async def metrics(_: Request) -> Response:
        return Response(get_desk().render_metrics(), media_type=CONTENT_TYPE)

    async def alive(_: Request) -> Response:
        return Response()

    async def ready(_: Request) -> Response:
        readiness = get_desk().readiness()
        status, headers = (200, {}) if readiness.ready else (503, {"Retry-After": str(RETRY_AFTER_S)})
        return Response(readiness.model_dump_json(), status, headers=headers, media_type=JSON)

    return Starlette(
        routes=[
            *[_call_route(call, get_desk) for call in CALLS],
            Route("/", _guarded("/", get_desk, page.handle, page.show_error), methods=["GET", "POST"]),
            Route("/class", _guarded("/class", get_desk, page.show_class, json_error)),
            Route("/class/validity", _guarded("/class/validity", get_desk, page.show_validity, json_error)),
            Route(
                "/drift/report",
                _guarded("/drift/report", get_desk, page.show_drift, json_error),
                methods=["GET", "POST"],
            ),
            Route("/text", _guarded("/text", get_desk, page.read_file, json_error), methods=["POST"]),
            Route("/livez", alive),
            Route("/readyz", ready),
            Route("/metrics", metrics),
            Route("/docs", docs),
            Route("/docs.json", docs_json),
            Mount("/docs/assets", StaticFiles(directory=swagger_folder)),
            Mount("/assets", StaticFiles(directory=STATIC_FOLDER)),
        ],
        exception_handlers={HTTPException: _routing_error},
        middleware=[
            Middleware(SafeHeaders),
            Middleware(HeaderLimit, get_desk, json_error),
            Middleware(ListedOrigins, get_desk),
        ],
    )


def _call_route(call: Call, get_desk: GetDesk) -> Route:
    async def handle(request: Request) -> Response:
        desk = get_desk()
        require_accepted(request, JSON)
        require_scope(desk.settings.access, call.scope, request.headers)
        if 429 in call.errors:
            desk.require_room()  # before the body is read: a refusal must cost next to nothing
        taken = None
        if call.takes:
            body = await read_body(request, JSON, desk.settings.max_body_bytes, desk.settings.body_timeout_s)
            try:
                taken = call.takes.model_validate_json(body)
            except ValidationError as error:
                raise from_validation(error) from None  # the chained error would carry the essay
        work = call.answer(desk, taken, cache_mode(request.headers))
        given = await (unless_gone(request, work) if call.takes else work)
        return Response(given.model_dump_json(), headers=cache_headers(given), media_type=JSON)

    return Route(call.path, _guarded(call.path, get_desk, handle, json_error), methods=[call.method])


def _guarded(route: str, get_desk: GetDesk, handle: Handler, show_error: ShowError) -> Handler:
    """The handler with its errors answered and its numbers counted; nothing escapes to a logger that prints text."""

    async def guarded(request: Request) -> Response:
        started, desk = time.perf_counter(), get_desk()
        with desk.tracing.request(request.method, route, request.headers.get("x-request-id")) as span:
            response = await answer(request)
            answered(span, response.status_code)
        desk.metrics.answered(route, response.status_code, time.perf_counter() - started)
        return response

    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except FairmarkError as error:
            return show_error(reply_to(error))
        except ClientDisconnect:
            return show_error(reply_to(MalformedRequest("the connection ended before the body did")))
        except Exception as error:  # noqa: BLE001 - the last guard: our mistake must not print an essay
            log_mistake(f"answering {route}", error)
            return show_error(internal_error())

    return guarded


def json_error(reply: Reply) -> Response:
    """An error as the API answers it."""
    body = ErrorResponse(error=reply.detail).model_dump_json()
    return Response(body, reply.status, headers=reply.headers, media_type=JSON)


async def _routing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:MAX_NAME_CHARACTERS]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        reply = reply_to_http(405, f"{path} does not take {request.method[:20]}", f"use {allowed}; see /docs")
    else:
        reply = reply_to_http(error.status_code, f"there is nothing at {path}", "/docs lists every path")
    response = json_error(reply)
    response.headers.update(error.headers or {})
    return response
