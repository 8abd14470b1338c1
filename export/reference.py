"""How essays were that a model was made for: what drift is measured from (`essays.drift`).

Words are those of the fold's train part; lengths, distances and scores those of its held-out essays, which are to the
model what a pupil's essay will be: on essays that it learned from, its words and scores would be nearer than they are.
"""

from collections.abc import Mapping, Sequence

from data.rows import Essay
from essays.calibration import Calibration
from essays.drift import DriftReference, PromptReference, prompt_reference
from essays.text import normalize_text
from training.fold_scores import FoldScores


def drift_reference(
    essays: Sequence[Essay], parts: Mapping[str, str], scores: FoldScores, calibration: Calibration
) -> DriftReference:
    """One model's reference on every prompt that it has held-out essays of; `parts` by essay id."""
    texts = {essay.essay_id: normalize_text(essay.text) for essay in essays}
    train: dict[str, list[str]] = {}
    for essay in essays:
        if parts.get(essay.essay_id) == "train":
            train.setdefault(essay.prompt_id, []).append(texts[essay.essay_id])
    prompts = [_prompt(name, train.get(name, []), texts, scores, calibration) for name in scores.prompts()]
    return DriftReference(prompts=tuple(prompts))


def _prompt(
    prompt_id: str, train: Sequence[str], texts: Mapping[str, str], scores: FoldScores, calibration: Calibration
) -> PromptReference:
    own = scores.rows(scores.prompt_ids == prompt_id)
    unit_scores = calibration.unit_scores(prompt_id, own.raw_unit_scores).tolist()
    held_out = [(texts[name], score) for name, score in zip(own.essay_ids.tolist(), unit_scores, strict=True)]
    return prompt_reference(prompt_id, train, held_out)
