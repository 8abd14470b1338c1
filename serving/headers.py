"""Headers: those that every answer carries, for browsers; how many a request may have; whose pages may call."""

from collections.abc import Callable
from functools import lru_cache

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.desk import Desk
from serving.errors import Reply, reply_to_http

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI writes style attributes and draws icons from data addresses.
DOCS_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Browsers that know no frame-ancestors.
    "X-Frame-Options": "DENY",
    # An essay's score is nobody else's: no proxy and no browser keeps it.
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """Adds each header that the answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class HeaderLimit:
    """Refuses requests whose headers are larger than settings allow, before anything looks at them."""

    def __init__(self, app: ASGIApp, get_desk: Callable[[], Desk], show_error: Callable[[Reply], Response]) -> None:
        self.app = app
        self._get_desk = get_desk
        self._show_error = show_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 431."""
        app: ASGIApp = self.app
        if scope["type"] == "http":
            size = sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["query_string"])
            limit = self._get_desk().settings.max_header_bytes
            if size > limit:
                message = f"the headers are larger than {limit:,} bytes"
                app = self._show_error(reply_to_http(431, message, "send fewer or shorter ones"))
        await app(scope, receive, send)


class ListedOrigins:
    """CORS for the origins that settings list; without any, browsers let no other origin's page read an answer."""

    def __init__(self, app: ASGIApp, get_desk: Callable[[], Desk]) -> None:
        self.app = app
        self._get_desk = get_desk
        self._for_origins = lru_cache(maxsize=1)(self._make)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer a browser's question whether it may be sent."""
        app = self.app
        if scope["type"] == "http" and (origins := self._get_desk().settings.access.allowed_origins):
            app = self._for_origins(origins)
        await app(scope, receive, send)

    def _make(self, origins: tuple[str, ...]) -> ASGIApp:
        return CORSMiddleware(
            self.app,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Cache-Control", "Content-Type"],
            expose_headers=["Age", "Retry-After", "X-Cache"],
        )
