"""Children: who may be a parent, which texts are fit, what is read and refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest
from pydantic import ValidationError

from data.rows import Essay
from data.synthetic.children import Child, check_children, child_seed, children_table, read_children
from data.synthetic.config import ContinueConfig
from data.synthetic.parents import drawn, scarce_parents
from data.synthetic.quality import faults_of_writing, without_copies
from data.synthetic.unlabelled import read_unlabelled
from data.tables import write_table
from essays.errors import BadCorpus

PARAGRAPH = (
    "When I was younger my family moved to a small town near the sea, and I had to find new friends. It was hard at"
    " first because everybody knew each other already. Then I joined the chess club of our school, where a boy called"
    " me over to his table. We played every week, and soon I was at home there."
)


def essay(number: int, score: float = 3.0, text: str = PARAGRAPH, prompt_id: str = "ellipse-overall") -> Essay:
    return Essay(f"made-{number}", "made", prompt_id, text, score, assignment="any")


def child(parent_id: str = "made-1", kind: str = "vary", text: str = PARAGRAPH, number: int = 0) -> Child:
    return Child(f"{parent_id}~{kind}-{number}", 0, kind, parent_id, 5, "ellipse-overall", 0.5, text)  # type: ignore[arg-type]


def test_children_of_train_essays_and_of_unlabelled_ones_pass() -> None:
    check_children([child(), child("asap-valid-3", "teacher")], {"made-1": "train", "made-2": "test"})


@pytest.mark.parametrize("part", ["dev", "test"])
@pytest.mark.parametrize("kind", ["continue", "vary", "degrade"])
def test_a_child_of_a_dev_or_test_essay_is_refused_by_name(part: str, kind: str) -> None:
    with pytest.raises(BadCorpus, match=rf"made-2~{kind}-0 of fold 0: its parent made-2 is in {part}, expected train"):
        check_children([child(), child("made-2", kind)], {"made-1": "train", "made-2": part})


def test_a_labelled_essay_is_no_unlabelled_one_and_an_unknown_parent_no_parent() -> None:
    with pytest.raises(BadCorpus, match="is in train, expected no part: an unlabelled essay"):
        check_children([child("made-1", "teacher")], {"made-1": "train"})
    with pytest.raises(BadCorpus, match="is in no part, expected train"):
        check_children([child("made-9")], {"made-1": "train"})


def test_a_table_gives_back_the_children_of_one_fold(tmp_path: Path) -> None:
    ours, others = child(), replace(child("made-3"), fold=1)
    write_table(children_table([ours, others]), tmp_path / "synthetic.parquet")
    assert read_children(0, tmp_path / "synthetic.parquet") == [ours]
    assert PARAGRAPH not in repr(ours)
    with pytest.raises(BadCorpus, match="no such file"):
        read_children(0, tmp_path / "none.parquet")


def test_a_draw_depends_on_the_seed_and_on_nothing_else() -> None:
    essays = [essay(number) for number in range(50)]
    first = [each.essay_id for each in drawn(essays, 10, 7, "vary")]
    assert first == [each.essay_id for each in drawn(essays[::-1], 10, 7, "vary")]
    assert first != [each.essay_id for each in drawn(essays, 10, 8, "vary")]
    assert first != [each.essay_id for each in drawn(essays, 10, 7, "degrade")]
    without = [each for each in essays if each.essay_id != first[0]]
    assert [each.essay_id for each in drawn(without, 9, 7, "vary")] == first[1:]
    assert child_seed(7, "a") != child_seed(7, "b")
    assert 0 <= child_seed(7, "a") < 2**63


def test_scarce_scores_are_filled_up_to_the_mean_level() -> None:
    counts = {2.0: 2, 3.0: 40, 4.0: 18}  # 20 on average
    essays = [essay(n, score) for n, score in enumerate(score for score, many in counts.items() for _ in range(many))]
    assert Counter(parent.score for parent in scarce_parents(essays, 100, 20, 7)) == {2.0: 18, 4.0: 2}
    capped = scarce_parents(essays, 100, 3, 7)
    assert Counter(parent.score for parent in capped) == {2.0: 6, 4.0: 2}
    assert set(Counter(parent.essay_id for parent in capped if parent.score == 2.0).values()) == {3}
    assert Counter(parent.score for parent in scarce_parents(essays, 10, 20, 7)) == {2.0: 9, 4.0: 1}


def test_each_prompt_has_scarce_scores_of_its_own() -> None:
    essays = [essay(n, 3.0 if n < 5 else 4.0) for n in range(30)]
    essays += [essay(100 + n, 3.0 if n < 25 else 2.0, prompt_id="asap-3") for n in range(30)]
    chosen = Counter((parent.prompt_id, parent.score) for parent in scarce_parents(essays, 100, 9, 7))
    assert chosen == {("ellipse-overall", 3.0): 10, ("asap-3", 2.0): 10}


@pytest.mark.parametrize(
    ("text", "perplexity", "fault"),
    [
        (PARAGRAPH, 10.0, None),
        (" ".join([PARAGRAPH] * 2), 10.0, "length"),
        (" ".join([PARAGRAPH] * 2), 10.0, "repeated"),
        (PARAGRAPH, 1.2, "perplexity"),
        (PARAGRAPH, 90.0, "perplexity"),
        ("zxcv " * 60, 10.0, "gibberish"),
        ("Der Hund läuft nicht und ich gehe mit ihm auf den Weg. " * 5, 10.0, "language"),
        ("A few words.", 10.0, "too_short"),
    ],
)
def test_writing_is_refused_for_what_is_wrong_with_it(text: str, perplexity: float, fault: str | None) -> None:
    found = faults_of_writing(text, essay(1), perplexity, 0.2, 0.1, (2.0, 60.0))
    assert (fault in found) if fault else found == []


def test_near_copies_go_but_a_change_of_its_own_train_essay_stays() -> None:
    other = " ".join(f"Point {n}: the town needs {n} more trees along road number {n}." for n in range(12))
    essays = [essay(1), essay(2, text=other)]
    parts = {"made-1": "train", "made-2": "test"}
    changed = PARAGRAPH.replace("small town", "little town")
    kept = child(text=changed)
    assert without_copies([kept], essays, parts) == [kept]
    assert without_copies([child("made-1", "continue", changed)], essays, parts) == []
    # A text of the test part under whatever name: of a copied train essay, or among the unlabelled ones.
    assert without_copies([child(text=other), child("asap-valid-1", "teacher", other)], essays, parts) == []
    fresh = " ".join(f"On day {n} we walked {n} miles to the lake and back home." for n in range(12))
    twice = [child("made-1", "continue", fresh), child("made-1", "continue", fresh, 1)]
    assert without_copies(twice, essays, parts) == twice[:1]


def test_unlabelled_essays_are_read_with_their_encoding_mended(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["essay_id", "essay_set", "essay", "domain1_predictionid"])
    sheet.append([1788, 1, "A teacherâ€™s pen.\r\nA book.", 1788])
    book.save(tmp_path / "valid_set.xlsx")
    (read,) = read_unlabelled(tmp_path)
    assert (read.essay_id, read.prompt_id, read.text) == ("asap-valid-1788", "asap-1", "A teacher’s pen.\nA book.")
    with pytest.raises(BadCorpus, match=r"no such file, and `teacher` labels its essays; name asap-aes"):
        read_unlabelled(tmp_path / "elsewhere")


def test_bounds_in_the_wrong_order_are_refused() -> None:
    settings = {
        "model": "any",
        "num_children": 1,
        "most_per_parent": 1,
        "opening_share": 0.5,
        "most_new_words": 10,
        "temperature": 1.0,
        "top_share": 0.9,
        "batch_size": 2,
        "length_tolerance": 0.2,
        "most_repeated": 0.1,
    }
    ContinueConfig(**settings, perplexity=(2.0, 9.0))
    with pytest.raises(ValidationError, match="perplexity must be two numbers"):
        ContinueConfig(**settings, perplexity=(9.0, 2.0))
