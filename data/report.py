"""What is in the corpora, in numbers (reports/data.json), and which essays are at fault (data/processed/faults.json).

The report is committed and so holds neither a word nor an id of an essay; the list of ids stays on this machine.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from data.corpora import CorpusName, all_corpora
from data.duplicates import near_duplicates
from data.rows import FAULTS, CorpusRows, Essay
from essays.metrics import exact_agreement, quadratic_weighted_kappa, seen_range
from essays.prompts import get_prompt
from essays.text import words


def list_faults(rows: CorpusRows) -> dict[str, Any]:
    """The ids of all essays with a fault, by its kind, and of all pairs that are nearly the same."""
    ids: dict[str, list[str]] = {}
    for fault in rows.faults:
        ids.setdefault(fault.kind, []).append(fault.essay_id)
    return {
        "faults": {kind: ids[kind] for kind in FAULTS if kind in ids},
        "near_duplicates": [
            {
                "essay_ids": [rows.essays[pair.first].essay_id, rows.essays[pair.second].essay_id],
                "jaccard": round(pair.jaccard, 3),
                "scores": [rows.essays[pair.first].score, rows.essays[pair.second].score],
            }
            for pair in near_duplicates([essay.text for essay in rows.essays])
        ],
    }


def describe_corpus(name: CorpusName, rows: CorpusRows, listed: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, scores and agreement of the raters of one corpus; `listed` is its `list_faults`, counted here."""
    by_prompt: dict[str, list[Essay]] = {}
    for essay in rows.essays:
        by_prompt.setdefault(essay.prompt_id, []).append(essay)
    return {
        "title": all_corpora()[name].title,
        "licence": all_corpora()[name].licence,
        "raw_rows": rows.num_raw_rows,
        "essays": len(rows.essays),
        "prompts": {prompt_id: _describe_prompt(prompt_id, essays) for prompt_id, essays in sorted(by_prompt.items())},
        "near_duplicate_pairs": len(listed["near_duplicates"]),
        "faults": {
            kind: {"what": FAULTS[kind], "essays": len(essay_ids)} for kind, essay_ids in listed["faults"].items()
        },
    }


def human_agreement(prompt_id: str, essays: Sequence[Essay]) -> dict[str, Any] | None:
    """How far rater 1 and rater 2 agree on one prompt; None where single ratings are not published."""
    rated = [essay.rater_scores for essay in essays if len(essay.rater_scores) > 1]
    if not rated:
        return None
    first, second = ([scores[rater] for scores in rated] for rater in (0, 1))
    seen = seen_range(first, second, get_prompt(prompt_id).score_range.step)
    qwk = quadratic_weighted_kappa(first, second, seen)
    return {
        "essays": len(rated),
        "rater_range": [min(*first, *second), max(*first, *second)],
        "qwk": None if math.isnan(qwk) else round(qwk, 4),
        "exact": round(exact_agreement(first, second, seen), 4),
        "within_one_step": round(exact_agreement(first, second, seen, within_steps=1), 4),
    }


def _describe_prompt(prompt_id: str, essays: Sequence[Essay]) -> dict[str, Any]:
    lengths = [len(words(essay.text)) for essay in essays]
    score_range = get_prompt(prompt_id).score_range
    return {
        "essays": len(essays),
        "assignments": len({essay.assignment for essay in essays}),
        "score_range": [score_range.low, score_range.high],
        "score_step": score_range.step,
        "score_counts": {f"{score:g}": count for score, count in sorted(Counter(e.score for e in essays).items())},
        "median_words": median(lengths),
        "under_20_words": sum(length < 20 for length in lengths),
        "human_agreement": human_agreement(prompt_id, essays),
    }
