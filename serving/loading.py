"""From verified folders to warm lanes, model by model, saying where each stands."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from essays.console import say
from essays.errors import FairmarkError, InvalidManifest
from essays.manifest import Precision
from serving.catalogue import Catalogue, LocalArtifact, ServedModel, read_model
from serving.lanes import Lane
from serving.memory import require_room_to_load
from serving.pools import OWN_LANE_KINDS
from serving.runtimes import Runtimes, Session
from serving.schemas import ModelState
from serving.warmup import GoldenRuns, warm_up

Report = Callable[[ModelState], None]


@dataclass(frozen=True)
class WarmModels:
    """Models that got their golden scores on every lane."""

    catalogue: Catalogue
    lanes: tuple[Lane, ...]
    """Those that small models share."""
    own_lanes: Mapping[str, Lane]
    """Of each large model (`serving.pools`), by name."""


def load_and_warm(
    artifacts: Sequence[LocalArtifact],
    num_lanes: int,
    report: Report,
    runtimes: Runtimes | None = None,
    *,
    require: Literal["all", "any"] = "all",
) -> WarmModels:
    """Read, load and warm every model.

    Raises an ArtifactError after reporting the model that failed; with `any` such a model is left out, and only when
    none is left the last error is raised.
    """
    runtimes = runtimes or Runtimes()
    attempt = _Attempt(report, tolerant=require == "any")
    read = [model for artifact in artifacts for model in attempt.of(artifact.name, partial(read_model, artifact))]
    lanes, runs = _Lanes(num_lanes), GoldenRuns()
    models = Catalogue(read).models.values()
    precisions = runtimes.precisions([model.manifest for model in read])

    def warm_one(model: ServedModel) -> list[ServedModel]:
        among = Catalogue([*attempt.warm, model])
        make = partial(_load_and_warm_one, among, model, lanes, runtimes, precisions.get(model.name), report, runs)
        return attempt.of(model.name, make)

    # Graphs side by side, then what mixes them: an ensemble is warmed among the members that came through.
    graphs = [model for model in models if model.name in precisions]
    with ThreadPoolExecutor(max_workers=num_lanes) as threads:
        attempt.warm += [model for found in threads.map(warm_one, graphs) for model in found]
    for model in models:
        if model.name not in precisions:
            attempt.warm += warm_one(model)
    if attempt.last_error and not attempt.warm:
        raise attempt.last_error
    served = Catalogue(attempt.warm)
    own = {name: lane for name, lane in lanes.own.items() if name in served.models}
    return WarmModels(served, lanes.shared, own)


def require_members(artifacts: Mapping[str, str], model: ServedModel) -> None:
    """Raise InvalidManifest unless an ensemble's members are there in the versions it was fitted for.

    `artifacts` holds versions by name.
    """
    for member in model.manifest.members:
        found = artifacts.get(member.name)
        if found != member.version:
            raise InvalidManifest(
                f"{model.name}@{model.artifact.version} mixes {member.name}@{member.version}, but"
                f" {f'the champion is {member.name}@{found}' if found else 'it is not served'};"
                f" publish {model.name} and its members together, or serve other models (service.models)"
            )


def _load_and_warm_one(
    catalogue: Catalogue,
    model: ServedModel,
    lanes: "_Lanes",
    runtimes: Runtimes,
    precision: Precision | None,
    report: Report,
    runs: GoldenRuns,
) -> ServedModel:
    report(ModelState(name=model.name, state="loading"))
    require_members({name: each.artifact.version for name, each in catalogue.models.items()}, model)
    if precision is not None:  # an ensemble has no graph
        require_room_to_load(model)
        lanes.add(model, lambda number: runtimes.open(model.manifest, model.artifact.folder, number, precision))
    report(ModelState(name=model.name, state="warming"))
    warming = lanes.to_warm(model)
    with ThreadPoolExecutor(max_workers=len(warming)) as threads:
        for _ in threads.map(lambda lane: warm_up(catalogue, model, lane, runs), warming):
            pass
    report(ModelState(name=model.name, state="ready"))
    return model


class _Lanes:
    """Lanes that are being filled with sessions."""

    def __init__(self, num_shared: int) -> None:
        self._sessions: list[dict[str, Session]] = [{} for _ in range(num_shared)]
        self.shared = tuple(Lane(number, own) for number, own in enumerate(self._sessions))
        self.own: dict[str, Lane] = {}
        self._adding = threading.Lock()

    def add(self, model: ServedModel, opened: Callable[[int], list[Session]]) -> None:
        """Give the model's lanes their sessions; `opened` makes so many."""
        if model.manifest.kind in OWN_LANE_KINDS:
            (session,) = opened(1)
            with self._adding:
                self.own[model.name] = Lane(len(self.shared) + len(self.own), {model.name: session})
            return
        for own, session in zip(self._sessions, opened(len(self._sessions)), strict=True):
            own[model.name] = session

    def to_warm(self, model: ServedModel) -> list[Lane]:
        """Every lane that runs the model, each with all the sessions that it needs."""
        if model.name in self.own:
            return [self.own[model.name]]
        large = {name: self.own[name].sessions[name] for name in model.graph_names if name in self.own}
        if not large:
            return list(self.shared)
        # A session is for one thread at a time, and an ensemble's large members have one each.
        return [Lane(self.shared[0].number, {**self.shared[0].sessions, **large})]


class _Attempt:
    """What came of each model."""

    def __init__(self, report: Report, *, tolerant: bool) -> None:
        self.report = report
        self.tolerant = tolerant
        self.warm: list[ServedModel] = []
        self.last_error: FairmarkError | None = None

    def of(self, name: str, make: Callable[[], ServedModel]) -> list[ServedModel]:
        """The model, or none if it failed and others may go on."""
        try:
            return [make()]
        except FairmarkError as error:
            self.report(ModelState(name=name, state="failed", detail=str(error)))
            if not self.tolerant:
                raise
            say(f"{name} is not served: {error}")
            self.last_error = error
            return []
