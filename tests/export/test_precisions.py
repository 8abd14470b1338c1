"""The gate for precisions below fp32, and scores that no neighbour moves at any of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from essays.calibration import Calibration
from essays.ensemble import EnsembleWeights, PromptWeights
from essays.errors import StageFailed
from essays.manifest import Precision
from export.config import ExportConfig
from export.exported import read_exported
from export.precisions import (
    PrecisionScores,
    compare_precision,
    find_shifts,
    judge,
    mix_precisions,
    score_at,
    split_for_shifts,
)
from export.trait_precisions import Recorder
from serving.runtimes.openvino_cpu import OpenVinoCpu, multiplies
from training.fold_scores import FoldScores
from training.models import load_model

PROMPT_IDS = ("asap-1", "ellipse-overall")
# A stretch of 1.2 around .5: asap-1 has grades 2–12, so this raw score lies between two of them.
EDGE = 0.5 + (0.55 - 0.5) / 1.2


def scores(num_essays: int, **raw: list[float]) -> PrecisionScores:
    return PrecisionScores(
        essay_ids=tuple(f"essay-{place}" for place in range(num_essays)),
        prompt_ids=("asap-1",) * num_essays,
        human_scores=tuple(float(2 + place % 11) for place in range(num_essays)),
        raw={name: tuple(values) for name, values in raw.items()},
    )


def spread(num_essays: int) -> list[float]:
    # In the middle of grades, where a small gap changes none.
    return [0.5 + (place % 7 - 3) * 0.1 / 1.2 for place in range(num_essays)]


def moved(values: list[float], places: int, by: float) -> list[float]:
    return [value + (by if place < places else 0.0) for place, value in enumerate(values)]


def test_a_precision_that_keeps_the_grades_passes_with_its_numbers(
    calibration: Calibration, export_config: ExportConfig
) -> None:
    full = spread(400)
    scored = scores(400, fp32=full, bf16=moved(full, 400, 1e-3))
    scored = scored.model_copy(update={"shifts": {"bf16": {"asap-1": 2e-4}}})
    (parity,) = judge("m", scored, calibration, export_config)
    assert parity.shifts == {"asap-1": 2e-4}
    assert parity.precision == "bf16"
    assert parity.num_essays == 400
    assert parity.max_gap == pytest.approx(1e-3)
    assert parity.same_grade_share == 1.0
    assert parity.qwk_changes == {"asap-aes": 0.0}


def test_one_grade_too_many_and_it_is_not_published(
    calibration: Calibration, export_config: ExportConfig, capsys: pytest.CaptureFixture
) -> None:
    full = spread(400)
    loose = export_config.model_copy(update={"max_qwk_change": 1.0})
    two, three = (scores(400, fp32=full, bf16=moved(full, places, 0.1)) for places in (2, 3))
    assert len(judge("m", two, calibration, loose)) == 1
    assert judge("m", three, calibration, loose) == ()
    assert "m at bf16  400 essays" in (said := capsys.readouterr().err)
    assert "not published: same grade for 99.25% (99.5% wanted)" in said


def test_a_change_of_qwk_fails_though_the_grades_are_nearly_all_the_same(
    calibration: Calibration, export_config: ExportConfig
) -> None:
    full = spread(400)
    scored = scores(400, fp32=full, int8=moved(full, 2, 0.4))
    parity = compare_precision(scored, "int8", calibration)
    assert parity.precision == "int8"
    assert parity.same_grade_share >= 0.995
    strict = export_config.model_copy(update={"max_qwk_change": 1e-5})
    assert judge("m", scored, calibration, strict) == ()


def test_qwk_is_compared_corpus_by_corpus(calibration: Calibration) -> None:
    full = spread(100)
    scored = scores(200, fp32=full + full, bf16=full + moved(full, 30, 0.3))
    scored = scored.model_copy(
        update={
            "prompt_ids": ("asap-1",) * 100 + ("ellipse-overall",) * 100,
            "human_scores": scored.human_scores[:100] + tuple(1 + 0.5 * (place % 9) for place in range(100)),
        }
    )
    changes = compare_precision(scored, "bf16", calibration).qwk_changes
    assert changes["asap-aes"] == 0.0
    assert abs(changes["ellipse"]) > 0.002


def test_the_whole_test_part_judges_and_dev_gives_the_shifts_and_no_essay_does_both() -> None:
    parts = np.array(["dev", "test", "test", "dev", "test", "dev"])
    fold = FoldScores(
        np.array(["e", "d", "a", "b", "c", "f"]),
        np.array(["asap-1", "asap-1", "asap-1", "asap-1", "asap-1", "ellipse-overall"]),
        parts,
        np.arange(6.0) + 2,
        np.linspace(0.1, 0.6, 6),
    )
    on, judged = split_for_shifts(fold, 1)
    assert on.essay_ids == ("b", "f")
    assert judged.essay_ids == ("a", "c", "d")
    assert judged.human_scores == (4.0, 6.0, 3.0)
    assert judged.raw["fp32"] == pytest.approx((0.3, 0.5, 0.2))
    on, judged = split_for_shifts(fold.rows(parts == "dev"), 5)
    assert (on.essay_ids, judged.essay_ids) == (("b",), ("e", "f"))


def test_a_shift_is_what_a_precision_lacks_on_average_prompt_by_prompt() -> None:
    scored = scores(4, fp32=[0.5, 0.5, 0.5, 0.5], bf16=[0.4, 0.6, 0.5, 0.7])
    scored = scored.model_copy(update={"prompt_ids": ("asap-1", "ellipse-overall") * 2})
    assert find_shifts(scored, "bf16") == pytest.approx({"asap-1": 0.05, "ellipse-overall": -0.15})


def test_an_ensemble_is_judged_with_the_members_that_passed_and_the_others_in_fp32(
    calibration: Calibration, export_config: ExportConfig
) -> None:
    full = spread(40)
    members = {
        "lexical": scores(40, fp32=full),
        "minilm": scores(40, fp32=full, bf16=moved(full, 40, 0.002), int8=moved(full, 40, 0.1)),
    }
    passed = {"lexical": (), "minilm": judge("minilm", members["minilm"], calibration, export_config)}
    weights = EnsembleWeights(prompts=(PromptWeights(prompt_id="asap-1", weights={"lexical": 0.25, "minilm": 0.75}),))
    mixed = mix_precisions(weights, members, passed, dict.fromkeys(members, calibration))
    assert set(mixed.raw) == {"fp32", "bf16"}
    assert mixed.shifts == {}
    np.testing.assert_allclose(np.subtract(mixed.raw["bf16"], mixed.raw["fp32"]), 0.75 * 1.2 * 0.002, atol=1e-9)
    members["lexical"] = members["lexical"].model_copy(update={"essay_ids": members["lexical"].essay_ids[::-1]})
    with pytest.raises(StageFailed, match="different essays"):
        mix_precisions(weights, members, passed, dict.fromkeys(members, calibration))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_score_is_the_same_alone_after_others_and_in_a_batch(
    precision: Precision, exports: dict[str, Path], model_folders: dict[str, Path], essays: pd.DataFrame
) -> None:
    if not multiplies(precision):
        pytest.skip(f"this CPU has no instructions for {precision}")
    encoder, exported = load_model(model_folders["encoder"]).encoder, read_exported(exports["encoder"])
    (session,) = OpenVinoCpu().open(
        exported.graphs[0].model_copy(update={"precision": precision}), exports["encoder"], 1
    )
    encoded = [encoder.encode(text, place % 2) for place, text in enumerate(essays.text)]
    alone = np.concatenate([session.outputs(encoder.collate([essay])).raw_unit_scores for essay in encoded])
    reordered = np.concatenate([session.outputs(encoder.collate([essay])).raw_unit_scores for essay in encoded[::-1]])[
        ::-1
    ]
    np.testing.assert_array_equal(alone, reordered)
    # Padding beside a longer neighbour adds zeros to sums: other blocks, another last digit of the precision.
    batched = np.concatenate(
        [session.outputs(encoder.collate(encoded[place::6])).raw_unit_scores for place in range(6)]
    )
    order = np.concatenate([np.arange(len(encoded))[place::6] for place in range(6)])
    np.testing.assert_allclose(batched, alone[order], atol=1e-4 if precision == "fp32" else 2e-3)
    assert len(set(alone.tolist())) > 50


def test_scores_that_are_no_number_pass_no_gate(
    model_folders: dict[str, Path], essays: pd.DataFrame, calibration: Calibration, export_config: ExportConfig
) -> None:
    scored = scores(60, fp32=spread(60))
    encoder = load_model(model_folders["encoder"]).encoder
    broken = score_at(scored, "bf16", lambda _: np.array([np.nan], np.float32), encoder, essays, ["asap-1"])
    assert PrecisionScores.model_validate_json(broken.model_dump_json()) == broken
    assert judge("m", broken, calibration, export_config) == ()


def test_scores_at_a_precision_stand_in_the_order_of_the_essays(
    exports: dict[str, Path], model_folders: dict[str, Path], essays: pd.DataFrame
) -> None:
    loaded, exported = load_model(model_folders["encoder"]), read_exported(exports["encoder"])
    (session,) = OpenVinoCpu().open(exported.graphs[0], exports["encoder"], 1)
    scored = PrecisionScores(
        essay_ids=tuple(essays.essay_id),
        prompt_ids=tuple(essays.prompt_id),
        human_scores=(3.0,) * len(essays),
        raw={"fp32": (0.0,) * len(essays)},
    )
    shuffled = essays.sample(frac=1.0, random_state=4)
    found = score_at(scored, "int8", Recorder(session.outputs).run, loaded.encoder, shuffled, loaded.spec.prompt_ids)
    by_hand = [
        float(
            session.outputs(
                loaded.encoder.collate([loaded.encoder.encode(text, PROMPT_IDS.index(prompt_id))])
            ).raw_unit_scores[0]
        )
        for text, prompt_id in zip(essays.text, essays.prompt_id, strict=True)
    ]
    assert found.raw["int8"] == pytest.approx(by_hand)
    assert found.raw["fp32"] == scored.raw["fp32"]
