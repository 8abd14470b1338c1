"""The lexical model's closed form, against scikit-learn's and against products worked out densely."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.linear_model import Ridge

from training import lexical
from training.batches import as_tensors, encode_part, split_fold
from training.lexical import fit_lexical, presence_rows, products
from training.models.lexical import LexicalScorer
from training.objective import target_scale
from training.start import start_model

PROMPTS = ("ellipse-overall", "asap-3")


@pytest.fixture
def parts(configs, corpus):
    started = start_model(configs["lexical"], PROMPTS, [], seed=1)
    sets = split_fold(corpus.essays, corpus.folds, 0)
    return started, {name: encode_part(part, started.encoder, PROMPTS, "key") for name, part in sets.items()}


def fitted(parts, config) -> LexicalScorer:
    started, encoded = parts
    train = encoded["train"]
    started.scorer.target = target_scale(train.unit_scores, train.prompt_index(), 2)
    fit_lexical(started.scorer, train, encoded["dev"], config)
    return started.scorer


def test_module_gives_what_ridge_regression_gives(parts, configs) -> None:
    """n-grams alone: ridge over rows of length 1, with an intercept, as scikit-learn solves it."""
    config = configs["lexical"].model_copy(
        update={"feature_shares": (0.0,), "penalties": (0.3,), "rarest": 1, "num_averaged": 1}
    )
    started, encoded = parts
    scorer = fitted(parts, config)
    train, test = encoded["train"], encoded["test"]
    buckets = config.ngrams.num_buckets
    known = presence_rows(train.encoded, buckets).toarray().any(axis=0)
    seen = {name: presence_rows(part.encoded, buckets).toarray() * known for name, part in encoded.items()}
    rows = {name: array / np.sqrt(array.sum(axis=1, keepdims=True)) for name, array in seen.items()}
    with torch.inference_mode():
        raw = scorer(**as_tensors(started.encoder.collate(test.encoded))).numpy()
    for prompt in range(2):
        ours, theirs = train.prompt_index() == prompt, test.prompt_index() == prompt
        around = rows["train"][ours] - rows["train"][ours].mean(axis=0)
        penalty = 0.3 * np.square(around).sum(axis=1).mean()
        ridge = Ridge(alpha=penalty).fit(rows["train"][ours], train.unit_scores[ours])
        assert raw[theirs] == pytest.approx(ridge.predict(rows["test"][theirs]), abs=2e-4)


def test_features_alone_are_a_ridge_regression_of_features_and_products_of_two(parts, configs) -> None:
    config = configs["lexical"].model_copy(update={"feature_shares": (1.0,), "penalties": (0.1,), "num_averaged": 1})
    started, encoded = parts
    scorer = fitted(parts, config)
    train, test = encoded["train"], encoded["test"]
    rows = {}
    for name, part in encoded.items():
        features = torch.from_numpy(np.stack([essay.arrays["features"] for essay in part.encoded]))
        seen = scorer.standardized(features).numpy().astype(np.float64)
        products_of_two = (seen[:, :, None] * seen[:, None, :]).reshape(len(seen), -1) / seen.shape[1]
        rows[name] = np.hstack([np.sqrt(2 / seen.shape[1]) * seen, products_of_two])
    with torch.inference_mode():
        raw = scorer(**as_tensors(started.encoder.collate(test.encoded))).numpy()
    ours, theirs = train.prompt_index() == 0, test.prompt_index() == 0
    around = rows["train"][ours] - rows["train"][ours].mean(axis=0)
    ridge = Ridge(alpha=0.1 * np.square(around).sum(axis=1).mean()).fit(rows["train"][ours], train.unit_scores[ours])
    assert raw[theirs] == pytest.approx(ridge.predict(rows["test"][theirs]), abs=2e-4)


def test_the_best_settings_are_averaged(parts, configs) -> None:
    """The mean of two settings' models scores as the mean of their scores; a third, worse one does not count."""
    config = configs["lexical"].model_copy(update={"num_averaged": 1})
    started, encoded = parts
    inputs = as_tensors(started.encoder.collate(encoded["test"].encoded))

    def scored(*penalties: float, num_averaged: int = 1) -> np.ndarray:
        with torch.inference_mode():
            chosen = config.model_copy(update={"penalties": penalties, "feature_shares": (0.3,)})
            return fitted(parts, chosen.model_copy(update={"num_averaged": num_averaged}))(**inputs).numpy()

    both = scored(0.1, 1.0, 1e6, num_averaged=2)
    assert both == pytest.approx((scored(0.1) + scored(1.0)) / 2, abs=1e-5)
    assert scored(0.1) != pytest.approx(scored(1.0), abs=1e-3)


def test_settings_are_chosen_on_dev(parts, configs) -> None:
    """A penalty that lets nothing be learned loses, wherever it stands in the list."""
    config = configs["lexical"].model_copy(update={"num_averaged": 1})
    alone = fitted(parts, config.model_copy(update={"penalties": (0.3,)})).state_dict()
    chosen = fitted(parts, config.model_copy(update={"penalties": (1e6, 0.3, 1e7)})).state_dict()
    assert all(alone[name].equal(value) for name, value in chosen.items())


def test_what_is_counted_comes_from_train_alone(parts, configs) -> None:
    """Dev essays change neither known buckets nor scalers."""
    started, encoded = parts
    scorer = fitted(parts, configs["lexical"])
    buckets, mean = scorer.bucket_weights.clone(), scorer.feature_mean.clone()
    encoded = {**encoded, "dev": encoded["test"]}
    again = fitted((started, encoded), configs["lexical"])
    assert again.bucket_weights.equal(buckets)
    assert again.feature_mean.equal(mean)


def test_products_by_parts_equal_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # Bounds of a size that sends columns both ways, and dense ones through several blocks.
    monkeypatch.setattr(lexical, "_DENSE_ABOVE", 3)
    monkeypatch.setattr(lexical, "_DENSE_COLUMNS", 4)
    rows = sp.random_array((12, 40), density=0.3, rng=np.random.default_rng(3), format="csr")
    assert products(rows) == pytest.approx(rows.toarray() @ rows.toarray().T)
