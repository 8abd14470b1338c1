"""Fairmark's own runtime and precision in a bare loop: what its server costs is the difference to this."""

import os

from benchmarks.speed.peers import loop, model_files
from serving.runtimes import Runtimes

RUNTIME_VARIABLE = "FAIRMARK_BENCH_RUNTIME"


def main() -> None:
    """Load, then answer on stdout."""
    setting = os.environ.get(RUNTIME_VARIABLE, "auto")
    # The setting is checked where the program is started.
    runtimes, manifest = Runtimes(setting), model_files.manifest()  # type: ignore[arg-type]
    precision = runtimes.precisions([manifest])[manifest.name]
    (session,) = runtimes.open(manifest, model_files.model_folder(), 1, precision)
    encoder = model_files.encoder()

    def score(text: str, _: str, prompt_index: int) -> float:
        return float(session.outputs(encoder.collate([encoder.encode(text, prompt_index)])).raw_unit_scores[0])

    loop.serve(score, session.runtime)


if __name__ == "__main__":
    main()
