"""Rates: one for each layer, falling toward the embeddings, and a schedule that warms up."""

import pytest

from training.optim import freeze, layer_of, make_optimizer, parameter_groups, rate_factor
from training.start import start_model


@pytest.fixture
def scorer(configs):
    return start_model(configs["encoder"], ("asap-3",), [], seed=1).scorer


def rates(scorer, config) -> dict[str, float]:
    names = {id(weight): name for name, weight in scorer.named_parameters()}
    groups = parameter_groups(scorer, config)
    return {names[id(weight)]: group["lr"] for group in groups for weight in group["params"]}


def test_rate_decays_from_layer_to_layer(scorer, configs) -> None:
    found = rates(scorer, configs["encoder"])
    assert found["backbone.encoder.layer.1.output.dense.weight"] == pytest.approx(2e-3)
    assert found["backbone.encoder.layer.0.output.dense.weight"] == pytest.approx(2e-3 * 0.8)
    assert found["backbone.embeddings.word_embeddings.weight"] == pytest.approx(2e-3 * 0.8**2)
    assert found["heads.weight"] == found["prompt_vectors"] == pytest.approx(1e-2)


def test_every_weight_learns_once(scorer, configs) -> None:
    groups = parameter_groups(scorer, configs["encoder"])
    weights = [weight for group in groups for weight in group["params"]]
    assert len(weights) == len({id(weight) for weight in weights}) == len(list(scorer.parameters()))


def test_only_matrices_decay(scorer, configs) -> None:
    for group in parameter_groups(scorer, configs["encoder"]):
        assert all((weight.ndim > 1) == (group["weight_decay"] > 0) for weight in group["params"])


def test_frozen_layers_get_no_rate(scorer, configs) -> None:
    config = configs["encoder"].model_copy(update={"frozen_layers": 1})
    freeze(scorer, config)
    assert {name.split(".layer.")[-1][0] for name in rates(scorer, config) if "layer." in name} == {"1"}
    assert not any("embeddings" in name or "prompt_vectors" in name for name in rates(scorer, config))


def test_static_word_vectors_do_not_learn(configs) -> None:
    scorer = start_model(configs["lstm"], ("asap-3",), [], seed=1).scorer
    assert "word_vectors.weight" not in rates(scorer, configs["lstm"])
    assert set(rates(scorer, configs["lstm"]).values()) == {configs["lstm"].learning_rate}
    make_optimizer(scorer, configs["lstm"])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.embeddings.word_embeddings.weight", 0),
        ("backbone.encoder.layer.0.attention.self.query.weight", 1),
        ("backbone.encoder.layer.11.output.dense.bias", 12),
        ("backbone.transformer.layer.3.ffn.lin1.weight", 4),
        ("backbone.layers.7.mlp.Wo.weight", 8),
    ],
)
def test_layer_is_read_from_the_names_that_transformers_use(name: str, layer: int) -> None:
    assert layer_of(name) == layer


def test_schedule_rises_then_falls_to_nothing() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert max(factors) == factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == 0.0
    assert factors[55] == pytest.approx(0.5)
    assert rate_factor(0, 100, 0.0) == 1.0
