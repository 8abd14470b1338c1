"""`make bench-cache`: writes reports/cache/bench.json and reports/cache/replay.json.

Models come from --bundles, else from the object store. Neither report holds a word of an essay.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cache.latency import measure_end_to_end, measure_stores
from benchmarks.cache.replay import Replay
from benchmarks.cache.served import digests, find_artifacts, open_desk, without_decoders
from benchmarks.speed.chosen import ESSAYS_FILE, choose_essays, digest_of
from benchmarks.speed.machine import describe_machine
from essays.console import run, wrote
from essays.errors import BadParams

PROMPT_ID = "ellipse-overall"
REPORTS = Path("reports/cache")
PARTS = ("stores", "end-to-end", "replay")
_ESSAYS_IN_STORES = 100
_ESSAYS_END_TO_END = 50
_HOPED_FOR = ("minilm", "smollm")
"""Models that a hit is to be compared with."""
_LANES = 2
"""Of the replay, which takes no times."""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 20_000, 100_000], help="entries of the stores")
    parser.add_argument("--essays", type=int, default=500, help="essays of the replay (default: 500)")
    parser.add_argument("--proving", type=int, default=800, help="other essays, to prove the near tier (default: 800)")
    parser.add_argument("--bundles", type=Path, default=Path("out/bundles"), help="folder of packaged models")
    parser.add_argument("--table", type=Path, default=ESSAYS_FILE, help="the prepared essays")
    parser.add_argument("--models-note", help="what to say of the models, where they are stand-ins")
    parser.add_argument("--no-naive", dest="naive", action="store_false", help="leave out the naive caches")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where to write")
    options = parser.parse_args()
    run(lambda: measure(options))


def measure(options: argparse.Namespace) -> None:
    """All parts, each written when it is done."""
    if min(options.sizes) < 2 * _ESSAYS_IN_STORES:
        raise BadParams(f"--sizes: {min(options.sizes)} entries, at least {2 * _ESSAYS_IN_STORES} are needed")
    essays = choose_essays(options.table, [PROMPT_ID], options.essays + options.proving)
    with tempfile.TemporaryDirectory(prefix="fairmark-bench-cache-") as name:
        folder = Path(name)
        if "stores" in options.parts:
            found: dict[str, Any] = {"stores": measure_stores(folder, options.sizes, essays[:_ESSAYS_IN_STORES])}
            _merge(options.reports / "bench.json", found)
        if {"end-to-end", "replay"}.isdisjoint(options.parts):
            return
        artifacts = find_artifacts(options.bundles, folder / "models")
        if "end-to-end" in options.parts:
            desk = open_desk(artifacts, remembers=False, folder=folder / "end-to-end", near="off")
            found = {
                "models": digests(desk),
                "models_note": options.models_note,
                "end_to_end": measure_end_to_end(desk, essays[:_ESSAYS_END_TO_END]),
                "not_measured": {name: "no bundle of it" for name in _HOPED_FOR if name not in digests(desk)} or None,
            }
            desk.close()
            _merge(options.reports / "bench.json", found)
        if "replay" in options.parts:
            quick = without_decoders(artifacts)
            desk = open_desk(quick, remembers=True, lanes=_LANES, folder=folder / "replay", verified_share=0.0)
            replay = Replay(desk, essays[: options.essays], essays[options.essays :])
            found = {
                "models_note": options.models_note,
                "essays_digest": digest_of(essays),
                "left_out": sorted({each.name for each in artifacts} - {each.name for each in quick}),
                **replay.run(),
            }
            _merge(options.reports / "replay.json", found)
            if options.naive:
                _merge(options.reports / "replay.json", {"naive": replay.naive()})
            desk.close()


def _merge(path: Path, found: dict[str, Any]) -> None:
    """Over what an earlier run measured of other parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    merged = {**before, **found, "machine": describe_machine()}
    merged = {name: value for name, value in merged.items() if value is not None}
    path.write_text(json.dumps(merged, indent=1, sort_keys=True) + "\n", "utf-8")
    wrote(path)


if __name__ == "__main__":
    main()
