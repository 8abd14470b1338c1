"""Synthetic essays of one fold: continuations, changes, a teacher's labels, and training on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.rows import Essay
from data.synthetic.children import Child, check_children
from data.synthetic.config import DegradeConfig, SynthesizeConfig, TeacherConfig, VaryConfig
from data.synthetic.unlabelled import UnlabelledEssay
from data.tables import read_essay_rows
from essays.errors import BadCorpus, BadParams
from tests.training.conftest import Corpus
from training import continuations
from training.config import TrainConfig
from training.continuations import plan, to_sentence_end, write_all
from training.fit import fit_fold
from training.fold_scores import fold_parts, read_fold_scores
from training.synthesis import Sources, synthesize_fold
from training.teacher import choose, fold_teacher, raw_unit_scores, taught
from training.variations import LOWERING, degraded, varied

TAIL = " I don't think people need help. It is hard. We begin early. They can't speak often. Many kids are happy."
"""Makes an essay of one sentence one that can be shuffled, cut and said in other words."""


def with_tail(essay: Essay) -> Essay:
    return replace(essay, text=essay.text + TAIL)


def settings(tiny_language_model: Path, kinds: tuple[str, ...] = ()) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate(
        {
            "kinds": kinds,
            "seed": 7,
            "continue": {
                "model": str(tiny_language_model),
                "num_children": 24,
                "most_per_parent": 4,
                "opening_share": 0.6,
                "most_new_words": 40,
                "temperature": 1.0,
                "top_share": 0.9,
                "batch_size": 4,
                "length_tolerance": 1.0,
                "most_repeated": 1.0,
                "perplexity": (1.0, 1e9),
            },
            "vary": {"num_children": 15},
            "degrade": {"num_children": 15, "drop": 0.1},
            "teacher": {"model": "lexical", "num_children": 10, "also_on": ()},
        }
    )


@pytest.fixture(scope="session")
def train_rows(corpus: Corpus) -> list[Essay]:
    parts = fold_parts(corpus.folds, 0)
    rows = read_essay_rows(corpus.folder / "essays.parquet")
    return [with_tail(essay) for essay in rows if parts[essay.essay_id] == "train"]


@pytest.fixture(scope="session")
def unlabelled(corpus: Corpus) -> list[UnlabelledEssay]:
    """The corpus's texts word by word backwards, under ids and prompts as the owner's file has."""
    rows = read_essay_rows(corpus.folder / "essays.parquet")[:20]
    texts = [" ".join(essay.text.split()[::-1]) + TAIL for essay in rows]
    return [UnlabelledEssay(f"asap-valid-{n}", "asap-3" if n % 2 else "asap-1", text) for n, text in enumerate(texts)]


def test_a_continuation_opens_as_its_parent_and_is_as_long(train_rows: list[Essay], tiny_language_model: Path) -> None:
    config = settings(tiny_language_model).continue_.model_copy(update={"most_new_words": 8})
    essay = train_rows[0]
    first, second = plan([essay, essay], config, 7)
    assert (first.child_id, second.child_id) == (f"{essay.essay_id}~continue-0", f"{essay.essay_id}~continue-1")
    assert first.seed != second.seed
    assert first.opening == second.opening
    assert essay.text.startswith(first.opening)
    assert len(first.opening.split()) + first.num_words == len(essay.text.split())
    assert first.num_words == 8
    roomy = plan([essay], config.model_copy(update={"most_new_words": 500}), 7)[0]
    assert roomy.num_words == round(0.4 * len(essay.text.split()))


def test_what_was_written_is_not_written_again_and_a_killed_run_goes_on(
    train_rows: list[Essay], tiny_language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tiny_language_model).continue_
    tasks = plan(train_rows[:10], config, 7)
    whole = write_all(tasks, config, 7, tmp_path / "whole")

    batches, write_batch = [], continuations._write_batch

    def killed_in_the_second(language, batch, config):
        batches.append(len(batch))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return write_batch(language, batch, config)

    monkeypatch.setattr(continuations, "_write_batch", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_all(tasks, config, 7, tmp_path / "broken")
    (path,) = (tmp_path / "broken").iterdir()
    with path.open("a") as file:
        file.write('{"child_id": "half a li')
    assert write_all(tasks, config, 7, tmp_path / "broken") == whole
    assert batches == [4, 4, 4, 2]

    def loads_nothing(name: str):
        raise AssertionError("nothing is left to write")

    assert write_all(tasks, config, 7, tmp_path / "broken", loads_nothing) == whole
    assert len({kept.text for kept in whole.values()}) == len(tasks)


def test_a_text_ends_with_a_sentence_where_that_costs_little() -> None:
    assert to_sentence_end(" and we won. It was a good day for all. Then") == " and we won. It was a good day for all."
    late = " yes. But then nobody came to see us there and we"
    assert to_sentence_end(late) == late


def test_variations_keep_the_score_and_change_the_text(train_rows: list[Essay]) -> None:
    children = varied(train_rows, VaryConfig(num_children=20), 0, 7)
    by_id = {essay.essay_id: essay for essay in train_rows}
    assert len(children) > 10
    for child in children:
        parent = by_id[child.parent_id]
        low, high = (1, 5) if parent.prompt_id == "ellipse-overall" else (0, 3)
        assert child.text != parent.text
        assert abs(len(child.text.split()) - len(parent.text.split())) <= 4
        assert child.unit_score == pytest.approx((parent.score - low) / (high - low))
    assert children == varied(train_rows[::-1], VaryConfig(num_children=20), 0, 7)
    assert children != varied(train_rows, VaryConfig(num_children=20), 0, 8)


def test_degraded_essays_rank_below_their_parents(train_rows: list[Essay]) -> None:
    children = degraded(train_rows, DegradeConfig(num_children=40, drop=0.1), 0, 7)
    by_id = {essay.essay_id: essay for essay in train_rows}
    drops = set()
    for child in children:
        parent = by_id[child.parent_id]
        low, high = (1, 5) if parent.prompt_id == "ellipse-overall" else (0, 3)
        unit_score = (parent.score - low) / (high - low)
        assert child.unit_score < unit_score or unit_score == 0
        if unit_score > 0.2:
            drops.add(round(unit_score - child.unit_score, 6))
    assert drops == {0.1, 0.2}
    assert {hardness for _, hardness in LOWERING.values()} == {1, 2}


def test_a_teacher_labels_as_the_model_that_it_is_and_is_trained_once(
    configs, corpus: Corpus, unlabelled: list[UnlabelledEssay], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = TeacherConfig(model="lexical", num_children=10, also_on=())
    arguments = (unlabelled, config, configs, corpus.essays, corpus.folds, 0, (7, 7), tmp_path)
    children = taught(*arguments)
    assert "trains on fold 0" in capsys.readouterr().err
    assert taught(*arguments) == children
    assert "trains" not in capsys.readouterr().err
    assert {child.prompt_id for child in children} == {"asap-3"}
    assert all(0 <= child.unit_score <= 1 for child in children)
    teacher = fold_teacher(configs["lexical"], corpus.essays, corpus.folds, 0, 7, tmp_path)
    texts = dict(zip(corpus.essays["essay_id"], corpus.essays["text"], strict=True))
    (scores,) = (read_fold_scores(path) for path in tmp_path.glob("*/scores/scores.parquet"))
    asked = [
        (texts[essay_id], prompt_id) for essay_id, prompt_id in zip(scores.essay_ids, scores.prompt_ids, strict=True)
    ]
    assert raw_unit_scores(teacher, asked) == pytest.approx(scores.raw_unit_scores, abs=1e-6)
    with pytest.raises(BadParams, match=r"synthesize.teacher.model is 'nobody'; `train` has"):
        taught(unlabelled, config.model_copy(update={"model": "nobody"}), *arguments[2:])


def test_a_prompt_without_unlabelled_essays_takes_others_only_where_that_is_said(
    unlabelled: list[UnlabelledEssay],
) -> None:
    config = TeacherConfig(model="lexical", num_children=100, also_on=())
    known = ("ellipse-overall", "asap-3")
    assert {prompt_id for _, prompt_id in choose(unlabelled, known, config, 7)} == {"asap-3"}
    also = config.model_copy(update={"also_on": ("ellipse-overall", "asap-3")})
    chosen = choose(unlabelled, known, also, 7)
    assert {(essay.prompt_id, prompt_id) for essay, prompt_id in chosen} == {
        ("asap-3", "asap-3"),
        ("asap-1", "ellipse-overall"),
    }


@pytest.mark.parametrize("kind", ["lexical", "lstm", "encoder", "probe"])
def test_every_model_learns_from_children_and_scores_the_same_essays(
    kind: str, configs: dict[str, TrainConfig], corpus: Corpus, train_rows: list[Essay], tmp_path: Path
) -> None:
    children = varied(train_rows, VaryConfig(num_children=20), 0, 7)
    for name, given in (("without", []), ("with", children)):
        out = tmp_path / name
        fit_fold(configs[kind], corpus.essays, corpus.folds, 0, 7, out, out, tmp_path / "checkpoints", children=given)
    without, learned = (read_fold_scores(tmp_path / name / "scores.parquet") for name in ("without", "with"))
    assert not np.array_equal(without.raw_unit_scores, learned.raw_unit_scores)
    assert learned.essay_ids.tolist() == without.essay_ids.tolist()
    tokenizers = [(tmp_path / name / "tokenizer.json") for name in ("without", "with")]
    if kind == "lstm":  # a vocabulary is counted on real essays
        assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()


def test_training_refuses_children_of_dev_and_test_essays(configs, corpus: Corpus, tmp_path: Path) -> None:
    parts = fold_parts(corpus.folds, 0)
    for part in ("dev", "test"):
        parent = next(essay_id for essay_id, own in parts.items() if own == part)
        child = Child(f"{parent}~vary-0", 0, "vary", parent, 1, "asap-3", 0.5, "the dog runs")
        with pytest.raises(BadCorpus, match=f"its parent {parent} is in {part}, expected train"):
            fit_fold(
                configs["lexical"], corpus.essays, corpus.folds, 0, 7, tmp_path, tmp_path, tmp_path, children=[child]
            )


def test_all_kinds_of_a_fold_carry_parent_kind_and_seed(
    configs, corpus: Corpus, train_rows: list[Essay], unlabelled: list[UnlabelledEssay], tiny_language_model, tmp_path
) -> None:
    rows = [with_tail(essay) for essay in read_essay_rows(corpus.folder / "essays.parquet")]
    sources = Sources(rows, corpus.essays, corpus.folds, unlabelled, configs, 7)
    config = settings(tiny_language_model, ("continue", "vary", "degrade", "teacher"))
    children = synthesize_fold(config, sources, 0, tmp_path)
    assert {child.kind for child in children} == set(config.kinds)
    assert len({child.child_id for child in children}) == len(children)
    assert len({child.seed for child in children}) == len(children)
    check_children(children, fold_parts(corpus.folds, 0))
    train = {essay.essay_id for essay in train_rows}
    assert {child.parent_id for child in children if child.kind != "teacher"} <= train
