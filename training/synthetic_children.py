"""Puts a fold's synthetic essays behind its train essays; what is counted on train essays stays theirs alone.

Vocabulary, scales of targets and softening by raters come from real essays, before this; a child weighs as much as one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data.synthetic.children import Child, check_children
from essays.encoding import Encoder
from essays.prompts import get_prompt
from training.batches import Part


def with_children(
    parts: Mapping[str, Part], children: Sequence[Child], encoder: Encoder, prompt_ids: Sequence[str]
) -> Part:
    """The train part with its children at the end. Raises BadCorpus when a child's parent may not be learned from."""
    check_children(children, {essay_id: name for name, part in parts.items() for essay_id in part.essay_ids})
    train, places = parts["train"], {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    known = [child for child in children if child.prompt_id in places]
    unit_scores = np.array([child.unit_score for child in known], dtype=np.float32)
    scores = [
        float(get_prompt(child.prompt_id).score_range.from_unit(score))
        for child, score in zip(known, unit_scores, strict=True)
    ]
    return replace(
        train,
        essay_ids=[*train.essay_ids, *(child.child_id for child in known)],
        prompt_ids=[*train.prompt_ids, *(child.prompt_id for child in known)],
        human_scores=np.concatenate([train.human_scores, scores]),
        unit_scores=np.concatenate([train.unit_scores, unit_scores]),
        encoded=[*train.encoded, *(encoder.encode(child.text, places[child.prompt_id]) for child in known)],
    )
