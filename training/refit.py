"""Solves the linear heads once more when the rest has learned: ridge regression on pooled states, prompt by prompt.

The ridge pulls toward the head that was learned, so an infinite penalty is that head; dev picks the penalty.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.batches import Batches
from training.models.scorer import Scorer


def refit_heads(scorer: Scorer, train: Batches, dev: Batches, penalties: Sequence[float]) -> None:
    """Give each prompt's head the penalty with the least squared error on dev; none where no penalty helps."""
    if not penalties:
        return
    (states, errors), (dev_states, dev_errors) = left_to_explain(scorer, train), left_to_explain(scorer, dev)
    prompts, dev_prompts = train.part.prompt_index(), dev.part.prompt_index()
    for prompt in range(len(scorer.heads.weight)):
        ours, theirs = prompts == prompt, dev_prompts == prompt
        if not (ours.any() and theirs.any()):
            continue
        change, shift = best_change(states[ours], errors[ours], dev_states[theirs], dev_errors[theirs], penalties)
        with torch.no_grad():
            scorer.heads.weight[prompt] += torch.from_numpy(change).to(scorer.heads.weight)
            scorer.heads.bias[prompt] += shift


def left_to_explain(scorer: Scorer, batches: Batches) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pooled states (N, H), and by how much the heads miss the standard scores, (N,)."""
    device = next(scorer.parameters()).device
    states, prompts = pooled_states(scorer, batches), torch.from_numpy(batches.part.prompt_index()).to(device)
    with torch.inference_mode():
        standard = scorer.target.standardize(torch.from_numpy(batches.part.unit_scores).to(device), prompts)
        errors = standard - scorer.heads(torch.from_numpy(states).to(device), prompts)
    return states, errors.cpu().numpy()


def best_change(
    train: NDArray, train_errors: NDArray, dev: NDArray, dev_errors: NDArray, penalties: Sequence[float]
) -> tuple[NDArray[np.float64], float]:
    """What to add to a head's weights, (H,), and to its bias, from pooled states (N, H) and what is left to explain.

    A penalty is in units of the states' mean variance times the number of train essays. Errors on dev decide, the
    unchanged head among the candidates.
    """
    centre = train.mean(axis=0).astype(np.float64)
    centred = train - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)
    towards = vectors.T @ (centred.T @ (train_errors - train_errors.mean()))
    scale = max(float(values.mean()), 1e-12)
    candidates = [(np.zeros(len(centre)), 0.0)]
    for penalty in penalties:
        change = vectors @ (towards / (np.maximum(values, 0) + penalty * scale))
        candidates.append((change, float(train_errors.mean() - centre @ change)))
    errors = [float(np.square(dev @ change + shift - dev_errors).mean()) for change, shift in candidates]
    return candidates[int(np.argmin(errors))]


def pooled_states(scorer: Scorer, batches: Batches) -> NDArray[np.float64]:
    """What the heads see of each essay of the part, in its order, (N, H)."""
    device = next(scorer.parameters()).device
    scorer.eval()
    rows: list[NDArray] = []
    with torch.inference_mode():
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.inputs.items()}
            rows.append(scorer.pooled(**inputs).float().cpu().numpy())
    states = np.concatenate(rows).astype(np.float64)
    ordered = np.empty_like(states)
    ordered[np.concatenate(batches.places)] = states
    return ordered
