"""A bundle brings what the gate knows of its prompts, and the gate of a catalogue speaks by it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from essays.english import learn_word_order
from essays.errors import InvalidManifest
from essays.gate_profile import (
    GATE_FILE,
    NUM_BUCKETS,
    GateProfile,
    PromptProfile,
    pack_topic,
    topic_buckets,
    write_gate_profile,
)
from essays.text import words
from serving.catalogue import Catalogue, LocalArtifact, read_model

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
Extract = Callable[[list[Path], Path], list[LocalArtifact]]


def profile(sign: float) -> GateProfile:
    """Every word of the essay speaks for asap-1, or against it."""
    weights = np.zeros(NUM_BUCKETS)
    weights[topic_buckets(words(ESSAY.lower()))] = sign
    topic, step = pack_topic(weights)
    part = PromptProfile(
        prompt_id="asap-1",
        topic=topic,
        topic_step=step,
        least_topic=0.0,
        least_order=-1.0,
        most_long=0.5,
        most_repeated=0.5,
    )
    return GateProfile(word_order=learn_word_order([[words(ESSAY.lower())]]), prompts=(part,))


def reasons(catalogue: Catalogue, prompt_id: str) -> list[str]:
    return [finding.reason for finding in catalogue.gate.findings(ESSAY, prompt_id)]


@pytest.mark.parametrize(("sign", "expected"), [(1.0, []), (-1.0, ["off_topic"])])
def test_the_profile_in_a_bundle_judges_its_prompts_and_no_other(
    bundles, extract: Extract, tmp_path: Path, sign: float, expected: list[str]
) -> None:
    changed = bundles.changed("tiny", lambda folder: write_gate_profile(profile(sign), folder / GATE_FILE), tmp_path)
    plain, taught = (read_model(artifact) for artifact in extract([bundles.paths["lexical"], changed], tmp_path / "m"))
    assert reasons(Catalogue([plain, taught]), "asap-1") == expected
    assert reasons(Catalogue([plain, taught]), "ellipse-overall") == []
    assert reasons(Catalogue([plain]), "asap-1") == []


def test_a_malformed_profile_is_named(bundles, extract: Extract, tmp_path: Path) -> None:
    changed = bundles.changed("tiny", lambda folder: (folder / GATE_FILE).write_text("{}"), tmp_path)
    (artifact,) = extract([changed], tmp_path / "m")
    with pytest.raises(InvalidManifest, match=GATE_FILE):
        read_model(artifact)
