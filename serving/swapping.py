"""The worker's side of a change of champions: waits for offers and has the desk serve them, or says why not."""

import logging
import threading
from collections.abc import Callable

from serving.catalogue import LocalArtifact
from serving.desk import Desk
from serving.mistakes import reason_for_operators
from serving.offers import Offer, Offers, Taken
from serving.schemas import ModelState

_POLL_S = 0.25

# BentoML's logger: what it is configured with shows where the service runs.
logger = logging.getLogger("bentoml.fairmark")


def follow(desk: Desk, offers: Offers, closing: threading.Event, after_load: Callable[[], None]) -> None:
    """Take every offer that comes, until the worker closes; `after_load` is called when each was loaded, or was not."""
    last = offers.taken()
    if last and last.outcome == "refused":
        desk.refuse(last.reason or "")
    said = ""
    while not closing.wait(_POLL_S):
        try:
            _look(desk, offers, after_load)
            said = ""
        except OSError as error:  # the disk is full, say: the next look may find it mended
            if said != (said := f"changed champions cannot be taken now: {error.strerror}"):
                logger.error(said)


def _look(desk: Desk, offers: Offers, after_load: Callable[[], None]) -> None:
    offer, taken = offers.offer(), offers.taken()
    if offer is None or (taken and taken.number >= offer.number and taken.outcome != "trying"):
        return
    against = _take(desk, offers, offer)
    after_load()
    outcome = "refused" if against else "served"
    offers.take(Taken(number=offer.number, outcome=outcome, artifacts=desk.artifacts, reason=against))


def _take(desk: Desk, offers: Offers, offer: Offer) -> str | None:
    """Why the offer is not served, or none when it is."""
    against = offer.refused or _load(desk, offers, offer)
    if against is None:
        logger.info("serving %s", ", ".join(f"{each.name}@{each.version}" for each in desk.artifacts))
    else:
        desk.refuse(against)
        logger.error("changed champions are not served, what was served stays: %s", against)
    return against


def _load(desk: Desk, offers: Offers, offer: Offer) -> str | None:
    if not offers.begin(offer, desk.artifacts):
        taken = offers.taken()
        return taken.reason if taken else None
    try:
        desk.swap(offer.artifacts, _log_state)
    except Exception as error:  # noqa: BLE001 - a set that breaks a library must not end what is served
        return reason_for_operators(error, "loading changed champions")
    return None


def served_by_the_last(offers: Offers) -> list[LocalArtifact] | None:
    """What a worker before this one served, if it was another set than the one of the start."""
    taken = offers.taken()
    return list(taken.artifacts) if taken else None


def _log_state(state: ModelState) -> None:
    logger.info("%s %s, beside what is served", state.name, state.state)
