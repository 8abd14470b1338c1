"""Small models of every kind with weights that are not zero, as the training side leaves them."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig

from essays.calibration import Band, Calibration, PromptCalibration, write_calibration
from essays.encoding import TOKENIZER_FILE, NgramEncoding, TokenEncoding
from essays.manifest import GRAPH_FILE
from essays.params import write_section
from export.config import ExportConfig
from export.exported import COMPARED_FILE, PARITY_FILE, PRECISIONS_FILE, Exported, write_exported
from export.parity import compare, require_parity
from export.precisions import PrecisionScores
from export.to_onnx import export_graph
from tests.planted_trees import plant_trees
from training.models import (
    EncoderShape,
    LexicalShape,
    LoadedModel,
    LstmShape,
    ModelSpec,
    TreesShape,
    load_model,
    save_model,
)
from training.models.folder import build_module
from training.models.trees import TreesScorer

PROMPT_IDS = ("asap-1", "ellipse-overall")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SENTENCE = "the a school river bus laughs late early because we they go think water dog"
WORDS = [*SPECIAL, *SENTENCE.split()]
KINDS = ["lexical", "trees", "lstm", "encoder"]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Words of ours, with the special tokens of an encoder."""
    made = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


@pytest.fixture(scope="session")
def model_folders(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind."""
    backbone = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    tokens = TokenEncoding(head_tokens=24, tail_tokens=8)
    specs = {
        "lexical": (NgramEncoding(shortest=1, longest=4, num_buckets=512), LexicalShape()),
        "trees": (
            NgramEncoding(shortest=1, longest=4, num_buckets=512),
            TreesShape(num_components=3, num_trees=400, num_nodes=5, depth=2),
        ),
        "lstm": (tokens, LstmShape(num_words=len(WORDS), word_size=8, hidden_size=8, prompt_size=2, dropout=0.1)),
        "encoder": (tokens, EncoderShape(backbone=backbone.to_dict())),
    }
    folders = {}
    for kind, (encoding, shape) in specs.items():
        spec = ModelSpec(prompt_ids=PROMPT_IDS, encoding=encoding, shape=shape)
        folders[kind] = tmp_path_factory.mktemp(kind)
        save_model(with_weights(spec), spec, folders[kind], tokenizer if encoding.kind == "tokens" else None)
    return folders


def with_weights(spec: ModelSpec) -> torch.nn.Module:
    """A module whose every number was drawn, so that a graph that drops one differs."""
    generator = torch.Generator().manual_seed(3)
    module = build_module(spec)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) * 0.2 + 0.1)
            if name in ("ngram_weights", "bucket_weights"):
                # Row 0 is padding and must add nothing, as the solver leaves it.
                buffer[: buffer.numel() // 513] = 0.0
    if isinstance(module, TreesScorer):
        plant_trees(module, generator)
    return module.eval()


@pytest.fixture(params=KINDS)
def loaded(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> LoadedModel:
    """Each kind in turn."""
    return load_model(model_folders[request.param])


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    """A stretch of 1.2 on both prompts."""
    return Calibration(
        coverage=0.9,
        prompts=tuple(
            PromptCalibration(
                prompt_id=prompt_id, centre=0.5, offset=0.0, stretch=1.2, bands=(Band(up_to=1.0, half_width=0.2),)
            )
            for prompt_id in PROMPT_IDS
        ),
    )


@pytest.fixture(scope="session")
def essays() -> pd.DataFrame:
    """Essays from 1 to 60 words, on both prompts."""
    ids = [f"essay-{place}" for place in range(60)]
    texts = [" ".join(WORDS[4 + (place * step) % 15] for place in range(step)) for step in range(1, 61)]
    return pd.DataFrame({"essay_id": ids, "prompt_id": [PROMPT_IDS[place % 2] for place in range(60)], "text": texts})


@pytest.fixture(scope="session")
def export_config() -> ExportConfig:
    """As params.yaml asks, with fewer essays."""
    return ExportConfig(
        opset=17,
        num_parity_essays=40,
        max_gap=1e-4,
        min_same_grades=0.995,
        parity_batch_size=7,
        precisions=("bf16",),
        max_qwk_change=0.002,
        num_shift_essays=10,
        num_calibration_essays=20,
    )


@pytest.fixture(scope="session")
def exports(
    model_folders: dict[str, Path],
    essays: pd.DataFrame,
    calibration: Calibration,
    export_config: ExportConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Each kind exported, as the stage does."""
    folders = {}
    for kind, source in model_folders.items():
        loaded, folder = load_model(source), tmp_path_factory.mktemp(f"export-{kind}")
        graph = export_graph(loaded, folder / GRAPH_FILE, export_config.opset)
        if (source / TOKENIZER_FILE).exists():
            (folder / TOKENIZER_FILE).write_bytes((source / TOKENIZER_FILE).read_bytes())
        compared = compare(loaded, folder / GRAPH_FILE, essays, export_config.parity_batch_size)
        write_section(compared, folder / COMPARED_FILE)
        write_section(require_parity(kind, compared, calibration, export_config), folder / PARITY_FILE)
        scored = PrecisionScores(
            essay_ids=compared.essay_ids,
            prompt_ids=compared.prompt_ids,
            human_scores=(3.0,) * len(essays),
            raw={"fp32": compared.module},
        )
        write_section(scored, folder / PRECISIONS_FILE)
        spec = loaded.spec
        write_exported(
            Exported(kind=spec.kind, prompt_ids=spec.prompt_ids, encoding=spec.encoding, graphs=(graph,)), folder
        )
        folders[kind] = folder
    return folders


@pytest.fixture(scope="session")
def calibration_file(calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of every model here."""
    path = tmp_path_factory.mktemp("calibration") / "fold-0.json"
    write_calibration(calibration, path)
    return path
