"""Reading a request's body: of the right kind, no longer than allowed, and without trusting what it says of itself."""

from starlette.requests import Request

from serving.errors import BodyTooLarge, UnsupportedMediaType

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


async def read_body(request: Request, media_type: str, max_bytes: int) -> bytes:
    """The whole body. Raises UnsupportedMediaType or BodyTooLarge, before reading where the headers say enough."""
    _require_media_type(request, media_type)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
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


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes:,} bytes", hint="send fewer or shorter essays at a time")
