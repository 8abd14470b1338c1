"""What must hold of every essay before any stage reads it: ids, text, prompt, scores."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from data.rows import Essay
from essays.errors import BadCorpus, BadInput
from essays.prompts import get_prompt

_SHOWN = 20
"""Faults that a message lists before it only counts them."""


def check_essays(essays: Sequence[Essay]) -> None:
    """Pass essays that every later stage may use, or raise BadCorpus with every fault by essay id."""
    faults = [*_repeated_ids(essays), *(fault for essay in essays for fault in _faults_of(essay))]
    if not essays:
        faults.append("no essays at all")
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
        raise BadCorpus(f"{len(faults)} unusable row{'s' * (len(faults) > 1)}:{listed}{more}")


def _repeated_ids(essays: Iterable[Essay]) -> Iterator[str]:
    for essay_id, count in Counter(essay.essay_id for essay in essays).items():
        if count > 1:
            yield f"{essay_id}: the id stands {count} times; expected once"


def _faults_of(essay: Essay) -> Iterator[str]:
    if not essay.text:
        yield f"{essay.essay_id}: no text"
    if not essay.assignment:
        yield f"{essay.essay_id}: no assignment"
    try:
        prompt = get_prompt(essay.prompt_id)
        if prompt.corpus != essay.corpus:
            yield f"{essay.essay_id}: prompt {essay.prompt_id} belongs to corpus {prompt.corpus}, not {essay.corpus}"
        prompt.score_range.classes([essay.score])
    except BadInput as error:
        yield f"{essay.essay_id}: {error}"
