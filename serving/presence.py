"""Work for a client only as long as it is there: nobody scores an essay whose writer closed the page."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from serving.errors import ClientGone

Result = TypeVar("Result")


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What the work gives; its body must have been read. Cancels it and raises ClientGone when the client leaves."""
    working = asyncio.ensure_future(work)
    # What it may still raise after it was cancelled is nobody's; unasked for, asyncio would log it.
    working.add_done_callback(lambda done: done.cancelled() or done.exception())
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone("the client closed its connection before it was answered")
    finally:
        leaving.cancel()
        working.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
