"""The promotion gate: whether new versions may take their champions' places, and the move itself, as one set.

An ensemble's weights were fitted for exact versions of its members, so either all move or none does. That the graphs
are the checkpoints' is not asked again: without parity there is no export, and without an export no bundle.
"""

from collections.abc import Mapping, Sequence
from statistics import mean

from essays.errors import StageFailed, StoreError
from essays.manifest import PromptMetrics
from essays.registry import Champion, ChampionPointer, find_champion, has_bundle, move_champion
from essays.store import Store
from export.config import PublishConfig


def find_champions(store: Store, names: Sequence[str]) -> dict[str, Champion | None]:
    """Each model's champion, none where it has none yet."""
    return {name: find_champion(store, name) for name in names}


def is_published(store: Store, pointers: Sequence[ChampionPointer]) -> bool:
    """Whether the store holds these bundles and a whole set of champions, be they these versions or others."""
    champions = find_champions(store, [pointer.name for pointer in pointers])
    current = [champion.pointer for champion in champions.values() if champion is not None]
    versions = {pointer.name: pointer.version for pointer in current}
    members = [member for pointer in current for member in pointer.members.items()]
    return (
        len(current) == len(pointers)
        and all(versions.get(name) == version for name, version in members)
        and all(has_bundle(store, pointer) for pointer in [*current, *pointers])
    )


def objections(challenger: ChampionPointer, champion: ChampionPointer, config: PublishConfig) -> list[str]:
    """Why this version should not take the champion's place; empty when nothing speaks against it.

    Numbers of different test essays are compared as they are: who changes the split compares anew, and overrides. For
    a model without a test part stands what was measured of its kind (docs/decisions/0011).
    """
    ours = {metrics.prompt_id: metrics for metrics in challenger.metrics}
    theirs = {metrics.prompt_id: metrics for metrics in champion.metrics}
    scored = _scored(challenger)
    found = [f"no longer scores {prompt_id}" for prompt_id in _scored(champion) if prompt_id not in scored]
    found += [
        f"QWK on {prompt_id} was not measured, the champion's is {theirs[prompt_id].qwk:.3f}"
        for prompt_id in theirs
        if prompt_id in scored and prompt_id not in ours
    ]
    shared = [prompt_id for prompt_id in theirs if prompt_id in ours]
    if shared:
        found += _mean_objection([ours[name] for name in shared], [theirs[name] for name in shared], config)
    found += [text for name in shared for text in _prompt_objection(ours[name], theirs[name], config)]
    found += [
        f"no longer holds {name!r}, which the champion does (reports/robustness.html)"
        for name, held in champion.behaviours.items()
        if held and challenger.behaviours.get(name) is False
    ]
    if challenger.size_bytes > champion.size_bytes * (1 + config.max_growth):
        found.append(
            f"the bundle has {challenger.size_bytes:,} bytes, the champion's {champion.size_bytes:,};"
            f" at most {config.max_growth:.0%} more are accepted"
        )
    return found


def review(
    challengers: Sequence[ChampionPointer], champions: Mapping[str, Champion | None], config: PublishConfig
) -> list[str]:
    """Every objection against this set, each with its model's name; a first version or the same one meets none."""
    found = []
    for challenger in challengers:
        champion = champions[challenger.name]
        if champion is not None and champion.pointer.version != challenger.version:
            found += [f"{challenger.name}: {text}" for text in objections(challenger, champion.pointer, config)]
    return found


def promote(
    store: Store, challengers: Sequence[ChampionPointer], champions: Mapping[str, Champion | None]
) -> list[ChampionPointer]:
    """Make all of them champions, in their order; those that moved.

    Raises StageFailed when somebody else moved one in between, after moving back what was moved.
    """
    moved: list[Champion] = []
    try:
        for challenger in challengers:
            before = champions[challenger.name]
            if before is None or before.pointer.entry != challenger.entry or before.pointer.key != challenger.key:
                moved.append(move_champion(store, challenger, replacing=before))
    except StoreError as error:
        _move_back(store, moved, champions)
        raise StageFailed(f"champions stay as they were, since one did not move: {error}") from error
    return [champion.pointer for champion in moved]


def _move_back(store: Store, moved: Sequence[Champion], champions: Mapping[str, Champion | None]) -> None:
    # A first champion has nowhere to go back to; without its ensemble it is served alone.
    for champion in reversed(moved):
        if before := champions[champion.pointer.name]:
            move_champion(store, before.pointer, replacing=champion)


def _scored(pointer: ChampionPointer) -> tuple[str, ...]:
    return pointer.prompt_ids or tuple(metrics.prompt_id for metrics in pointer.metrics)


def _mean_objection(ours: Sequence[PromptMetrics], theirs: Sequence[PromptMetrics], config: PublishConfig) -> list[str]:
    low, champion_low = (mean(metrics.qwk_interval[0] for metrics in side) for side in (ours, theirs))
    if low >= champion_low - config.max_qwk_loss:
        return []
    return [
        f"QWK's lower bound is {low:.3f}, the champion's {champion_low:.3f};"
        f" at most {config.max_qwk_loss:g} less is accepted"
    ]


def _prompt_objection(ours: PromptMetrics, theirs: PromptMetrics, config: PublishConfig) -> list[str]:
    if ours.qwk >= theirs.qwk - config.max_prompt_loss:
        return []
    return [
        f"QWK on {ours.prompt_id} is {ours.qwk:.3f}, the champion's {theirs.qwk:.3f};"
        f" at most {config.max_prompt_loss:g} less is accepted"
    ]
