import re
from collections import Counter
from pathlib import Path

import pytest

from data.asap import RATER_RANGES, read_asap, read_published_folds
from data.report import human_agreement
from data.rows import CorpusRows, Essay
from essays.errors import BadCorpus
from essays.prompts import prompts_of

NUM_ESSAYS = {1: 1783, 2: 1800, 3: 1726, 4: 1772, 5: 1805, 6: 1800, 7: 1569, 8: 723}
HUMAN_QWK = {1: 0.721, 2: 0.814, 3: 0.769, 4: 0.851, 5: 0.753, 6: 0.776, 7: 0.721, 8: 0.629}
# Share of essays whose score is the sum of two raters (prompts 1, 7, 8), rater 1's (2), or the higher of two (3 to 6).
RESOLUTION_SHARES = {1: 1.0, 2: 1.0, 3: 0.997, 4: 0.999, 5: 0.966, 6: 0.969, 7: 1.0, 8: 0.842}


def _by_prompt(rows: CorpusRows, number: int) -> list[Essay]:
    return [essay for essay in rows.essays if essay.prompt_id == f"asap-{number}"]


def test_a_line_becomes_an_essay(write_asap):
    (essay,) = read_asap(write_asap([b"7\t1\tDear editor @CAPS1\t4\t5\t\t9"])).essays
    assert (essay.essay_id, essay.corpus, essay.prompt_id, essay.assignment) == (
        "asap-7",
        "asap-aes",
        "asap-1",
        "asap-1",
    )
    assert (essay.text, essay.score, essay.rater_scores) == ("Dear editor @CAPS1", 9.0, (4.0, 5.0))


def test_the_third_rater_is_brought_to_the_scale_of_the_others(write_asap):
    (essay,) = read_asap(write_asap([b"7\t8\tWe laughed\t21\t26\t46\t46"])).essays
    assert (essay.rater_scores, essay.score) == ((21.0, 26.0, 23.0), 46.0)


def test_a_spreadsheets_wrapping_is_undone(write_asap):
    (essay,) = read_asap(write_asap([b'7\t1\t"First, he said ""no"""\t4\t5\t\t9'])).essays
    assert essay.text == 'First, he said "no"'


def test_a_stray_quote_swallows_no_row(write_asap):
    rows = read_asap(write_asap([b'7\t1\t"Never closed, ever\t4\t5\t\t9\n8\t1\t"Next, please"\t4\t5\t\t9']))
    assert [essay.text for essay in rows.essays] == ["Never closed, ever", "Next, please"]
    assert [(fault.essay_id, fault.kind) for fault in rows.faults] == [("asap-7", "unclosed_quote")]


def test_an_inner_quote_that_is_not_doubled_is_kept_and_listed(write_asap):
    rows = read_asap(write_asap([b'7\t1\t"Six feet, 2" tall"\t4\t5\t\t9']))
    assert rows.essays[0].text == 'Six feet, 2" tall'
    assert [fault.kind for fault in rows.faults] == ["unpaired_quote"]


def test_cp1252_is_read_and_doubly_encoded_characters_are_repaired(write_asap):
    twice = "“Ana’s”".encode()  # a reader of cp1252 sees â€œAnaâ€™sâ€ and the undefined byte 0x9d
    assert b"\x9d" in twice
    rows = read_asap(write_asap([b"7\t1\tA caf\xe9 \x96 " + twice + b"\t4\t5\t\t9"]))
    assert rows.essays[0].text == "A café – “Ana’s”"
    assert [fault.kind for fault in rows.faults] == ["doubly_encoded"]


def test_an_undefined_byte_that_no_repair_explains_is_dropped_and_listed(write_asap):
    rows = read_asap(write_asap([b"7\t1\tone\x9d two\t4\t5\t\t9"]))
    assert rows.essays[0].text == "one two"
    assert [fault.kind for fault in rows.faults] == ["undefined_bytes"]


def test_a_control_character_that_others_take_for_a_line_end_splits_no_row(write_asap):
    (essay,) = read_asap(write_asap([b"7\t1\tone \x85 two \x1c\x0b three\t4\t5\t\t9"])).essays
    assert essay.text == "one … two  three"


def test_every_unusable_line_is_named_at_once(write_asap):
    folder = write_asap(
        [b"7\t1\tfine\t4\t5\t\t9", b"8\t1\tno score\t4\t5\t\t", b"9\t1\ttoo high\t4\t7\t\t9", b"10\t9\tx\t1\t1\t\t1"]
    )
    with pytest.raises(BadCorpus) as caught:
        read_asap(folder)
    message = str(caught.value)
    assert "3 faults:" in message
    assert "essay 8: could not convert string to float: ''" in message
    assert "essay 9: score 7 is not one of 1 to 6" in message
    assert "essay 10: no essay set '9'; known: 1, 2, 3, 4, 5, 6, 7, 8" in message


def test_lines_with_other_columns_are_named(write_asap):
    with pytest.raises(BadCorpus, match="line 3: 2 columns, expected 7"):
        read_asap(write_asap([b"7\t1\tfine\t4\t5\t\t9", b"8\t1"]))


def test_a_missing_column_and_a_missing_file_are_named(tmp_path: Path):
    with pytest.raises(BadCorpus, match=r"training_set_rel3\.tsv: no such file; run"):
        read_asap(tmp_path)
    (tmp_path / "training_set_rel3.tsv").write_bytes(b"essay_id\tessay\r\n")
    with pytest.raises(BadCorpus, match="line 1: no column essay_set, rater1_domain1"):
        read_asap(tmp_path)
    with pytest.raises(BadCorpus, match=r"train_ids\.txt: no such file"):
        read_published_folds(tmp_path)


def test_the_real_file_holds_12978_essays(asap_rows: CorpusRows):
    assert (len(asap_rows.essays), asap_rows.num_raw_rows) == (12_978, 12_978)
    assert len({essay.essay_id for essay in asap_rows.essays}) == 12_978
    assert Counter(essay.prompt_id for essay in asap_rows.essays) == {
        f"asap-{n}": count for n, count in NUM_ESSAYS.items()
    }


@pytest.mark.parametrize("number", HUMAN_QWK)
def test_the_real_raters_agree_as_published(asap_rows: CorpusRows, number: int):
    agreement = human_agreement(f"asap-{number}", _by_prompt(asap_rows, number))
    assert agreement is not None
    assert agreement["qwk"] == pytest.approx(HUMAN_QWK[number], abs=0.001)
    assert agreement["essays"] == NUM_ESSAYS[number]


@pytest.mark.parametrize("prompt", prompts_of(["asap-aes"]), ids=lambda prompt: prompt.prompt_id)
def test_the_prompts_ranges_and_agreements_are_those_of_the_real_file(asap_rows: CorpusRows, prompt):
    number = int(prompt.prompt_id.removeprefix("asap-"))
    scores = {essay.score for essay in _by_prompt(asap_rows, number)}
    seen = {7: (2, 24), 8: (10, 60)}.get(number, (prompt.score_range.low, prompt.score_range.high))
    assert (min(scores), max(scores)) == seen
    assert set(scores) <= set(prompt.score_range.grades())
    assert prompt.human_qwk == HUMAN_QWK[number]


@pytest.mark.parametrize("number", RESOLUTION_SHARES)
def test_the_real_scores_come_about_as_the_prompts_say(asap_rows: CorpusRows, number: int):
    rule = sum if number in (1, 7, 8) else (lambda raters: raters[0]) if number == 2 else max
    essays = _by_prompt(asap_rows, number)
    share = sum(rule(essay.rater_scores[:2]) == essay.score for essay in essays) / len(essays)
    assert share == pytest.approx(RESOLUTION_SHARES[number], abs=0.0006)


def test_the_real_third_rater_decides_where_asked(asap_rows: CorpusRows):
    asked = [essay for essay in asap_rows.essays if len(essay.rater_scores) == 3]
    assert len(asked) == 128
    assert all(essay.prompt_id == "asap-8" and essay.score == 2 * essay.rater_scores[2] for essay in asked)


def test_the_real_files_faults_are_counted_and_mended(asap_rows: CorpusRows):
    kinds = Counter(fault.kind for fault in asap_rows.faults)
    assert kinds == {"doubly_encoded": 31, "unpaired_quote": 54, "unclosed_quote": 1}
    assert [fault.essay_id for fault in asap_rows.faults if fault.kind == "unclosed_quote"] == ["asap-10534"]
    assert [essay.essay_id for essay in asap_rows.essays if re.search("[\x80-\x9fâÃÂ]", essay.text)] == []


def test_the_real_raters_stay_within_their_ranges_to_both_ends(asap_rows: CorpusRows):
    for number in range(1, 7):
        given = {score for essay in _by_prompt(asap_rows, number) for score in essay.rater_scores}
        assert given == set(RATER_RANGES[str(number)].grades())


def test_the_real_folds_are_read_as_published(mirror: Path):
    folds = read_published_folds(mirror / "asap-aes")
    assert [len(fold["train"]) for fold in folds] == [7787, 7783, 7785, 7788, 7791]
    assert [len(fold["test"]) for fold in folds] == [2598, 2597, 2596, 2594, 2593]
