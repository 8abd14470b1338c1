"""What must hold of every row before any stage reads it; each fault is named, and all are named at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from data.rows import Essay
from essays.errors import BadCorpus, BadInput
from essays.prompts import Prompt, get_prompt

_SHOWN = 20
"""Faults that a message lists before it only counts them."""
_SHOWN_CHARACTERS = 120
"""Of one fault: a row whose columns have shifted would bring a whole essay along."""

Raw = TypeVar("Raw")
Row = TypeVar("Row")


def convert_rows(source: str, named_rows: Iterable[tuple[str, Raw]], convert: Callable[[Raw], Row]) -> list[Row]:
    """Every raw row converted. Raises BadCorpus with the name of each row that `convert` refused by a ValueError."""
    rows: list[Row] = []
    faults: list[str] = []
    for name, raw in named_rows:
        try:
            rows.append(convert(raw))
        except ValueError as error:
            faults.append(f"{name}: {error!s:.{_SHOWN_CHARACTERS}}")
    _require_none(source, faults)
    return rows


def named_cells(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A row by its columns' names. Raises ValueError when it has more or fewer."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} columns, expected {len(header)}")
    return dict(zip(header, cells, strict=True))


def check_essays(essays: Sequence[Essay], find_prompt: Callable[[str], Prompt] = get_prompt) -> None:
    """Pass essays that every later stage may use, or raise BadCorpus with every fault by essay id."""
    faults = [*_repeated_ids(essays), *(fault for essay in essays for fault in _faults_of(essay, find_prompt))]
    _require_none("essays", faults if essays else ["there are none"])


def _require_none(source: str, faults: Sequence[str]) -> None:
    if not faults:
        return
    listed = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
    more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    raise BadCorpus(f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}:{listed}{more}")


def _repeated_ids(essays: Iterable[Essay]) -> Iterator[str]:
    for essay_id, count in Counter(essay.essay_id for essay in essays).items():
        if count > 1:
            yield f"{essay_id}: the id stands {count} times; expected once"


def _faults_of(essay: Essay, find_prompt: Callable[[str], Prompt]) -> Iterator[str]:
    if not essay.text:
        yield f"{essay.essay_id}: no text"
    if not essay.assignment:
        yield f"{essay.essay_id}: no assignment"
    try:
        prompt = find_prompt(essay.prompt_id)
        if prompt.corpus != essay.corpus:
            yield f"{essay.essay_id}: prompt {essay.prompt_id} belongs to corpus {prompt.corpus}, not {essay.corpus}"
        prompt.score_range.classes([essay.score])
    except BadInput as error:
        yield f"{essay.essay_id}: {error}"
