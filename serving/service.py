"""The BentoML service: what happens when, around the parts that know nothing of BentoML.

`bentoml serve serving.service:EssayScoring` runs `prepare` once in the parent process: whatever is wrong with store or
artifacts ends it there, with the reason and exit code 1. The worker then loads and warms the models in a thread; one
that cannot be served ends both in the same way. The parent loads none, which would take time and memory twice. From the
first moment `/livez` answers 200 and `/readyz` 503, with each model's state, until all are warm: where no worker can
say it, the parent does (`serving.front`).
"""

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

# BentoML reads this once, when it first wants to tell its makers what was started here.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml

from serving.address import end_if_taken, listening_address

# Before the imports below: whoever took the wrong port should not wait for them.
end_if_taken()

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from essays.console import EXIT_FAILED, say
from essays.errors import FairmarkError
from essays.registry import ChampionPointer
from essays.settings import load_settings
from essays.signatures import trusted_key
from essays.store import open_store
from serving.artifacts import (
    OnRefused,
    acquire,
    acquire_within,
    fetch_changed,
    hand_over,
    handed_over,
    refused_before,
    settle,
)
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings, ServingSettings
from serving.desk import Desk
from serving.dumps import forbid_core_dumps
from serving.freed import give_back_freed_memory, share_heaps
from serving.front import Front, end_service, front_folder, worker_is_up
from serving.mistakes import reason_for_operators
from serving.offers import Offers
from serving.request_time import stand_in_for_bentomls
from serving.routes import create_app
from serving.schemas import ModelState
from serving.stopping import wrap_handlers
from serving.swagger import swagger_folder
from serving.swapping import follow, served_by_the_last
from serving.watching import Watcher

# Longer than any request of ours may take, so that its own answer never comes first.
REQUEST_TIMEOUT_S = 240

logger = logging.getLogger("bentoml.fairmark")


def _desk() -> Desk:
    # Requests come only after the instance was made.
    return bentoml.get_current_service().desk


stand_in_for_bentomls()
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
    # `serving.tracing` instead: BentoML's spans hold whole addresses, and are made for every message even where nobody
    # takes them.
    tracing={"excluded_urls": "."},
)
@bentoml.asgi_app(application, path="/", name="fairmark")
class EssayScoring:
    """Scores essays as human raters would, and says how far to trust each score."""

    def __init__(self) -> None:
        self.settings = load_settings(ServingSettings)
        self.desk = Desk(self.settings.service)
        self.closing = threading.Event()

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        """Fetch and verify every model, or end the process with the reason; answer `/readyz` meanwhile."""
        forbid_core_dumps()
        try:
            _prepare(load_settings(ServingSettings), listening_address())
        except FairmarkError as error:
            say(f"error: {error}")
            say("the service does not start")
            sys.exit(EXIT_FAILED)
        gc.collect()

    @bentoml.on_startup
    def open(self) -> None:
        """Load and warm in a thread, so that health checks are answered meanwhile."""
        forbid_core_dumps()
        share_heaps()
        front = front_folder()
        offers = Offers(front) if front else None
        artifacts = (served_by_the_last(offers) if offers else None) or handed_over()
        if artifacts is None:
            artifacts = fetch(self.settings, lambda state: None, {})
        self.desk.expect(artifacts, refused_before())
        worker_is_up()
        threading.Thread(target=self._open, args=(artifacts, offers), name="opening", daemon=True).start()

    @bentoml.on_shutdown
    def close(self) -> None:
        """End the lanes."""
        self.closing.set()
        self.desk.close()

    async def __is_ready__(self) -> bool:
        """BentoML's question behind `/readyz`; its own answer would not say which model it waits for."""
        if self.desk.ready:
            return True
        body = self.desk.readiness().model_dump_json()
        raise HTTPException(503, body, headers={"Content-Type": "application/json", "Retry-After": "1"})

    def _open(self, artifacts: list[LocalArtifact], offers: Offers | None) -> None:
        try:
            self.desk.open(artifacts, _log_state)
        except Exception as error:  # noqa: BLE001 - a worker that will never be ready must not live on in silence
            reason = reason_for_operators(error, "loading models")
            logger.error("not ready, and will not be: %s", reason)
            end_service(reason)
            return
        _spare_the_collector()
        logger.info("ready: %s", ", ".join(self.desk.catalogue().models))
        for name, runtime in self.desk.status().runtimes.items():
            logger.info("%s runs on %s", name, runtime)
        if offers is not None:
            follow(self.desk, offers, self.closing, _spare_the_collector)


def fetch(
    settings: ServingSettings, report: Callable[[ModelState], None], refused: dict[str, str]
) -> list[LocalArtifact]:
    """The models to serve, as verified folders; where any will do, `refused` is told why others are missing."""
    service, public_key = settings.service, settings.signing.public_key_file
    return acquire(
        open_store(settings.store),
        service.models,
        service.artifact_folder,
        trusted=trusted_key(public_key) if public_key else None,
        report=report,
        on_refused=_on_refused(service, refused),
    )


def _prepare(settings: ServingSettings, address: tuple[str, int]) -> None:
    service = settings.service
    front, refused = Front(address), dict[str, str]()
    artifacts = acquire_within(
        service.start_budget_s,
        lambda: fetch(settings, front.board.note, refused),
        lambda error: front.board.wait_for(str(error)),
    )
    # The process manager is the parent's alone: a worker starts sooner without it.
    from serving.respawn import heed_ended_children

    hand_over(artifacts, refused)
    atexit.register(_end_with_reason, front)
    front.wait_for_workers([artifact.name for artifact in artifacts])
    watcher = _watcher(settings, artifacts, Offers(front.folder))
    heed_ended_children()
    front.give_listener_to_circus(lambda: _begin(settings, front, watcher))


def _begin(settings: ServingSettings, front: Front, watcher: Watcher) -> None:
    """BentoML is about to start its worker: from now on signals and champions are heeded."""
    wrap_handlers(settings.service.drain_s, front.stop)
    signal.signal(signal.SIGHUP, watcher.look_now)
    watcher.start()


def _watcher(settings: ServingSettings, artifacts: list[LocalArtifact], offers: Offers) -> Watcher:
    service, public_key = settings.service, settings.signing.public_key_file
    store = open_store(settings.store)

    def fetch_others(refused: dict[str, str]) -> tuple[list[LocalArtifact], list[ChampionPointer]]:
        return fetch_changed(
            store,
            service.models,
            service.artifact_folder,
            trusted=trusted_key(public_key) if public_key else None,
            on_refused=_on_refused(service, refused),
        )

    settle_on = partial(settle, store, service.models, service.artifact_folder)
    return Watcher(store, artifacts, offers, fetch=fetch_others, settle=settle_on, watch_s=service.watch_s)


def _on_refused(service: ServiceSettings, refused: dict[str, str]) -> OnRefused | None:
    """Where any model will do: what notes why others are missing."""
    refused.clear()  # another try may find mended what the last one refused

    def note(name: str, error: FairmarkError) -> None:
        say(f"{name} is not served: {error}")
        refused[name] = str(error)

    return note if service.require == "any" else None


def _spare_the_collector() -> None:
    """What is loaded stays: collecting garbage among it is wasted time, and a pause in some answer.

    A request leaves some 70 objects, and collecting 50,000 of them took 60 to 90 ms in which nobody was answered.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(4_000, 20, 100)
    give_back_freed_memory()


def _end_with_reason(front: Front) -> None:
    """A worker that gave up asked for the end: then that is no success."""
    if reason := front.failure():
        say(f"error: {reason}")
        front.clean_up()
        os._exit(EXIT_FAILED)


def _log_state(state: ModelState) -> None:
    logger.info("%s %s", state.name, state.state)
