"""Three small real models, packed as bundles: n-grams, tokens, and an ensemble of both, on two prompts."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from essays.bundle import bundle_name, read_bundle_manifest, verify_and_extract, write_bundle
from essays.calibration import Band, Calibration, PromptCalibration, write_calibration
from essays.encoding import Arrays, NgramEncoding, TokenEncoding, load_encoder
from essays.ensemble import mix_unit_scores
from essays.features import NUM_FEATURES
from essays.manifest import (
    CALIBRATION_FILE,
    CARD_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    TRAITS_OUTPUT_NAME,
    CorpusSource,
    Golden,
    GoldenEssay,
    Graph,
    Manifest,
    Member,
    PromptMetrics,
    TensorSpec,
    content_version,
    describe_file,
)
from essays.outputs import Outputs
from essays.prompts import get_prompt
from essays.registry import find_champion, move_champion, pointer_to, publish_bundle
from essays.settings import StoreSettings
from essays.store import Store, open_store
from essays.traits import Trait, TraitQuality, Traits
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.lanes import Job
from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from tests.serving.traffic import wait_until

PROMPT_IDS = ("ellipse-overall", "asap-1")
WORDS = ["the", "a", "school", "pupil", "teacher", "think", "learn", "because", "however", "example", "people"]
GOLDEN_TEXTS = (
    "I think a school should open late, because pupils who sleep enough learn more. My sister falls asleep in the first"
    " lesson. However, parents go to work early, and a small child cannot wait at home alone until nine o'clock.",
    "Computers help people. For example my uncle writes to us from another country, and we see his children grow. But I"
    " also know people who sit in front of a screen all day and never go outside, so there must be a limit.",
)
WEIGHTS = {"lexical": 0.4, "tiny": 0.6}
RNG_SEED = 5
TRAITS = Traits(
    prompt_id="ellipse-overall",
    score_range=get_prompt("ellipse-overall").score_range,
    coverage=0.9,
    traits=tuple(
        Trait(
            name=name,
            calibration=PromptCalibration(
                prompt_id="ellipse-overall",
                centre=0.5,
                offset=0.05 * place,
                stretch=1.5,
                bands=(Band(up_to=1.0, half_width=0.1 + 0.05 * place),),
            ),
            quality=TraitQuality(
                num_essays=100,
                qwk=0.6,
                qwk_interval=(0.5, 0.7),
                holistic_qwk=0.55,
                gain_interval=(low, 0.1),
                length_qwk=0.2,
            ),
        )
        for place, (name, low) in enumerate([("cohesion", -0.01), ("grammar", 0.01)])
    ),
)
"""Of `Bundles.tiny(traits=TRAITS)`; only grammar's head is better than the holistic score."""


def ngram_graph() -> onnx.ModelProto:
    """A linear model of surface features and the number of n-grams, squashed."""
    rng = np.random.default_rng(RNG_SEED)
    constants = {
        "weights": rng.normal(0, 0.05, (NUM_FEATURES, 1)).astype(np.float32),
        "prompt_bias": np.array([0.2, -0.1], dtype=np.float32),
        "zero": np.array(0, dtype=np.int64),
        "rate": np.array(0.0004, dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["linear"]),
        helper.make_node("Squeeze", ["linear", "axis"], ["from_features"]),
        helper.make_node("Greater", ["ngram_ids", "zero"], ["real"]),
        helper.make_node("Cast", ["real"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "axis"], ["count"], keepdims=0),
        helper.make_node("Mul", ["count", "rate"], ["from_ngrams"]),
        helper.make_node("Gather", ["prompt_bias", "prompt_index"], ["from_prompt"]),
        helper.make_node("Sum", ["from_features", "from_ngrams", "from_prompt"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["raw_unit_score"]),
    ]
    inputs = [int_input("ngram_ids", 2), float_input("features"), int_input("prompt_index", 1)]
    return graph("ngrams", nodes, inputs, constants)


def token_graph(num_tokens: int, head_scale: float = 1.0) -> onnx.ModelProto:
    """A mean of word vectors under the mask, through one unit, squashed. Another scale is another version."""
    rng = np.random.default_rng(RNG_SEED)
    constants = {
        "table": rng.normal(0, 1, (num_tokens, 8)).astype(np.float32),
        "head": (rng.normal(0, 0.5, (8, 1)) * head_scale).astype(np.float32),
        "prompt_bias": np.array([0.1, 0.3], dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),  # (B, T, 8)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        helper.make_node("Mul", ["vectors", "wide_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["length"], keepdims=1),
        helper.make_node("Div", ["total", "length"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "head"], ["linear"]),
        helper.make_node("Squeeze", ["linear", "axis"], ["from_words"]),
        helper.make_node("Gather", ["prompt_bias", "prompt_index"], ["from_prompt"]),
        helper.make_node("Add", ["from_words", "from_prompt"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["raw_unit_score"]),
    ]
    inputs = [int_input("input_ids", 2), int_input("attention_mask", 2), int_input("prompt_index", 1)]
    return graph("tokens", nodes, inputs, constants)


def token_arrays(num_tokens: int, length: int, seed: int, num_rows: int = 1, prompt_index: int = 0) -> Arrays:
    """What the token graph takes, drawn."""
    return {
        "input_ids": np.random.default_rng(seed).integers(0, num_tokens, (num_rows, length)),
        "attention_mask": np.ones((num_rows, length), dtype=np.int64),
        "prompt_index": np.full(num_rows, prompt_index),
    }


def ngram_arrays(length: int, seed: int, prompt_index: int = 1) -> Arrays:
    """What the n-gram graph takes, drawn, a batch of one."""
    rng = np.random.default_rng(seed)
    return {
        "ngram_ids": rng.integers(0, 512, (1, length)),
        "features": rng.normal(size=(1, NUM_FEATURES)).astype(np.float32),
        "prompt_index": np.full(1, prompt_index),
    }


def graph(name: str, nodes: list, inputs: list, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("raw_unit_score", TensorProto.FLOAT, ["batch"])
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    made = helper.make_graph(nodes, name, inputs, [output], initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def with_traits(model: onnx.ModelProto, num_traits: int) -> onnx.ModelProto:
    """The token graph with a second output, a unit for each trait on the same mean of word vectors."""
    heads = np.random.default_rng(RNG_SEED + 1).normal(0, 0.3, (8, num_traits)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(heads, "trait_heads"))
    model.graph.node.append(helper.make_node("MatMul", ["pooled", "trait_heads"], ["trait_logits"]))
    model.graph.node.append(helper.make_node("Sigmoid", ["trait_logits"], [TRAITS_OUTPUT_NAME]))
    shape = ["batch", num_traits]
    model.graph.output.append(helper.make_tensor_value_info(TRAITS_OUTPUT_NAME, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def int_input(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"][:rank])


def float_input(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", NUM_FEATURES])


def slowed(model: onnx.ModelProto, num_products: int) -> onnx.ModelProto:
    """The graph with a useless road beside it, which depends on the input so that no optimizer can take it out."""
    size = 1024
    square = np.random.default_rng(RNG_SEED).normal(0, 1 / size, (size, size)).astype(np.float32)
    nodes = [node for node in model.graph.node if "logit" not in node.output]
    (add,) = (node for node in model.graph.node if "logit" in node.output)
    add.output[0] = "plain_logit"
    squash = nodes.pop()
    steps = [
        helper.make_node("ReduceMean", ["pooled"], ["level"], keepdims=0),
        helper.make_node("Mul", ["square", "level"], ["product_0"]),
        *[
            helper.make_node("MatMul", [f"product_{number}", "square"], [f"product_{number + 1}"])
            for number in range(num_products)
        ],
        helper.make_node("ReduceMean", [f"product_{num_products}"], ["left_over"], keepdims=0),
        helper.make_node("Mul", ["left_over", "nothing"], ["no_score"]),
        helper.make_node("Add", ["plain_logit", "no_score"], ["logit"]),
    ]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= {"square": square, "nothing": np.array(1e-9, np.float32)}
    return graph("slowed", [*nodes, add, *steps, squash], list(model.graph.input), constants)


def small_tokenizer(more_words: Sequence[str] = ()) -> Tokenizer:
    words = [*WORDS, *more_words]
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, **{word: 2 + i for i, word in enumerate(words)}}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def calibration(half_width: float) -> Calibration:
    parts = [
        PromptCalibration(
            prompt_id=prompt_id,
            centre=0.55,
            offset=0.02,
            stretch=1.4,
            bands=(Band(up_to=0.5, half_width=half_width), Band(up_to=1.0, half_width=half_width * 1.2)),
        )
        for prompt_id in PROMPT_IDS
    ]
    return Calibration(coverage=0.9, prompts=tuple(parts))


def specs(model: onnx.ModelProto) -> Graph:
    kinds = {TensorProto.INT64: "int64", TensorProto.FLOAT: "float32"}

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
        return TensorSpec(name=value.name, dtype=kinds[tensor.elem_type], shape=shape)

    return Graph(
        file=GRAPH_FILE,
        precision="fp32",
        inputs=tuple(map(spec, model.graph.input)),
        outputs=tuple(map(spec, model.graph.output)),
    )


def raw_outputs(
    folder: Path, encoding: NgramEncoding | TokenEncoding, described: Graph
) -> dict[tuple[str, str], Outputs]:
    """What ONNX Runtime gives each golden text on each prompt."""
    encoder, (session,) = load_encoder(encoding, folder), OnnxRuntimeCpu().open(described, folder, 1)
    return {
        (text, prompt_id): session.outputs(encoder.collate([encoder.encode(text, index)]))
        for text in GOLDEN_TEXTS
        for index, prompt_id in enumerate(PROMPT_IDS)
    }


def write_parts(
    folder: Path,
    raw: dict[tuple[str, str], float],
    own: Calibration,
    traits: Mapping[tuple[str, str], tuple[float, ...]] | None = None,
) -> None:
    essays = tuple(
        GoldenEssay(
            text=text,
            prompt_id=prompt_id,
            raw_unit_score=score,
            score=own.grade(get_prompt(prompt_id), score).score,
            raw_trait_scores=(traits or {}).get((text, prompt_id), ()),
        )
        for (text, prompt_id), score in raw.items()
    )
    (folder / GOLDEN_FILE).write_text(Golden(essays=essays).model_dump_json())
    (folder / CARD_FILE).write_text(f"# {folder.name}\n\nMade by a test.\n")
    write_calibration(own, folder / CALIBRATION_FILE)


def pack(folder: Path, out_folder: Path, **parts: object) -> Path:
    """A bundle of this folder, named after it."""
    manifest = Manifest.model_validate(
        {
            "name": folder.name,
            "version": "0" * 12,
            "prompt_ids": PROMPT_IDS,
            "metrics": tuple(
                PromptMetrics(prompt_id=each, num_essays=100, qwk=0.7, qwk_interval=(0.65, 0.75)) for each in PROMPT_IDS
            ),
            "corpora": (CorpusSource(name="made-up", licence="CC0-1.0"),),
            "git_commit": "0" * 40,
            "pipeline_digest": "0" * 64,
            "files": {path.name: describe_file(path) for path in sorted(folder.iterdir())},
            **parts,
        }
    )
    return write_bundle(folder, manifest.model_copy(update={"version": content_version(manifest)}), out_folder)


class Bundles:
    """Bundles in a folder, by model name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}
        self._manifest_parts: dict[str, dict[str, object]] = {}

    def lexical(self) -> Path:
        encoding = NgramEncoding(shortest=2, longest=4, num_buckets=4096)
        return self._single("lexical", "lexical", ngram_graph(), encoding, self._folder("lexical"))

    def tiny(self, head_scale: float = 1.0, traits: Traits | None = None) -> Path:
        folder = self._folder("tiny")
        tokenizer = small_tokenizer()
        tokenizer.save(str(folder / "tokenizer.json"))
        encoding = TokenEncoding(head_tokens=96, tail_tokens=32)
        model = token_graph(tokenizer.get_vocab_size(), head_scale)
        model = with_traits(model, len(traits.traits)) if traits else model
        return self._single("tiny", "encoder", model, encoding, folder, traits)

    def poisoned(self, raises: str, no_number: str) -> Path:
        """`tiny` with two more words: on one the graph fails, on the other it gives no number."""
        folder = self._folder("tiny")
        tokenizer = small_tokenizer([no_number, raises])
        tokenizer.save(str(folder / "tokenizer.json"))
        model = token_graph(tokenizer.get_vocab_size() - 1)  # without a row for the last word
        for tensor in model.graph.initializer:
            if tensor.name == "table":
                table = numpy_helper.to_array(tensor).copy()
                table[-1] = np.nan
                tensor.CopyFrom(numpy_helper.from_array(table, "table"))
        return self._single("tiny", "encoder", model, TokenEncoding(head_tokens=96, tail_tokens=32), folder)

    def heavy(self, num_products: int) -> Path:
        """`tiny`, slowed down by products of large matrices, tens of milliseconds each, that do not count."""
        folder = self._folder("tiny")
        tokenizer = small_tokenizer()
        tokenizer.save(str(folder / "tokenizer.json"))
        model = slowed(token_graph(tokenizer.get_vocab_size()), num_products)
        return self._single("tiny", "encoder", model, TokenEncoding(head_tokens=96, tail_tokens=32), folder)

    def ensemble(self, members: Mapping[str, Path]) -> Path:
        member_scores = {name: golden_of(self.folder / "parts" / name) for name in members}
        mixed = {
            key: float(mix_unit_scores(WEIGHTS, {name: scores[key] for name, scores in member_scores.items()}))
            for key in next(iter(member_scores.values()))
        }
        write_parts(self._folder("ensemble"), mixed, calibration(0.12))
        parts = tuple(
            Member(name=name, version=version_of(path), weights=dict.fromkeys(PROMPT_IDS, WEIGHTS[name]))
            for name, path in members.items()
        )
        return self._pack("ensemble", kind="ensemble", members=parts)

    def changed(self, name: str, change: Callable[[Path], None], out_folder: Path) -> Path:
        """The bundle of a model after a change to its files, honestly listed in its manifest."""
        folder = out_folder / name
        shutil.copytree(self.folder / "parts" / name, folder)
        change(folder)
        return pack(folder, out_folder, **self._manifest_parts[name])

    def parts_of(self, name: str) -> dict[str, object]:
        """What a model's manifest says beside what all of them say."""
        return self._manifest_parts[name]

    def publish(self, store: Store, names: Iterable[str] = (*WEIGHTS, "ensemble")) -> None:
        """Make these models the champions of a store that has none."""
        self.publish_paths(store, [self.paths[name] for name in names])

    def publish_paths(self, store: Store, paths: Iterable[Path]) -> None:
        for path in paths:
            pointer = pointer_to(path, read_bundle_manifest(path))
            publish_bundle(store, path, pointer)
            move_champion(store, pointer, None)

    def promote(self, store: Store, path: Path) -> None:
        """Make a bundle its model's champion in place of another, or of none."""
        pointer = pointer_to(path, read_bundle_manifest(path))
        publish_bundle(store, path, pointer)
        move_champion(store, pointer, find_champion(store, pointer.name))

    def _single(
        self,
        name: str,
        kind: str,
        model: onnx.ModelProto,
        encoding: NgramEncoding | TokenEncoding,
        folder: Path,
        traits: Traits | None = None,
    ) -> Path:
        onnx.save(model, str(folder / GRAPH_FILE))
        described = specs(model)
        outputs = raw_outputs(folder, encoding, described)
        raw = {key: float(each.raw_unit_scores[0]) for key, each in outputs.items()}
        raw_traits = {
            key: tuple(map(float, each.raw_trait_scores[0]))
            for key, each in outputs.items()
            if traits and key[1] == traits.prompt_id
        }
        write_parts(folder, raw, calibration(0.15), raw_traits)
        return self._pack(name, kind=kind, encoding=encoding, graphs=(described,), traits=traits)

    def _pack(self, name: str, **parts: object) -> Path:
        self._manifest_parts[name] = parts
        self.paths[name] = pack(self._folder(name), self.folder, **parts)
        return self.paths[name]

    def _folder(self, name: str) -> Path:
        folder = self.folder / "parts" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def golden_of(folder: Path) -> dict[tuple[str, str], float]:
    """Calibrated unit scores of the golden essays."""
    golden = Golden.model_validate_json((folder / GOLDEN_FILE).read_bytes())
    own = Calibration.model_validate_json((folder / CALIBRATION_FILE).read_bytes())
    return {
        (essay.text, essay.prompt_id): float(own.unit_scores(essay.prompt_id, essay.raw_unit_score))
        for essay in golden.essays
    }


def version_of(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def extracted(paths: Sequence[Path], folder: Path) -> list[LocalArtifact]:
    """Bundles as verified folders."""
    artifacts = []
    for path in paths:
        entry = describe_file(path)
        target = folder / entry.sha256
        manifest = verify_and_extract(path, entry, target)
        assert path.name == bundle_name(manifest.name, manifest.version)
        artifacts.append(LocalArtifact(manifest.name, manifest.version, entry.sha256, target))
    return artifacts


def with_nan_weights(folder: Path) -> None:
    """Break the tiny model in this folder: it opens, and scores nothing but NaN."""
    model = onnx.load(str(folder / GRAPH_FILE))
    for tensor in model.graph.initializer:
        if tensor.name == "head":
            tensor.CopyFrom(numpy_helper.from_array(np.full((8, 1), np.nan, np.float32), "head"))
    onnx.save(model, str(folder / GRAPH_FILE))


@contextmanager
def held_lane(desk: Desk) -> Iterator[None]:
    """Its only lane busy with a job that ends when the block does."""
    release = threading.Event()
    pool = desk.scorer().pool
    job: Job[bool] = Job(lambda _: release.wait(20), "held", 1)
    thread = threading.Thread(target=lambda: asyncio.run(pool.run([job], 20)))
    thread.start()
    wait_until(lambda: pool.open_jobs == 1, 10, lambda: "the lane is not held")
    try:
        yield
    finally:
        release.set()
        thread.join()


@pytest.fixture
def open_desk() -> Iterator[Callable[..., Desk]]:
    """Opens desks on verified folders, one lane and no cache unless settings say otherwise; closes them in the end."""
    opened: list[Desk] = []

    def open_one(artifacts: list[LocalArtifact], **settings: Any) -> Desk:
        desk = Desk(ServiceSettings(**{"lanes": 1, "cache": {"store": "off"}, **settings}))
        desk.open(artifacts, lambda _: None)
        opened.append(desk)
        return desk

    yield open_one
    for desk in opened:
        desk.close()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """lexical, tiny and the ensemble of both."""
    made = Bundles(tmp_path_factory.mktemp("bundles"))
    made.ensemble({"lexical": made.lexical(), "tiny": made.tiny()})
    return made


@pytest.fixture(scope="session")
def other_bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The same three, trained again: lexical came out the same, tiny did not, and the ensemble fits this tiny."""
    made = Bundles(tmp_path_factory.mktemp("other-bundles"))
    made.ensemble({"lexical": made.lexical(), "tiny": made.tiny(head_scale=0.2)})
    return made


@pytest.fixture(scope="session")
def trait_artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[LocalArtifact]:
    """The three models, of which tiny scores traits, extracted."""
    made = Bundles(tmp_path_factory.mktemp("trait-bundles"))
    made.ensemble({"lexical": made.lexical(), "tiny": made.tiny(traits=TRAITS)})
    return extracted(list(made.paths.values()), tmp_path_factory.mktemp("trait-artifacts"))


@pytest.fixture(scope="session")
def trait_desk(trait_artifacts: list[LocalArtifact]) -> Iterator[Desk]:
    """A desk with them warm, on one lane."""
    opened = Desk(ServiceSettings(lanes=1, cache={"store": "off"}))
    opened.open(trait_artifacts, lambda _: None)
    yield opened
    opened.close()


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return open_store(StoreSettings(url=f"file://{tmp_path}/store"))


@pytest.fixture(scope="session")
def extract() -> Callable[[Sequence[Path], Path], list[LocalArtifact]]:
    """Turns bundles into verified folders."""
    return extracted


@pytest.fixture(scope="session")
def artifacts(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> list[LocalArtifact]:
    """The three models, extracted."""
    return extracted(list(bundles.paths.values()), tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def desk(artifacts: list[LocalArtifact]) -> Iterator[Desk]:
    """A desk with the three models warm, on two lanes."""
    opened = Desk(ServiceSettings(lanes=2, max_body_bytes=300_000, max_batch_essays=8, cache={"store": "off"}))
    opened.expect(artifacts)
    opened.open(artifacts, lambda _: None)
    yield opened
    opened.close()
