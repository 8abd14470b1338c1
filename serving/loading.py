"""From verified folders to warm lanes, model by model, saying where each stands."""

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
from serving.runtimes import Runtimes, Session
from serving.schemas import ModelState
from serving.warmup import warm_up

Report = Callable[[ModelState], None]


@dataclass(frozen=True)
class WarmModels:
    """Models that got their golden scores on every lane."""

    catalogue: Catalogue
    lanes: tuple[Lane, ...]


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
    sessions: list[dict[str, Session]] = [{} for _ in range(num_lanes)]
    lanes = tuple(Lane(number, own) for number, own in enumerate(sessions))
    catalogue = Catalogue(read)
    precisions = runtimes.precisions([model.manifest for model in read])
    for model in catalogue.models.values():
        # Members come first: an ensemble is warmed among those that came through.
        among = Catalogue([*attempt.warm, model])
        attempt.warm += attempt.of(
            model.name,
            partial(_load_and_warm_one, among, model, lanes, sessions, runtimes, precisions.get(model.name), report),
        )
    if attempt.last_error and not attempt.warm:
        raise attempt.last_error
    return WarmModels(Catalogue(attempt.warm), lanes)


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
    lanes: Sequence[Lane],
    sessions: Sequence[dict[str, Session]],
    runtimes: Runtimes,
    precision: Precision | None,
    report: Report,
) -> ServedModel:
    report(ModelState(name=model.name, state="loading"))
    require_members({name: each.artifact.version for name, each in catalogue.models.items()}, model)
    if precision is not None:  # an ensemble has no graph
        opened = runtimes.open(model.manifest, model.artifact.folder, len(lanes), precision)
        for own, session in zip(sessions, opened, strict=True):
            own[model.name] = session
    report(ModelState(name=model.name, state="warming"))
    with ThreadPoolExecutor(max_workers=len(lanes)) as threads:
        for _ in threads.map(lambda lane: warm_up(catalogue, model, lane), lanes):
            pass
    report(ModelState(name=model.name, state="ready"))
    return model


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
