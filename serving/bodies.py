"""Reading a request's body: of the right kind, no longer and no slower than allowed, without trusting its headers."""

import asyncio

from starlette.requests import Request

from serving.errors import BodyTooLarge, BodyTooSlow, NotAcceptable, UnsupportedMediaType

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def require_accepted(request: Request, media_type: str) -> None:
    """Raise NotAcceptable where the caller takes no answer of this kind (RFC 9110, 12.5.1)."""
    listed = request.headers.get("accept", "").strip() or "*/*"
    ranges = [[part.strip().lower() for part in item.split(";")] for item in listed.split(",")]
    group = media_type.partition("/")[0]
    if not any(kind in ("*/*", f"{group}/*", media_type) and not _is_refused(rest) for kind, *rest in ranges):
        raise NotAcceptable(f"the answer is {media_type}, which Accept leaves out", hint=f"send Accept: {media_type}")


async def read_body(request: Request, media_type: str, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body.

    Raises BodyTooLarge or UnsupportedMediaType, before reading where the headers say enough, and BodyTooSlow.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    _require_media_type(request, media_type)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, max_bytes)
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s", hint="send it again") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _require_media_type(request: Request, media_type: str) -> None:
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found != media_type:
        said = f"Content-Type {found[:60]!r}" if found else "no Content-Type"
        raise UnsupportedMediaType(f"the body has {said}", hint=f"send Content-Type: {media_type}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("the body is compressed", hint="send it without Content-Encoding")


def _is_refused(parameters: list[str]) -> bool:
    weights = [value for name, _, value in (part.partition("=") for part in parameters) if name.strip() == "q"]
    return any(not weight.strip().strip("0.") for weight in weights)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes:,} bytes", hint="send fewer or shorter essays at a time")
