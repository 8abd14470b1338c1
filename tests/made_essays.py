"""Essays of ours for tests that need many: plain English, no two alike, none that the gate would flag."""

import csv
import random
from pathlib import Path

# Parts of at most four words: a run of five then spans two of them, and two essays share few.
_PARTS = (
    "Often|Last winter|As a child|In my town|On Mondays|Without a doubt|After the move|Sooner or later|For once|By now"
    "|In the end|At our school|These days|To be honest|During the war|All the same",
    "a good friend|my older brother|the new teacher|an honest mayor|some tired pupil|my grandmother|the whole choir"
    "|a careful writer|our neighbour|the bus driver|one brave girl|every parent|the librarian|a stranger|nobody else"
    "|the youngest boy",
    "could explain|has to remember|wanted to mend|would rather keep|quietly gave away|never forgot|began to share"
    "|tried to save|refused to sell|was asked about|learned to trust|helped me find|had to carry|decided to read"
    "|wrote down|looked after",
    "the old radio|a long letter|three hundred names|the broken heating|her own garden|a book of maps|the last ticket"
    "|a bag of bread|our small library|the river path|his first bicycle|a difficult question|the school garden"
    "|the cheapest shoes|a song about rain|the empty cinema",
    "because it mattered.|although money was short.|while others laughed.|before the bell rang.|without any help."
    "|when nobody was looking.|and I admired that.|so we stayed longer.|in spite of it.|for the younger ones."
    "|until the spring came.|which surprised me.|as he had promised.|with great patience.|if time allowed."
    "|and the town changed.",
)


def made_essay(number: int, num_sentences: int = 10) -> str:
    """One essay for each number: the same for the same number, and little in common with any other."""
    chance = random.Random(number)
    sentences = (" ".join(chance.choice(part.split("|")) for part in _PARTS) for _ in range(num_sentences))
    return " ".join(sentences)


def marked_table(path: Path, num_essays: int = 50, step: float = 1.0) -> Path:
    """A CSV of essays with a teacher's marks from 0 to 6: longer is better, with some noise."""
    chance = random.Random(5)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["essay_id", "essay", "score"])
        for number in range(num_essays):
            num_sentences = chance.randint(4, 24)
            score = round(min(6.0, max(0.0, num_sentences / 4 + chance.gauss(0, 0.5))) / step) * step
            table.writerow([number, made_essay(9000 + number, num_sentences), score])
    return path
