"""How long a request may take in all, if every step's own deadline has failed.

BentoML's guard against that keeps a timer for each request, and what its context holds on to, until its time is over,
answered or not: at 100 requests a second and 240 s that is over 100 MB. This one ends with the answer.
"""

import asyncio

from bentoml._internal.server.http import traffic
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import DeadlinePassed, reply_to
from serving.routes import json_error


class RequestTime:
    """Middleware in place of BentoML's `TimeoutMiddleware`: 504 where no answer has begun in time."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        """`timeout` in seconds."""
        self._app = app
        self._timeout_s = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._timeout_s):
                await self._app(scope, receive, noted)
        except TimeoutError:
            if begun:
                raise
            error = DeadlinePassed(f"no answer within {self._timeout_s:g} s; try again later")
            await json_error(reply_to(error))(scope, receive, send)


def stand_in_for_bentomls() -> None:
    """From now on services get this one; BentoML looks its own up by name when a worker makes its application."""
    vars(traffic)["TimeoutMiddleware"] = RequestTime
