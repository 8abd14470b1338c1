"""Loss and dev QWK against values worked out by hand and by scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from training.models.parts import TargetScale
from training.objective import matched_qwk, squared_standard_error, target_scale


def test_loss_is_in_standard_deviations_of_each_prompt() -> None:
    scale = TargetScale(2)
    scale.deviation.copy_(torch.tensor([0.1, 0.5]))
    raw, human = torch.tensor([0.4, 0.9]), torch.tensor([0.5, 0.4])
    loss = squared_standard_error(raw, human, torch.tensor([0, 1]), scale)
    assert loss.item() == pytest.approx((1.0 + 1.0) / 2)


def test_answering_the_mean_has_loss_one() -> None:
    unit, prompts = np.array([0.1, 0.5, 0.3, 0.9]), np.array([0, 0, 1, 1])
    scale = target_scale(unit, prompts, 2)
    means = torch.tensor([0.3, 0.3, 0.6, 0.6])
    loss = squared_standard_error(means, torch.from_numpy(unit).float(), torch.from_numpy(prompts), scale)
    assert loss.item() == pytest.approx(1.0)


def test_prompt_of_one_score_alone_gets_a_finite_loss() -> None:
    scale = target_scale(np.array([0.5, 0.5]), np.array([0, 0]), 1)
    assert scale.deviation.tolist() == [1.0]


def test_matched_qwk_undoes_any_shift_and_stretch() -> None:
    human = np.random.default_rng(1).integers(0, 4, size=200).astype(float)
    raw = 0.4 + 0.1 * human / 3
    assert matched_qwk(raw, human, ["asap-3"] * 200) == pytest.approx(1.0)


def test_matched_qwk_averages_prompts_as_scikit_learn_measures_them() -> None:
    random = np.random.default_rng(2)
    expected, raws, humans, names = [], [], [], []
    for prompt_id, low, step, classes in (("asap-3", 0.0, 1.0, 4), ("ellipse-overall", 1.0, 0.5, 9)):
        steps = random.integers(0, classes, size=150)
        human = low + step * steps
        raw = human / human.max() + random.normal(0, 0.2, size=150)
        matched = (raw - raw.mean()) / raw.std() * steps.std() + steps.mean()
        grades = np.clip(np.floor(matched + 0.5), 0, classes - 1).astype(int)
        expected.append(cohen_kappa_score(grades, steps, weights="quadratic", labels=range(classes)))
        raws.append(raw)
        humans.append(human)
        names += [prompt_id] * 150
    assert matched_qwk(np.concatenate(raws), np.concatenate(humans), names) == pytest.approx(np.mean(expected))


def test_constant_scores_agree_with_nobody() -> None:
    assert matched_qwk(np.full(4, 0.5), np.array([0.0, 1.0, 2.0, 3.0]), ["asap-3"] * 4) == 0.0
