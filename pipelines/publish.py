"""Stage publish: bundles into the object store, and champions moved through the promotion gate.

Each bundle is first opened, loaded and asked its golden essays by the very code that will serve it. What is in the
store already is not sent again, so publishing twice does nothing the second time.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from data.folds import SplitConfig
from data.refit import is_refit
from essays.bundle import read_bundle_manifest
from essays.console import Progress, human_size, run, say, wrote
from essays.ensemble import ENSEMBLE
from essays.errors import StageFailed
from essays.manifest import Manifest
from essays.params import Section, read_params, write_section
from essays.registry import ChampionPointer, pointer_to, publish_bundle
from essays.settings import Settings, load_settings
from essays.signatures import publish_signature, signature_key
from essays.store import Store, open_store
from export.bundles import find_bundle
from export.config import PublishConfig
from export.promotion import find_champions, is_published, promote, review
from pipelines.extracted import extracted
from serving.loading import load_and_warm
from training.behaviours import read_behaviours
from training.fold_scores import scores_folder
from training.history import HISTORY_FILE
from training.learning_curves import LearningCurve, read_curve
from training.pipeline_state import read_state
from training.registry import Alias, register_bundle, set_alias
from training.tracking import best_effort, open_tracker
from training.tracking_config import TrackingConfig

PUBLISHED_FILE = Path("out/published.json")
MEGABYTE = 1_000_000


class Published(Section):
    """What the stage leaves: the champions after it."""

    store: str
    champions: tuple[ChampionPointer, ...]


def main() -> None:
    """Publish every packaged model and the ensemble."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.publish", description=__doc__)
    parser.add_argument("--ensure", action="store_true", help="do nothing when the store lacks nothing")
    parser.add_argument("--override", metavar="REASON", help="promote against the gate; the reason is recorded")
    options = parser.parse_args()
    config, fold = read_params("publish", PublishConfig), read_params("folds", tuple[int, ...])[0]
    split, settings = read_params("split", SplitConfig), load_settings(Settings)
    store, private_key = open_store(settings.store), settings.signing.private_key_file
    # Members first, their ensemble last: whoever starts in between finds no ensemble without its members.
    bundles = [find_bundle(name) for name in [*read_params("models", tuple[str, ...]), ENSEMBLE]]
    pointers = [pointer_to(bundle, read_bundle_manifest(bundle)) for bundle in bundles]
    if not is_refit(fold, split):
        pointers = [pointer.model_copy(update={"behaviours": read_behaviours(pointer.name)}) for pointer in pointers]
    if options.ensure and is_published(store, pointers):
        sign_all(store, bundles, pointers, private_key)
        say(f"{store.url}: holds these bundles and a champion of each model; nothing to do")
        return
    manifests = check(bundles)
    for bundle, pointer in zip(bundles, pointers, strict=True):
        send(store, bundle, pointer)
    sign_all(store, bundles, pointers, private_key)
    champions = find_champions(store, [pointer.name for pointer in pointers])
    against = review(pointers, champions, config)
    if against and not options.override:
        track(manifests, bundles, "challenger", fold)
        raise StageFailed(_refusal(against))
    for text in against:
        say(f"overridden: {text}")
    chosen = [pointer.model_copy(update={"override": options.override if against else None}) for pointer in pointers]
    for pointer in promote(store, chosen, champions):
        say(f"champion: {pointer.name}@{pointer.version}")
    track(manifests, bundles, "champion", fold)
    write_published(store, chosen)


def check(bundles: Sequence[Path]) -> list[Manifest]:
    """Open, load and warm all bundles together, as serving does. Raises an ArtifactError."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = extracted(bundles, Path(folder))
        load_and_warm(artifacts, 1, lambda state: say(f"checking {state.name}: {state.state}"))
    return [read_bundle_manifest(bundle) for bundle in bundles]


def send(store: Store, bundle: Path, pointer: ChampionPointer) -> None:
    """Upload a bundle unless it is there, and say so."""
    what = f"{pointer.key}  {human_size(pointer.size_bytes)}  sha256 {pointer.sha256[:12]}"
    progress = Progress(f"sending {pointer.name}: MB", pointer.size_bytes // MEGABYTE)

    def advance(done: int, total: int) -> None:
        # The end is said below, with the digest.
        if done // MEGABYTE < total // MEGABYTE:
            progress.update(done // MEGABYTE)

    sent = publish_bundle(store, bundle, pointer, advance)
    say(f"{store.url}: {what}  {'sent' if sent else 'is there already'}")


def sign_all(
    store: Store, bundles: Sequence[Path], pointers: Sequence[ChampionPointer], private_key: Path | None
) -> None:
    """Lay a signature beside each bundle that has none of this key, before any becomes a champion; say so."""
    if private_key is None:
        say("unsigned: signing.private_key_file names no key; a service that trusts a key will refuse these models")
        return
    for bundle, pointer in zip(bundles, pointers, strict=True):
        if publish_signature(store, bundle, pointer.key, pointer.sha256, private_key):
            say(f"{store.url}: {signature_key(pointer.key)}  signed")


def track(manifests: Sequence[Manifest], bundles: Sequence[Path], alias: Alias, fold: int) -> None:
    """Register the bundles in MLflow with this alias; whatever is missing for that stops nothing."""
    try:
        state = read_state()
        curves = [_curve(manifest.name, fold) for manifest in manifests]
    except StageFailed as error:
        # Bundles can be had without what they were made from, by `dvc pull`.
        say(f"tracking: not recorded: {error}")
        return
    with best_effort():
        tracker = open_tracker(read_params("tracking", TrackingConfig), state)
        for manifest, bundle, curve in zip(manifests, bundles, curves, strict=True):
            with tracker.model_run(curve) as tracked:
                register_bundle(tracker, tracked, manifest, bundle)
            set_alias(tracker, manifest.name, alias, manifest.version)


def write_published(store: Store, pointers: Sequence[ChampionPointer]) -> None:
    """Leave `out/published.json`."""
    write_section(Published(store=store.url, champions=tuple(pointers)), PUBLISHED_FILE)
    wrote(PUBLISHED_FILE)


def _curve(model: str, fold: int) -> LearningCurve:
    # The ensemble is fitted in one step; evaluation records it without a curve.
    if model == ENSEMBLE:
        return LearningCurve(model, fold, ())
    return read_curve(model, fold, scores_folder(model, fold) / HISTORY_FILE)


def _refusal(against: Sequence[str]) -> str:
    return "\n".join(
        [
            "the champions stay, and the new versions lie beside them in the store:",
            *(f"  {text}" for text in against),
            'to promote them all the same: python -m pipelines.publish --override "WHY"',
        ]
    )


if __name__ == "__main__":
    run(main)
