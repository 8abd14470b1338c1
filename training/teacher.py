"""Soft labels: a model trained on the fold's train part scores real essays that nobody labelled.

The teacher is trained here and not taken from the `train` stage, which depends on what this makes. It sees what any
model of the fold sees: train to learn, dev to choose its settings, never test.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray

from data.synthetic.children import Child, child_seed, name_child
from data.synthetic.config import TeacherConfig
from data.synthetic.quality import faults_of_text
from data.synthetic.unlabelled import UnlabelledEssay
from essays.console import say
from essays.errors import BadParams
from training.batches import Part
from training.config import TrainConfig
from training.fit import fit_fold, run_digest, score_part
from training.models import LoadedModel, load_model


def taught(
    unlabelled: Sequence[UnlabelledEssay],
    config: TeacherConfig,
    trained: Mapping[str, TrainConfig],
    essays: Dataset,
    folds: pa.Table,
    fold: int,
    seeds: tuple[int, int],
    folder: Path,
) -> list[Child]:
    """Unlabelled essays with the fold's teacher's scores; `seeds` are of synthesis and of training.

    `folder` keeps teachers by all that decides them. Raises BadParams when `train` has no such model.
    """
    if config.model not in trained:
        raise BadParams(f"synthesize.teacher.model is {config.model!r}; `train` has {', '.join(trained)}")
    teacher = fold_teacher(trained[config.model], essays, folds, fold, seeds[1], folder)
    chosen = choose(unlabelled, teacher.spec.prompt_ids, config, seeds[0])
    scores = raw_unit_scores(teacher, [(essay.text, prompt_id) for essay, prompt_id in chosen])
    say(f"teacher  fold {fold}: {config.model} labelled {len(chosen)} of {len(unlabelled)} essays")
    return [
        _child(essay, prompt_id, float(score), fold, seeds[0])
        for (essay, prompt_id), score in zip(chosen, np.clip(scores, 0, 1), strict=True)
    ]


def fold_teacher(
    config: TrainConfig, essays: Dataset, folds: pa.Table, fold: int, seed: int, folder: Path
) -> LoadedModel:
    """The model of a fold, trained on real essays alone; from `folder` where it lies there."""
    own = folder / run_digest(config, essays, folds, fold, seed)
    finished = own / "scores"
    if not finished.exists():
        say(f"teacher  trains on fold {fold}")
        fit_fold(config, essays, folds, fold, seed, own / "model", own / "unfinished", folder / "checkpoints")
        (own / "unfinished").rename(finished)
    return load_model(own / "model")


def choose(
    unlabelled: Sequence[UnlabelledEssay], prompt_ids: Sequence[str], config: TeacherConfig, seed: int
) -> list[tuple[UnlabelledEssay, str]]:
    """Essays that a gate would let pass, each with the prompt that it is labelled on; a seeded draw of those.

    That is its own prompt where the teacher knows it, else one of `also_on` that has no unlabelled essays.
    """
    own = {essay.prompt_id for essay in unlabelled}
    homeless = [prompt_id for prompt_id in config.also_on if prompt_id in prompt_ids and prompt_id not in own]
    pairs = [
        (essay, prompt_id)
        for essay in unlabelled
        for prompt_id in ([essay.prompt_id] if essay.prompt_id in prompt_ids else homeless)
    ]
    pairs.sort(key=lambda pair: child_seed(seed, f"{pair[0].essay_id}~{pair[1]}"))
    fit = (pair for pair in pairs if not faults_of_text(pair[0].text, pair[1]))
    return [pair for pair, _ in zip(fit, range(config.num_children), strict=False)]


def raw_unit_scores(model: LoadedModel, texts: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """The model's own scores of texts on prompts, (N,): expected unit scores, not stretched to the humans' spread."""
    places = {prompt_id: index for index, prompt_id in enumerate(model.spec.prompt_ids)}
    encoded = [model.encoder.encode(text, places[prompt_id]) for text, prompt_id in texts]
    nothing = np.zeros(len(texts))
    part = Part([""] * len(texts), [prompt_id for _, prompt_id in texts], nothing, nothing.astype(np.float32), encoded)
    return score_part(model.module, model.encoder, part, torch.device("cpu"))


def _child(essay: UnlabelledEssay, prompt_id: str, unit_score: float, fold: int, seed: int) -> Child:
    child_id = name_child(essay.essay_id, "teacher", 0 if prompt_id == essay.prompt_id else 1)
    return Child(
        f"{child_id}~{prompt_id}",
        fold,
        "teacher",
        essay.essay_id,
        child_seed(seed, child_id),
        prompt_id,
        unit_score,
        essay.text,
    )
