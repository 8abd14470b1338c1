"""The BentoML service: what happens when, around the parts that know nothing of BentoML.

`bentoml serve serving.service:EssayScoring` runs `prepare` once in the parent process: whatever is wrong with store,
artifacts or models ends it there, with the reason and exit code 1. Each worker then loads and warms the same models in
a thread: `/livez` answers 200 and `/readyz` 503, with each model's state, until all are warm.
"""

import gc
import logging
import os
import sys
import threading

# BentoML reads this once, when it first wants to tell its makers what was started here.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from essays.console import EXIT_FAILED, say
from essays.errors import FairmarkError
from essays.settings import load_settings
from essays.store import open_store
from serving.artifacts import acquire, hand_over, handed_over
from serving.catalogue import LocalArtifact
from serving.config import ServingSettings
from serving.desk import Desk
from serving.loading import load_and_warm
from serving.routes import create_app
from serving.schemas import ModelState
from serving.swagger import swagger_folder

# Longer than any request of ours may take, so that its own answer never comes first.
REQUEST_TIMEOUT_S = 240

logger = logging.getLogger("bentoml.fairmark")


def _desk() -> Desk:
    # Requests come only after the instance was made.
    return bentoml.get_current_service().desk


_app = create_app(_desk, swagger_folder())


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Every path that BentoML does not answer itself, unknown ones too; a Starlette object would not get those."""
    await _app(scope, receive, send)


@bentoml.service(
    name="fairmark",
    # One worker with lanes: each further worker would hold every model again.
    workers=1,
    traffic={"timeout": REQUEST_TIMEOUT_S},
    # `serving.metrics` instead: BentoML's make a series for each path that anybody asks for.
    metrics={"enabled": False},
)
@bentoml.asgi_app(application, path="/", name="fairmark")
class EssayScoring:
    """Scores essays as human raters would, and says how far to trust each score."""

    def __init__(self) -> None:
        self.settings = load_settings(ServingSettings)
        self.desk = Desk(self.settings.service)

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        """Fetch, verify, load and try every model, or end the process with the reason."""
        try:
            settings = load_settings(ServingSettings)
            artifacts = fetch(settings)
            load_and_warm(artifacts, 1, lambda state: None, settings.service.make_runtimes())
        except FairmarkError as error:
            say(f"error: {error}")
            say("the service does not start")
            sys.exit(EXIT_FAILED)
        gc.collect()
        hand_over(artifacts)

    @bentoml.on_startup
    def open(self) -> None:
        """Load and warm in a thread, so that health checks are answered meanwhile."""
        artifacts = handed_over()
        if artifacts is None:
            artifacts = fetch(self.settings)
        self.desk.expect(artifacts)
        threading.Thread(target=self._open, args=(artifacts,), name="opening", daemon=True).start()

    @bentoml.on_shutdown
    def close(self) -> None:
        """End the lanes."""
        self.desk.close()

    async def __is_ready__(self) -> bool:
        """BentoML's question behind `/readyz`; its own answer would not say which model it waits for."""
        if self.desk.ready:
            return True
        body = self.desk.readiness().model_dump_json()
        raise HTTPException(503, body, headers={"Content-Type": "application/json", "Retry-After": "1"})

    def _open(self, artifacts: list[LocalArtifact]) -> None:
        try:
            self.desk.open(artifacts, _log_state)
        except FairmarkError as error:
            logger.error("not ready, and will not be: %s", error)
            return
        # What is loaded stays: collecting garbage among it is wasted time, and a pause in some answer.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        logger.info("ready: %s", ", ".join(self.desk.catalogue().models))


def fetch(settings: ServingSettings) -> list[LocalArtifact]:
    """The models to serve, as verified folders."""
    return acquire(open_store(settings.store), settings.service.models, settings.service.artifact_folder)


def _log_state(state: ModelState) -> None:
    logger.info("%s %s", state.name, state.state)
