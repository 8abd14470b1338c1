"""Which children are fit to train on: what a gate would refuse, what is spoiled, and copies go."""

from collections import Counter
from collections.abc import Mapping, Sequence

from data.duplicates import near_duplicates
from data.rows import Essay
from data.synthetic.children import Child
from essays.gate import Gate
from essays.shingles import repeated_share
from essays.text import words


def faults_of_text(text: str, prompt_id: str) -> list[str]:
    """The gate's reasons not to score a text, by the rules that need no profile: length, language, gibberish."""
    return [finding.reason for finding in Gate().findings(text, prompt_id)]


def faults_of_writing(
    text: str,
    parent: Essay,
    perplexity: float,
    length_tolerance: float,
    most_repeated: float,
    perplexities: tuple[float, float],
) -> list[str]:
    """What speaks against a continuation beside a gate's reasons: `length`, `repeated`, `perplexity`."""
    lower = words(text.lower())
    wanted = len(words(parent.text))
    faults = {
        "length": abs(len(lower) - wanted) > length_tolerance * wanted,
        "repeated": repeated_share(lower) > most_repeated,
        "perplexity": not perplexities[0] <= perplexity <= perplexities[1],
    }
    return [*faults_of_text(text, parent.prompt_id), *(name for name, found in faults.items() if found)]


def without_copies(children: Sequence[Child], essays: Sequence[Essay], parts: Mapping[str, str]) -> list[Child]:
    """The children that are near-copies neither of a dev or test essay nor, written anew, of any essay or child.

    A changed train essay is near its parent by design; where the corpus itself holds a copy of the parent in another
    part, its children go. An unlabelled essay that stands in the corpus under another id goes as well.
    """
    texts = [child.text for child in children] + [essay.text for essay in essays]
    dropped: set[int] = set()
    for pair in near_duplicates(texts):
        first, second = pair.first, pair.second
        if first >= len(children) or first in dropped:
            continue
        if second < len(children):
            if _is_new(children[first]) and _is_new(children[second]):
                dropped.add(second)
        elif _is_new(children[first]) or parts[essays[second - len(children)].essay_id] != "train":
            dropped.add(first)
    return [child for place, child in enumerate(children) if place not in dropped]


def counted(faults: Sequence[str]) -> str:
    """`3 length, 1 repeated`, the most frequent first; `none` without any."""
    return ", ".join(f"{number} {name}" for name, number in Counter(faults).most_common()) or "none"


def _is_new(child: Child) -> bool:
    return child.kind in ("continue", "teacher")
