"""Memory and time of a decoder against an essay's length, and the small model's p99 beside it, into reports/long/."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.long.beside import beside
from benchmarks.long.subject import Subject, find_subject
from benchmarks.speed.machine import describe_machine
from essays.console import run, say, wrote
from essays.errors import BadParams, StageFailed
from serving.memory import RESERVE_BYTES
from serving.runtimes.openvino_cpu import multiplies

FOLDER, REPORT = Path("out/bench/long"), Path("reports/long")


def main() -> None:
    """Measure, write, draw. Raises BadParams for a model that is no decoder, StageFailed where a run ends early."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long", description=__doc__)
    parser.add_argument("--model", default="smollm", help="a decoder's section of `train` in params.yaml")
    parser.add_argument("--small", default="minilm", help="the small model beside it")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 4096, 8192], help="tokens of the essays")
    parser.add_argument(
        "--precisions", nargs="+", choices=["bf16", "fp32"], help="default: all that this CPU multiplies"
    )
    parser.add_argument(
        "--short", type=int, default=60, help="essays to the small model while it is alone; 0: no traffic"
    )
    parser.add_argument("--report", type=Path, default=REPORT, help="folder of summary.json and the plot")
    options = parser.parse_args()
    from benchmarks.long.plot import draw  # matplotlib takes a second, and `--help` needs none

    large, small = find_subject(options.model, FOLDER), find_subject(options.small, FOLDER)
    if large.memory is None:
        raise BadParams(f"--model: {large.name} is no decoder, and takes no long essays; name one, such as smollm")
    precisions = options.precisions or (["bf16", "fp32"] if multiplies("bf16") else ["fp32"])
    runs = [_measured(large, precision, tokens) for precision in precisions for tokens in options.lengths]
    fastest = precisions[0]
    if options.short:
        say(f"{small.name} alone, then beside {max(options.lengths)} tokens on {large.name}")
    traffic = beside(small, large, max(options.lengths), options.short, fastest) if options.short else None
    summary = {
        "model": large.name,
        "trained": large.trained,
        "machine": describe_machine(),
        "runtime": "openvino, one thread",
        "runs": runs,
        "traffic": traffic and {"small": small.name, "precision": fastest, **traffic},
    }
    options.report.mkdir(parents=True, exist_ok=True)
    path = options.report / "summary.json"
    path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    draw(runs, options.report / "length.svg")
    wrote(path)


def _measured(subject: Subject, precision: str, tokens: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.long.one_run", "--runtime", "openvino", "--precision", precision]
    command += ["--folder", str(subject.folder), "--graph", subject.graph.model_dump_json(), "--tokens", str(tokens)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise StageFailed(
            f"{tokens} tokens at {precision}: the run ended with code {done.returncode} (-9: no memory is left);"
            " its words stand above; shorter ones by --lengths"
        )
    assert subject.memory is not None
    asked = subject.memory.run_bytes(tokens, in_blocks=True) + RESERVE_BYTES
    row = {"precision": precision, **json.loads(done.stdout), "admission_mb": round(asked / 1e6)}
    say(f"{precision}  {tokens} tokens  {row['cpu_s']} CPU s  {row['run_mb']} MB above {row['loaded_mb']} MB")
    return row


if __name__ == "__main__":
    run(main)
