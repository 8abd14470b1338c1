"""Engines of a packaged model for NVIDIA GPUs, as bundles of their own under out/engines.

Not a stage of dvc.yaml: what comes out depends on the GPU and on TensorRT's version. Without a GPU, and without an
architecture to build for, it says so and ends well, so that a longer script goes on.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from essays.bundle import verify_and_extract
from essays.console import run, say, wrote
from essays.encoding import TokenEncoding
from essays.errors import BadParams
from essays.manifest import describe_file
from export.bundles import find_bundle
from export.to_tensorrt import EngineSource, NoBuilder, find_builder, length_buckets, package_engine

ENGINE_FOLDER = Path("out/engines")


def main() -> None:
    """Build one model's engine."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.tensorrt", description=__doc__)
    parser.add_argument("--model", required=True, help="a packaged model that reads tokens")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="fp16", help="of matrix products")
    parser.add_argument("--architecture", help="build by TensorRT for RTX for this one (sm89), with no GPU needed")
    parser.add_argument("--token-budget", type=int, default=16384, help="tokens in the largest batch (default 16384)")
    parser.add_argument("--bundle", type=Path, help="the model's bundle; default: the one in out/bundles")
    options = parser.parse_args()

    try:
        builder = find_builder(options.architecture)
    except NoBuilder as reason:
        say(f"no engine for {options.model}: {reason}")
        return
    bundle = options.bundle or find_bundle(options.model)
    with TemporaryDirectory() as folder:
        extracted = Path(folder) / "bundle"
        manifest = verify_and_extract(bundle, describe_file(bundle), extracted)
        if not isinstance(manifest.encoding, TokenEncoding):
            raise BadParams(f"--model: {manifest.name} reads no tokens, and a GPU would not make it faster")
        graph = manifest.graph_at("fp32")
        buckets = length_buckets(manifest.encoding.max_tokens, options.token_budget)
        source = EngineSource(manifest.name, manifest.version, graph, extracted / graph.file, buckets)
        say(f"building {manifest.name} for {builder.key} at {options.precision}, {len(buckets)} profiles")
        wrote(package_engine(source, builder, options.precision, ENGINE_FOLDER))


if __name__ == "__main__":
    run(main)
