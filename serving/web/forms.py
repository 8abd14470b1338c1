"""Posted forms as browsers send them: with or without a file, which becomes its text."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from essays.documents import read_document
from serving.bodies import FORM, read_body
from serving.config import ServiceSettings
from serving.errors import MalformedRequest, Overloaded

MULTIPART = "multipart/form-data"
_MAX_FIELDS = 10
_UNREADABLE = "the form cannot be read"
_HINT = "send it as UTF-8, as browsers do"


@dataclass(frozen=True)
class PostedForm:
    """Fields by name, and at most one file."""

    fields: dict[str, str]
    file_name: str = ""
    """Empty when no file was chosen."""
    file: bytes = b""


class DocumentReader:
    """Turns files into text, few at a time: each takes a process of its own."""

    def __init__(self, at_once: int = 2, most_waiting: int = 16) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._most_open = at_once + most_waiting
        self._open = 0

    async def text_of(self, form: PostedForm) -> str:
        """The text of the form's file. Raises UnreadableDocument, Overloaded, or MalformedRequest without a file."""
        if not form.file_name:
            raise MalformedRequest("no file was sent", hint="send it as the field `file` of a multipart form")
        if self._open >= self._most_open:
            raise Overloaded("too many files wait to be read")
        self._open += 1
        try:
            async with self._room:
                return await asyncio.to_thread(read_document, form.file_name, form.file)
        finally:
            self._open -= 1


async def read_form(request: Request, settings: ServiceSettings) -> PostedForm:
    """The form of a request. Raises MalformedRequest, BodyTooLarge, BodyTooSlow or UnsupportedMediaType."""
    max_bytes, timeout_s = settings.max_body_bytes, settings.body_timeout_s
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != MULTIPART:
        return PostedForm(parse_fields(await read_body(request, FORM, max_bytes, timeout_s)))
    body = await read_body(request, MULTIPART, max_bytes + settings.max_file_bytes, timeout_s)
    return await _parse_multipart(request, body, max_bytes)


def parse_fields(body: bytes) -> dict[str, str]:
    """The fields of an urlencoded form. Raises MalformedRequest."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise MalformedRequest(_UNREADABLE, hint=_HINT) from None
    return dict(pairs)


async def _parse_multipart(request: Request, body: bytes, max_field_bytes: int) -> PostedForm:
    parser = MultiPartParser(
        request.headers, _whole(body), max_files=1, max_fields=_MAX_FIELDS, max_part_size=max_field_bytes
    )
    # An essay must not reach a disk, not even a temporary file.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except MultiPartException:
        raise MalformedRequest(_UNREADABLE, hint=_HINT) from None
    try:
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        content = await files[0].read() if files else b""
        # Browsers send a file without name and content where none was chosen.
        return PostedForm(fields, (files[0].filename or "") if files else "", content)
    finally:
        await form.close()


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
