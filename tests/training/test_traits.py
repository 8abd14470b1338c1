"""Traits: heads that find what is theirs, measured beside what could stand in for them, and the stage around them."""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data.folds import FoldRow
from data.rows import Essay
from data.tables import ESSAYS_FILE, FOLDS_FILE, essays_table, folds_table, write_table
from essays.errors import StageFailed
from essays.prompts import get_prompt
from essays.traits import TraitQuality
from pipelines import traits as stage
from pipelines import traits_report as report_stage
from tests.training.conftest import PLAIN, RICH
from training.batches import as_tensors
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.fold_scores import SCORES_FILE, FoldScores, model_folder, scores_folder, write_fold_scores
from training.models import load_model, save_model
from training.models.scorer import TokenScorer
from training.start import start_model
from training.trait_files import read_model_traits, read_trait_scores, traits_folder
from training.trait_fit import fit_heads
from training.trait_heads import ScorerWithTraits, load_heads
from training.traits import TraitEssays, TraitEvaluator, essays_with_traits
from training.traits_report import traits_page, traits_tree

PROMPT = get_prompt("ellipse-overall")
CALIBRATE = CalibrateConfig(
    coverage=0.9, spread=1.0, largest_stretch=5.0, min_essays=60, cautious_spread=0.93, num_bands=4, min_band_essays=60
)


def graded(ability: float) -> float:
    return float(PROMPT.score_range.round(PROMPT.score_range.from_unit(ability)))


def simulated(num_essays: int = 900) -> tuple[TraitEvaluator, dict[str, np.ndarray]]:
    """Essays with a trait that is the holistic score again and one that is half its own, and heads that know both."""
    rng = np.random.default_rng(2)
    whole, own = rng.normal(0.5, 0.18, num_essays), rng.normal(0.5, 0.18, num_essays)
    apart = 0.5 + 0.5 * (whole - 0.5) + 0.8 * (own - 0.5)
    parts = np.array(["train", "dev", "test"])[np.arange(num_essays) % 3]
    essays = [
        Essay(
            f"e-{place}", "ellipse", PROMPT.prompt_id, "word " * int(20 + 200 * max(whole[place], 0)),
            graded(whole[place]), "any", traits={"again": graded(whole[place]), "apart": graded(apart[place])},
        )
        for place in range(num_essays)
    ]  # fmt: skip
    data = essays_with_traits(essays, {essay.essay_id: part for essay, part in zip(essays, parts, strict=True)})
    assert data
    noise = rng.normal(0, 0.05, (num_essays, 2))
    raw = np.stack([whole, apart], axis=1) * 0.6 + noise
    by_part = {part: raw[parts == part] for part in ("dev", "test")}
    holistic = {part: by_part[part][:, 0] for part in by_part}
    evaluate = EvaluateConfig(num_resamples=200, interval_coverage=0.95)
    return TraitEvaluator(data, holistic, 0, CALIBRATE, evaluate, seed=7), by_part


def test_a_head_that_knows_no_more_than_the_holistic_score_is_said_to_be_no_better() -> None:
    evaluator, raw = simulated()
    again, apart = (evaluator.measure(raw, place) for place in (0, 1))
    assert (again.name, again.num_essays) == ("again", 300)
    assert again.qwk == again.holistic_qwk > 0.85
    assert again.gain_interval == (0.0, 0.0)
    assert again.people_qwk == 1.0
    assert not again.quality.beats_holistic
    assert apart.qwk > 0.8
    assert apart.holistic_qwk < 0.65
    assert apart.quality.beats_holistic
    assert apart.gain_interval[0] < apart.qwk - apart.holistic_qwk < apart.gain_interval[1]
    assert max(apart.length_qwk, apart.people_qwk) < 0.7
    for each in (again, apart):
        assert each.qwk_interval[0] < each.qwk < each.qwk_interval[1]
        assert each.coverage == pytest.approx(0.9, abs=0.06)
        assert each.sd_ratio == pytest.approx(1.0, abs=0.1)
    page, tree = traits_page({"m": (again, apart)}, 0, 0.95, "t.svg"), traits_tree({"m": (again, apart)}, 0)
    rows = [line for line in page.splitlines() if line.startswith(("| again | 300", "| apart | 300"))]
    assert ["**no better**" in row for row in rows] == [True, False]
    assert [tree["m"][name]["better_than_holistic"] for name in ("again", "apart")] == [False, True]


def test_a_gain_counts_only_when_its_whole_interval_does() -> None:
    quality = TraitQuality(
        num_essays=9, qwk=0.7, qwk_interval=(0.6, 0.8), holistic_qwk=0.6, gain_interval=(0.0, 0.2), length_qwk=0.1
    )
    assert not quality.beats_holistic
    assert quality.model_copy(update={"gain_interval": (0.001, 0.2)}).beats_holistic


def test_traits_on_two_prompts_or_with_gaps_are_refused() -> None:
    first = Essay("a", "ellipse", "ellipse-overall", "x", 3.0, "any", traits={"cohesion": 3.0})
    second = replace(first, essay_id="b", prompt_id="asap-1")
    with pytest.raises(StageFailed, match="asap-1, ellipse-overall: a model scores those of one prompt"):
        essays_with_traits([first, second], {"a": "train", "b": "train"})
    with pytest.raises(StageFailed, match="b: traits other than cohesion"):
        essays_with_traits([first, replace(first, essay_id="b", traits={"syntax": 3.0})], {"a": "train", "b": "dev"})
    assert essays_with_traits([replace(first, traits={})], {"a": "train"}) is None


def test_a_head_finds_what_the_holistic_one_lacks_and_a_huge_penalty_is_the_holistic_one(configs) -> None:
    scorer = start_model(configs["lstm"], [PROMPT.prompt_id], ["the dog runs"], seed=1).scorer
    assert isinstance(scorer, TokenScorer)
    size = scorer.heads.weight.shape[1]
    rng = np.random.default_rng(4)
    direction, other = rng.normal(0, 0.3, (2, size))
    with torch.no_grad():
        scorer.heads.weight[0] = torch.from_numpy(direction).float()
    states = {part: rng.normal(0, 1, (number, size)) for part, number in (("train", 400), ("dev", 200))}
    targets = {part: 0.5 + 0.1 * (each @ np.stack([direction, other]).T) for part, each in states.items()}
    heads = fit_heads(scorer, 0, states, targets, (1e-6, 1e-3))
    found = states["dev"] @ heads.weight.numpy().T.astype(np.float64) + heads.bias.numpy()
    np.testing.assert_allclose(found, targets["dev"], atol=1e-3)
    held = fit_heads(scorer, 0, states, targets, (1e9,))
    weight = held.weight.numpy()
    for row in weight:
        assert abs(np.corrcoef(row, direction)[0, 1]) == pytest.approx(1.0, abs=1e-6)


@pytest.fixture
def project(root: Path, configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes what the stage reads: essays with a trait in their words, a fresh encoder of two layers, its scores."""
    monkeypatch.chdir(tmp_path)

    def write(*, with_traits: bool = True, fold: int = 0) -> None:
        random_ = random.Random(5)
        essays = [_essay(random_, number, with_traits=with_traits) for number in range(120)]
        parts = ["train"] * 6 + ["dev"] * 4 if fold == 5 else ["train"] * 6 + ["dev"] * 2 + ["test"] * 2
        rows = [FoldRow(essay.essay_id, fold, parts[number % 10]) for number, essay in enumerate(essays)]
        write_table(essays_table(essays), ESSAYS_FILE)
        write_table(folds_table(rows), FOLDS_FILE)
        started = start_model(configs["encoder"], [PROMPT.prompt_id], [], seed=1)
        save_model(started.scorer, started.spec, model_folder("encoder", fold), started.tokenizer)
        scored = [(essay, row.part) for essay, row in zip(essays, rows, strict=True) if row.part != "train"]
        write_fold_scores(
            FoldScores(
                np.array([essay.essay_id for essay, _ in scored]),
                np.array([essay.prompt_id for essay, _ in scored]),
                np.array([part for _, part in scored]),
                np.array([essay.score for essay, _ in scored]),
                np.array([random_.random() for _ in scored]),
            ),
            scores_folder("encoder", fold) / SCORES_FILE,
        )
        params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
        params |= {"folds": [fold], "models": ["encoder", "lexical"]}
        params["traits"]["models"] = ["encoder"]
        Path("params.yaml").write_text(yaml.safe_dump(params), "utf-8")

    return write


def _essay(random_: random.Random, number: int, *, with_traits: bool) -> Essay:
    share = random_.random()
    words = [random_.choice(RICH if random_.random() < share else PLAIN) for _ in range(24)]
    traits = {"vocabulary": graded(share), "chance": graded(random_.random())} if with_traits else {}
    return Essay(f"e-{number}", "ellipse", PROMPT.prompt_id, " ".join(words), 3.0, "any", traits=traits)


def run_stage(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["traits", "--model", model])
    stage.main()


def test_the_stage_leaves_heads_that_score_as_it_measured(
    project: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    project()
    run_stage("encoder", monkeypatch)
    folder = traits_folder("encoder")
    left = read_model_traits(folder)
    assert left.traits
    assert left.traits.names == ("vocabulary", "chance")
    assert left.traits.score_range == PROMPT.score_range
    vocabulary, chance = left.measured
    assert vocabulary.qwk > 0.4 > chance.qwk
    assert left.traits.traits[0].quality == vocabulary.quality
    loaded = load_model(model_folder("encoder", 0))
    assert isinstance(loaded.module, TokenScorer)
    both = ScorerWithTraits(loaded.module, load_heads(folder)).eval()
    kept = [read_trait_scores(folder, name) for name in left.traits.names]
    random_ = random.Random(5)
    texts = {f"e-{number}": _essay(random_, number, with_traits=True).text for number in range(120)}
    for place in (0, 30):
        essay_id = kept[0].essay_ids[place]
        inputs = as_tensors(loaded.encoder.collate([loaded.encoder.encode(texts[essay_id], 0)]))
        with torch.inference_mode():
            holistic, traits = both(**inputs)
            assert holistic.item() == loaded.module(**inputs).item()
        assert traits.tolist()[0] == pytest.approx([each.raw_unit_scores[place] for each in kept], abs=1e-5)


def test_without_traits_the_stage_and_its_report_say_so(
    project: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    project(with_traits=False)
    for model in ("encoder", "lexical"):
        run_stage(model, monkeypatch)
        assert read_model_traits(traits_folder(model)).traits is None
    said = capsys.readouterr().err
    assert "encoder scores no traits: no essay has traits" in said
    assert "lexical scores no traits: not among traits.models" in said
    monkeypatch.setattr(sys, "argv", ["traits_report"])
    report_stage.main()
    assert Path("reports/traits.json").read_text() == "{}\n"
    assert "No model scores traits here" in Path("reports/traits.md").read_text()
    assert Path("reports/traits.svg").exists()


def test_a_model_for_serving_has_traits_that_were_not_measured(
    project: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(fold=5)
    run_stage("encoder", monkeypatch)
    left = read_model_traits(traits_folder("encoder"))
    assert left.traits
    assert left.measured == ()
    assert [trait.quality for trait in left.traits.traits] == [None, None]


def test_a_model_without_pooled_states_is_named(
    project: Callable[..., None], configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    project()
    started = start_model(configs["probe"], [PROMPT.prompt_id], [], seed=1)
    save_model(started.scorer, started.spec, model_folder("encoder", 0), started.tokenizer)
    with pytest.raises(StageFailed, match="encoder is of kind probe, whose states no head of a trait reads"):
        run_stage("encoder", monkeypatch)


def test_essays_stand_in_one_order_for_targets_and_scores() -> None:
    essays = [
        Essay(f"e-{place}", "ellipse", PROMPT.prompt_id, "x", 3.0, "any", traits={"a": 1.0 + place, "b": 5.0 - place})
        for place in range(3)
    ]
    data = TraitEssays(PROMPT, ("a", "b"), {"train": [], "dev": essays[:2], "test": essays[2:]})
    scores = data.scores({"dev": np.array([0.1, 0.2]), "test": np.array([0.3])}, 1)
    assert scores.human_scores.tolist() == [5.0, 4.0, 3.0]
    assert scores.essay_ids.tolist() == ["e-0", "e-1", "e-2"]
    assert scores.parts.tolist() == ["dev", "dev", "test"]
    assert data.targets("dev").tolist() == [[0.0, 1.0], [0.25, 0.75]]
    assert data.human("train").shape == (0, 2)
