"""From verified folders to warm lanes, model by model, saying where each stands."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from essays.errors import FairmarkError, InvalidManifest
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
    artifacts: Sequence[LocalArtifact], num_lanes: int, report: Report, runtimes: Runtimes | None = None
) -> WarmModels:
    """Read, load and warm every model. Raises an ArtifactError, after reporting the model that failed."""
    runtimes = runtimes or Runtimes()
    catalogue = Catalogue([_read(artifact, report) for artifact in artifacts])
    sessions: list[dict[str, Session]] = [{} for _ in range(num_lanes)]
    lanes = tuple(Lane(number, own) for number, own in enumerate(sessions))
    for model in catalogue.models.values():
        with _reporting(model.name, report):
            _load_and_warm_one(catalogue, model, lanes, sessions, runtimes, report)
    return WarmModels(catalogue, lanes)


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


def _read(artifact: LocalArtifact, report: Report) -> ServedModel:
    with _reporting(artifact.name, report):
        return read_model(artifact)


def _load_and_warm_one(
    catalogue: Catalogue,
    model: ServedModel,
    lanes: Sequence[Lane],
    sessions: Sequence[dict[str, Session]],
    runtimes: Runtimes,
    report: Report,
) -> None:
    report(ModelState(name=model.name, state="loading"))
    require_members({name: each.artifact.version for name, each in catalogue.models.items()}, model)
    if model.manifest.graphs:
        opened = runtimes.open(model.manifest, model.artifact.folder, len(lanes))
        for own, session in zip(sessions, opened, strict=True):
            own[model.name] = session
    report(ModelState(name=model.name, state="warming"))
    with ThreadPoolExecutor(max_workers=len(lanes)) as threads:
        for _ in threads.map(lambda lane: warm_up(catalogue, model, lane), lanes):
            pass
    report(ModelState(name=model.name, state="ready"))


@contextmanager
def _reporting(name: str, report: Report) -> Iterator[None]:
    try:
        yield
    except FairmarkError as error:
        report(ModelState(name=name, state="failed", detail=str(error)))
        raise
