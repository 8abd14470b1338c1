"""A model's drift reference: words of the train part, numbers of the held-out part, and no text."""

import numpy as np
import pytest

from data.rows import Essay
from essays.calibration import Band, Calibration, PromptCalibration
from essays.drift import DriftReference, meter_of, read_reference, write_reference
from essays.errors import InvalidManifest
from export.reference import drift_reference
from tests.made_essays import made_essay
from training.fold_scores import FoldScores

PROMPT = "ellipse-overall"


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    names = [f"e{number}" for number in range(60)]
    essays = [Essay(name, "ellipse", PROMPT, made_essay(n), 3.0, assignment=PROMPT) for n, name in enumerate(names)]
    parts = {name: "train" if number < 30 else "dev" if number < 40 else "test" for number, name in enumerate(names)}
    held_out = np.array(names[30:])
    scores = FoldScores(
        held_out,
        np.full(30, PROMPT),
        np.array([parts[name] for name in names[30:]]),
        np.full(30, 3.0),
        np.linspace(0.3, 0.7, 30),
    )
    part = PromptCalibration(
        prompt_id=PROMPT, centre=0.5, offset=0.1, stretch=1.0, bands=(Band(up_to=1, half_width=0.1),)
    )
    return drift_reference(essays, parts, scores, Calibration(coverage=0.9, prompts=(part,)))


def test_it_measures_held_out_essays_against_train_words(reference: DriftReference) -> None:
    (prompt,) = reference.prompts
    assert prompt.prompt_id == PROMPT
    assert {sum(histogram.counts) for histogram in prompt.histograms.values()} == {30}
    scores = prompt.histograms["unit_score"]
    assert 0.4 < scores.edges[0] < scores.edges[-1] < 0.8  # calibrated: a tenth above the raw scores
    meter = meter_of(prompt)
    known, foreign = meter(made_essay(3)), meter("Quantum chromodynamics describes gluons. " * 10)
    assert known["unknown_words"] < 0.1 < foreign["unknown_words"]
    assert known["topic_distance"] < foreign["topic_distance"]


def test_it_is_read_as_it_was_written_and_holds_no_word(reference: DriftReference, tmp_path) -> None:
    path = tmp_path / "reference.json"
    write_reference(reference, path)
    assert read_reference(path) == reference
    assert "choir" not in path.read_text()
    path.write_text(path.read_text().replace('"counts"', '"count"', 1))
    with pytest.raises(InvalidManifest, match="publish it again"):
        read_reference(path)
