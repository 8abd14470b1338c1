"""Traits as a second output: the same pass, proved at each precision, in the bundle and out of it again as measured."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from essays.bundle import verify_and_extract
from essays.calibration import Band, Calibration, PromptCalibration
from essays.errors import StageFailed
from essays.manifest import GOLDEN_FILE, OUTPUT_NAME, TRAITS_OUTPUT_NAME, Golden, TraitPrecision, describe_file
from essays.outputs import Outputs
from essays.prompts import get_prompt
from essays.traits import Trait, TraitQuality, Traits
from export.artifact import package_model
from export.config import ExportConfig
from export.exported import export_folder, read_exported
from export.parity import compare, require_parity
from export.precisions import PrecisionScores, judge
from export.to_onnx import export_graph
from serving.runtimes import Runtimes
from serving.runtimes.openvino_cpu import multiplies
from tests.export.test_artifact import facts
from tests.export.test_export_stage import NUM_DEV, run_stage
from tests.export.test_export_stage import project as project
from training.fold_scores import FoldScores, model_folder, write_fold_scores
from training.fold_scores import calibration_file as calibrated
from training.models import LoadedModel, load_model
from training.models.scorer import TokenScorer
from training.trait_files import ModelTraits, trait_scores_file, traits_folder, write_model_traits
from training.trait_heads import ScorerWithTraits, TraitHeads, save_heads

PROMPT_ID = "ellipse-overall"
TRAITS = Traits(
    prompt_id=PROMPT_ID,
    score_range=get_prompt(PROMPT_ID).score_range,
    coverage=0.9,
    traits=tuple(
        Trait(
            name=name,
            calibration=PromptCalibration(
                prompt_id=PROMPT_ID, centre=0.5, offset=0.0, stretch=1.1, bands=(Band(up_to=1.0, half_width=0.2),)
            ),
            quality=TraitQuality(
                num_essays=9, qwk=0.6, qwk_interval=(0.5, 0.7), holistic_qwk=0.5, gain_interval=gain, length_qwk=0.1
            ),
        )
        for name, gain in (("cohesion", (-0.1, 0.2)), ("syntax", (0.1, 0.2)), ("grammar", (0.1, 0.2)))
    ),
)


def heads_for(loaded: LoadedModel) -> TraitHeads:
    assert isinstance(loaded.module, TokenScorer)
    generator = torch.Generator().manual_seed(9)
    size = loaded.module.heads.weight.shape[1]
    return TraitHeads(torch.randn((3, size), generator=generator) * 0.05, torch.tensor([0.4, 0.5, 0.6]))


@pytest.fixture
def with_traits(model_folders: dict[str, Path]) -> Callable[[str], LoadedModel]:
    """A small model of a kind, with heads for three traits."""

    def load(kind: str) -> LoadedModel:
        loaded = load_model(model_folders[kind])
        assert isinstance(loaded.module, TokenScorer)
        return replace(loaded, module=ScorerWithTraits(loaded.module, heads_for(loaded)).eval())

    return load


@pytest.mark.parametrize("kind", ["lstm", "encoder"])
def test_one_graph_gives_both_as_the_module_does(
    kind: str,
    with_traits: Callable[[str], LoadedModel],
    essays: pd.DataFrame,
    calibration: Calibration,
    export_config: ExportConfig,
    tmp_path: Path,
) -> None:
    loaded = with_traits(kind)
    graph = export_graph(loaded, tmp_path / "model.onnx", export_config.opset)
    assert [(output.name, output.shape) for output in graph.outputs] == [
        (OUTPUT_NAME, ("batch",)),
        (TRAITS_OUTPUT_NAME, ("batch", 3)),
    ]
    compared = compare(loaded, tmp_path / "model.onnx", essays, export_config.parity_batch_size)
    assert len(set(compared.graph_traits)) > 20
    parity = require_parity(kind, compared, calibration, export_config, TRAITS)
    assert parity.traits
    assert parity.traits.same_grade_share == 1.0
    assert 0 < parity.traits.max_gap < 1e-4
    moved = (*compared.graph_traits[:-1], tuple(raw + 0.01 for raw in compared.graph_traits[-1]))
    with pytest.raises(StageFailed, match=r"the graph's traits are not the module's: largest gap 1\.00e-02 alone"):
        require_parity(kind, compared.model_copy(update={"graph_traits": moved}), calibration, export_config, TRAITS)


def test_traits_that_change_too_much_keep_a_precision_from_publication(
    calibration: Calibration, export_config: ExportConfig, capsys: pytest.CaptureFixture
) -> None:
    scored = PrecisionScores(
        essay_ids=("a", "b"), prompt_ids=(PROMPT_ID,) * 2, human_scores=(2.0, 4.0),
        raw={"fp32": (0.3, 0.7), "bf16": (0.3, 0.7)},
    )  # fmt: skip
    same = TraitPrecision(shift=0.0, max_gap=0.0, same_grade_share=1.0, qwk_change=0.0)
    fewer, other = (same.model_copy(update=changed) for changed in ({"same_grade_share": 0.98}, {"qwk_change": 0.01}))
    (passed,) = judge("m", scored, calibration, export_config, {"bf16": {"cohesion": same, "syntax": same}})
    assert passed.traits == {"cohesion": same, "syntax": same}
    assert judge("m", scored, calibration, export_config, {"bf16": {"cohesion": same, "syntax": fewer}}) == ()
    assert judge("m", scored, calibration, export_config, {"bf16": {"cohesion": same, "syntax": other}}) == ()
    said = capsys.readouterr().err
    assert "same grade of traits for 99.00% (99.5% wanted)" in said
    assert "QWK on traits changes by +0.0050 (0.002 accepted)" in said


def test_the_stage_measures_traits_and_the_service_gives_what_was_measured(
    project: Path, essays: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(model_folder("encoder", 0))
    heads, folder = heads_for(loaded), traits_folder("encoder")
    save_heads(heads, folder)
    write_model_traits(ModelTraits(traits=TRAITS), folder)
    mine = essays[essays.prompt_id == PROMPT_ID]
    module = ScorerWithTraits(loaded.module, heads).eval()  # type: ignore[arg-type]
    raw = {row.essay_id: traits_of(module, loaded, row.text) for row in mine.itertuples()}
    held_out = set(essays.essay_id[NUM_DEV:])
    for place, name in enumerate(TRAITS.names):
        scores = FoldScores(
            np.array(list(raw)),
            np.array([PROMPT_ID] * len(raw)),
            np.array(["test" if essay_id in held_out else "dev" for essay_id in raw]),
            np.array([2.0 + number % 5 * 0.5 for number in range(len(raw))]),
            np.array([each[place] for each in raw.values()]),
        )
        write_fold_scores(scores, trait_scores_file(folder, name))
    run_stage(monkeypatch)
    exported = read_exported(export_folder("encoder"))
    assert exported.traits == TRAITS
    bundle = package_model(facts("encoder"), export_folder("encoder"), calibrated("encoder", 0), project / "bundle")
    manifest = verify_and_extract(bundle, describe_file(bundle), project / "extracted")
    assert manifest.traits == TRAITS
    assert manifest.parity
    assert manifest.parity.traits
    card = (project / "extracted" / "card.md").read_text()
    assert "| cohesion | 9 | 0.600 | 0.500–0.700 | 0.500, as good |" in card
    assert "| syntax | 9 | 0.600 | 0.500–0.700 | 0.500, surely worse |" in card
    golden = Golden.model_validate_json((project / "extracted" / GOLDEN_FILE).read_bytes())
    lengths = {essay.prompt_id: len(essay.raw_trait_scores) for essay in golden.essays}
    assert lengths == {PROMPT_ID: 3, "asap-1": 0}
    if not multiplies("bf16"):
        assert manifest.precisions == ()
        return
    (parity,) = manifest.precisions
    assert set(parity.traits) == set(TRAITS.names)
    (session,) = Runtimes().open(manifest, project / "extracted", 1, "bf16")
    judged = [row for row in mine.itertuples() if row.essay_id in held_out]
    served = np.stack([outputs_of(session, loaded, row.text).raw_trait_scores[0] for row in judged])
    gaps = np.abs(served - np.stack([raw[row.essay_id] for row in judged])).max(axis=0)
    assert gaps.tolist() == pytest.approx([parity.traits[name].max_gap for name in TRAITS.names], abs=1e-6)
    assert any(parity.traits[name].shift for name in TRAITS.names)


def traits_of(module: ScorerWithTraits, loaded: LoadedModel, text: str) -> list[float]:
    arrays = loaded.encoder.collate([loaded.encoder.encode(text, loaded.spec.prompt_index(PROMPT_ID))])
    with torch.inference_mode():
        return module(**{name: torch.from_numpy(array) for name, array in arrays.items()})[1][0].tolist()


def outputs_of(session: object, loaded: LoadedModel, text: str) -> Outputs:
    arrays = loaded.encoder.collate([loaded.encoder.encode(text, loaded.spec.prompt_index(PROMPT_ID))])
    return session.outputs(arrays)  # type: ignore[attr-defined]
