"""Trains one model on one fold and writes its folder. Knows neither DVC nor MLflow; `pipelines.train` does."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch
from datasets import Dataset
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import nn

from data.synthetic.children import Child
from essays.console import say
from essays.encoding import Encoder
from essays.prompts import all_prompts
from training.batches import Batches, Collator, Part, as_tensors, batches_by_length, encode_part, split_fold
from training.config import (
    DecoderConfig,
    EncoderConfig,
    LexicalConfig,
    LoopConfig,
    ProbeConfig,
    TrainConfig,
    TreesConfig,
)
from training.device import best_device, uses_bf16
from training.fold_scores import SCORES_FILE, FoldScores, write_fold_scores
from training.history import HISTORY_FILE, EpochRow, write_history
from training.kept_states import StatesCollator, keep_pooled, keep_states
from training.lexical import fit_lexical
from training.lightning_noise import quiet_lightning
from training.models import save_model
from training.models.decoder import DecoderScorer
from training.models.encoder import EncoderScorer
from training.models.probe import ProbeScorer
from training.models.scorer import Scorer, TokenScorer
from training.models.trees import TreesScorer
from training.module import Learning, Legs
from training.objective import target_scale
from training.probe import fit_probe, raw_scores
from training.refit import refit_heads
from training.soft_targets import soft_unit_scores
from training.start import StartedModel, finished_model, start_model
from training.synthetic_children import with_children
from training.trees import fit_trees
from training.upper_decoder_layers import LowerDecoderLayers, UpperDecoderScorer, can_cut_decoder
from training.upper_layers import LowerLayers, UpperScorer, can_be_cut

SCORING_BATCH = 16
SCORED_PARTS = ("dev", "test")
STATES_FOLDER = "states"
"""Beside the checkpoints: states of frozen layers, for the next fold or seed."""
_PREFIX = "scorer."
OnEpoch = Callable[[EpochRow], None]


def fit_fold(
    config: TrainConfig,
    essays: Dataset,
    folds: pa.Table,
    fold: int,
    seed: int,
    model_folder: Path,
    scores_folder: Path,
    checkpoints: Path,
    on_epoch: OnEpoch = lambda row: None,
    children: Sequence[Child] = (),
) -> list[EpochRow]:
    """Train on the fold's train part, choose on dev, score dev and test, write both folders; the learning curve.

    `children` are synthetic essays of the train part, learned beside it. A run that was killed goes on from
    `checkpoints`, in the folder named by the digest of all that decides its outcome; a finished run leaves nothing
    there.
    """
    sets = split_fold(essays, folds, fold)
    prompt_ids = [prompt_id for prompt_id in all_prompts() if prompt_id in set(sets["train"]["prompt_id"])]
    model = start_model(config, prompt_ids, sets["train"]["text"], seed)
    parts = {name: encode_part(part, model.encoder, prompt_ids, model.encoder_key) for name, part in sets.items()}
    train = parts["train"]
    model.scorer.target = target_scale(train.unit_scores, train.prompt_index(), len(prompt_ids))
    train = parts["train"] = replace(
        train,
        unit_scores=soft_unit_scores(
            train.unit_scores, list(sets["train"]["rater_scores"]), train.prompt_index(), config.rater_share
        ),
    )
    if children:
        train = parts["train"] = with_children(parts, children, model.encoder, prompt_ids)
    raw: dict[str, NDArray[np.float32]] | None = None
    if isinstance(config, LexicalConfig):
        history = fit_lexical(model.scorer, train, parts["dev"], config)
        on_epoch(history[-1])
    elif isinstance(config, TreesConfig):
        assert isinstance(model.scorer, TreesScorer)
        history = fit_trees(model.scorer, model.encoder, train, parts["dev"], config, seed)
        on_epoch(history[-1])
    elif isinstance(config, ProbeConfig):
        assert isinstance(model.scorer, ProbeScorer)
        pooled = keep_pooled(model.scorer, model.encoder, parts, checkpoints / STATES_FOLDER)
        history = fit_probe(model.scorer, parts, pooled, config)
        on_epoch(history[-1])
        raw = {name: raw_scores(model.scorer, parts[name], pooled[name]) for name in SCORED_PARTS}
    else:
        resume = checkpoints / run_digest(config, essays, folds, fold, seed, children)
        history = learn(model, config, parts, seed, resume, on_epoch)
        shutil.rmtree(resume)
        model = finished_model(model, config)
    scores_folder.mkdir(parents=True, exist_ok=True)
    write_fold_scores(as_fold_scores(parts, raw or score_parts(model, parts)), scores_folder / SCORES_FILE)
    save_model(model.scorer, model.spec, model_folder, model.tokenizer)
    write_history(history, scores_folder / HISTORY_FILE)
    return history


def learn(
    model: StartedModel, config: LoopConfig, parts: dict[str, Part], seed: int, checkpoints: Path, on_epoch: OnEpoch
) -> list[EpochRow]:
    """Run the loop, from the last checkpoint if there is one, and leave the best epoch's weights in the scorer."""
    assert isinstance(model.scorer, TokenScorer)
    scorer, collator, parts = without_frozen(model, config, parts, checkpoints.parent / STATES_FOLDER)
    legs = Legs(Batches(parts["train"], collator, ()), config, seed)
    train, dev = (
        Batches(parts[name], collator, batches_by_length(parts[name].lengths, SCORING_BATCH))
        for name in ("train", "dev")
    )
    learning = Learning(scorer, config, legs, dev, on_epoch)
    best = ModelCheckpoint(
        checkpoints, "best", monitor="dev_qwk", mode="max", save_weights_only=True, enable_version_counter=False
    )
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    averaging: list[Callback] = [EMAWeightAveraging(decay=config.ema_decay, use_buffers=False)] * bool(config.ema_decay)
    saved = checkpoints / "last.ckpt"
    if saved.exists():
        say(f"goes on from {saved}")
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=legs.total,
            check_val_every_n_epoch=legs.per_epoch,
            reload_dataloaders_every_n_epochs=1,
            gradient_clip_val=config.clip_norm,
            precision="bf16-mixed" if uses_bf16(config.precision) else "32-true",
            accelerator="auto",
            devices=1,
            callbacks=[*averaging, best, last],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(
            learning,
            ckpt_path=str(saved) if saved.exists() else None,
        )
    load_best(scorer, checkpoints / "best.ckpt")
    scorer.to(best_device())  # Lightning put it back on the CPU
    refit_heads(scorer, train, dev, config.head_penalties)
    return learning.history


def without_frozen(
    model: StartedModel, config: LoopConfig, parts: dict[str, Part], folder: Path
) -> tuple[Scorer, Collator, dict[str, Part]]:
    """What has to run in every epoch: the layers that learn, on kept states of those that do not.

    Where no layer is frozen, or the architecture cannot be cut, that is the whole model on ids.
    """
    whole = model.scorer
    assert isinstance(whole, TokenScorer)
    if not isinstance(config, EncoderConfig | DecoderConfig) or not config.frozen_layers:
        return whole, model.encoder, parts
    halves = cut_in_two(whole, config.frozen_layers, as_tensors(model.encoder.collate(parts["dev"].encoded[:2])))
    if halves is None:
        say("frozen layers run in every epoch: this architecture is not layers in a row")
        return whole, model.encoder, parts
    lower, upper = halves
    settings: list[str] = []
    if isinstance(lower, LowerDecoderLayers):
        lower.in_bf16 = uses_bf16(config.precision)
        settings = [f"bf16 {lower.in_bf16}"]
    kept = keep_states(lower, model.encoder, parts, folder, *settings)
    # What both halves share (a decoder's position embeddings) was put into eval mode with the lower one.
    return upper.train(), StatesCollator(), kept


def cut_in_two(
    whole: TokenScorer, num_frozen: int, example: Mapping[str, torch.Tensor]
) -> tuple[nn.Module, Scorer] | None:
    """The frozen layers, and a scorer of those above; none where these would not do in a row what the whole does."""
    if isinstance(whole, DecoderScorer):
        if not can_cut_decoder(whole, num_frozen, example):
            return None
        return LowerDecoderLayers(whole, num_frozen), UpperDecoderScorer(whole, num_frozen)
    assert isinstance(whole, EncoderScorer)
    if not can_be_cut(whole, num_frozen, example):
        return None
    return LowerLayers(whole, num_frozen), UpperScorer(whole, num_frozen)


def load_best(scorer: Scorer, checkpoint: Path) -> None:
    """Take the weights of a Lightning checkpoint into the plain module; those that it leaves out are there already."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    own = {name: value for name, value in scorer.state_dict().items() if name in scorer.left_out()}
    scorer.load_state_dict({**own, **{name.removeprefix(_PREFIX): value for name, value in state.items()}})


def as_fold_scores(parts: Mapping[str, Part], raw: Mapping[str, NDArray]) -> FoldScores:
    """Raw unit scores of dev and test, (N,) each, beside the essays that they are of."""
    scored = [parts[name] for name in SCORED_PARTS]
    return FoldScores(
        np.array([essay_id for part in scored for essay_id in part.essay_ids]),
        np.array([prompt_id for part in scored for prompt_id in part.prompt_ids]),
        np.repeat(SCORED_PARTS, [len(part) for part in scored]),
        np.concatenate([part.human_scores for part in scored]),
        np.concatenate([raw[name] for name in SCORED_PARTS]).astype(np.float64),
    )


def score_parts(model: StartedModel, parts: Mapping[str, Part]) -> dict[str, NDArray[np.float32]]:
    """The raw unit scores of dev and test, (N,) each."""
    device = best_device()
    scorer = model.scorer.to(device)
    return {name: score_part(scorer, model.encoder, parts[name], device) for name in SCORED_PARTS}


def score_part(scorer: nn.Module, encoder: Encoder, part: Part, device: torch.device) -> NDArray[np.float32]:
    """Raw unit scores in the part's order, (N,); in fp32 whatever learning used, as the exported graph computes."""
    scorer.eval()
    raw = np.empty(len(part), dtype=np.float32)
    with torch.inference_mode():
        for chosen in batches_by_length(part.lengths, SCORING_BATCH):
            inputs = as_tensors(encoder.collate([part.encoded[place] for place in chosen]))
            raw[chosen] = scorer(**{name: value.to(device) for name, value in inputs.items()}).cpu().numpy()
    return raw


def run_digest(
    config: TrainConfig, essays: Dataset, folds: pa.Table, fold: int, seed: int, children: Sequence[Child] = ()
) -> str:
    """Names a run by all that decides its outcome: settings, essays, folds, seed, and the code of this package."""
    digest = hashlib.sha256(f"{config.model_dump_json()} {fold} {seed}".encode())
    for column in ("essay_id", "prompt_id", "text", "score"):
        digest.update("\0".join(map(str, essays[column])).encode())
    digest.update(str(folds.to_pylist()).encode())
    for child in children:
        digest.update(f"{child.child_id} {child.prompt_id} {child.unit_score}\0{child.text}".encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
