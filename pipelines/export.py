"""Stage export: a model's graph from its first fold's checkpoint, proved to be the same model at each precision."""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from data.tables import ESSAYS_FILE, ESSAYS_SCHEMA, FOLDS_FILE, FOLDS_SCHEMA, read_table
from essays.calibration import read_calibration
from essays.console import run, say, wrote
from essays.encoding import TOKENIZER_FILE
from essays.manifest import GRAPH_FILE, Graph, Precision, PrecisionParity, TraitPrecision
from essays.params import read_params, write_section
from essays.traits import Traits
from export.config import ExportConfig
from export.exported import COMPARED_FILE, PARITY_FILE, PRECISIONS_FILE, Exported, export_folder, write_exported
from export.parity import compare, require_parity, sample_essays
from export.precisions import PrecisionScores, find_shifts, judge, score_at, split_for_shifts
from export.quantize import quantize_graph
from export.run_memory import run_memory
from export.to_onnx import export_graph
from export.trait_precisions import RecordedEssays, Recorder, compare_traits
from serving.runtimes.choice import TRANSFORMERS
from serving.runtimes.openvino_cpu import OpenVinoCpu, multiplies
from serving.runtimes.shifted import ShiftedSession
from training.fold_scores import (
    SCORES_FILE,
    calibration_file,
    fold_parts,
    model_folder,
    read_fold_scores,
    scores_folder,
)
from training.models import LoadedModel, load_model
from training.models.scorer import TokenScorer
from training.trait_files import read_model_traits, read_trait_scores, traits_folder
from training.trait_heads import ScorerWithTraits, load_heads


def main() -> None:
    """Export one model."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.export", description=__doc__)
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml")
    model: str = parser.parse_args().model
    config = read_params("export", ExportConfig)
    fold = read_params("folds", tuple[int, ...])[0]

    source, folder = model_folder(model, fold), export_folder(model)
    loaded, traits = _with_traits(load_model(source), model)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    graph = export_graph(loaded, folder / GRAPH_FILE, config.opset)
    if (source / TOKENIZER_FILE).exists():
        shutil.copyfile(source / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    # Essays that the model did not learn from: on those an error of the graph would show.
    scores = read_fold_scores(scores_folder(model, fold) / SCORES_FILE)
    essays = read_table(ESSAYS_FILE, ESSAYS_SCHEMA).select(["essay_id", "prompt_id", "text"]).to_pandas()
    unseen = essays[essays.essay_id.isin(set(scores.essay_ids.tolist()))]
    calibration = read_calibration(calibration_file(model, fold))
    sample = sample_essays(unseen, loaded.spec.prompt_ids, config.num_parity_essays)
    compared = compare(loaded, folder / GRAPH_FILE, sample, config.parity_batch_size)
    parity = require_parity(model, compared, calibration, config, traits)
    say(f"parity of {parity.num_essays} essays  largest gap {parity.max_gap:.1e}  batched {parity.max_gap_batched:.1e}")
    write_section(compared, folder / COMPARED_FILE)
    write_section(parity, folder / PARITY_FILE)

    shift_on, judged = split_for_shifts(scores, config.num_shift_essays)
    lower = _lower_graphs(loaded, graph, folder, essays, config, fold)
    judged, changed = _scored_below_fp32(lower, shift_on, judged, loaded, folder, essays, traits, model)
    write_section(judged, folder / PRECISIONS_FILE)
    precisions = judge(model, judged, calibration, config, changed)
    spec = loaded.spec
    write_exported(
        Exported(
            kind=spec.kind,
            prompt_ids=spec.prompt_ids,
            encoding=spec.encoding,
            graphs=(graph, *_kept(lower, precisions, folder)),
            precisions=precisions,
            memory=run_memory(spec, folder / GRAPH_FILE),
            traits=traits,
        ),
        folder,
    )
    wrote(folder)


def _lower_graphs(
    loaded: LoadedModel, graph: Graph, folder: Path, essays: pd.DataFrame, config: ExportConfig, fold: int
) -> dict[Precision, Graph]:
    """The graph of every precision below fp32 that this kind of model is served at and this CPU can measure."""
    graphs: dict[Precision, Graph] = {}
    for precision in config.precisions if loaded.spec.kind in TRANSFORMERS else ():
        if not multiplies(precision):
            say(f"{precision} is not published: this CPU has no instructions for it, so it cannot be measured here")
        elif precision == "bf16":
            graphs[precision] = graph.model_copy(update={"precision": precision})
        else:
            train = essays[essays.essay_id.isin(_train_ids(fold))]
            graphs[precision] = quantize_graph(loaded, folder, train, config.num_calibration_essays)
    return graphs


def _scored_below_fp32(
    graphs: Mapping[Precision, Graph],
    shift_on: PrecisionScores,
    judged: PrecisionScores,
    loaded: LoadedModel,
    folder: Path,
    essays: pd.DataFrame,
    traits: Traits | None,
    model: str,
) -> tuple[PrecisionScores, dict[Precision, dict[str, TraitPrecision]]]:
    """The essays to judge by at every precision, with the shifts that were measured on the others; and the traits'."""
    prompt_ids = loaded.spec.prompt_ids
    fp32 = {name: read_trait_scores(traits_folder(model), name) for name in (traits.names if traits else ())}
    changed: dict[Precision, dict[str, TraitPrecision]] = {}
    for precision, graph in graphs.items():
        (session,) = OpenVinoCpu().open(graph, folder, 1)
        plainly = Recorder(session.outputs)
        plain = score_at(shift_on, precision, plainly.run, loaded.encoder, essays, prompt_ids)
        shifts = find_shifts(plain, precision)
        shifted = Recorder(ShiftedSession(session, shifts, prompt_ids).outputs)
        judged = score_at(judged, precision, shifted.run, loaded.encoder, essays, prompt_ids)
        judged = judged.model_copy(update={"shifts": {**judged.shifts, precision: shifts}})
        if traits:
            on = RecordedEssays(plain.essay_ids, plainly.rows)
            changed[precision] = compare_traits(
                traits, fp32, precision, on, RecordedEssays(judged.essay_ids, shifted.rows)
            )
    return judged, changed


def _with_traits(loaded: LoadedModel, model: str) -> tuple[LoadedModel, Traits | None]:
    """The model with its traits' heads, where it has any."""
    folder = traits_folder(model)
    traits = read_model_traits(folder).traits
    if traits is None:
        return loaded, None
    assert isinstance(loaded.module, TokenScorer), "the stage `traits` fits heads on no other"
    return replace(loaded, module=ScorerWithTraits(loaded.module, load_heads(folder)).eval()), traits


def _kept(graphs: Mapping[Precision, Graph], passed: Sequence[PrecisionParity], folder: Path) -> list[Graph]:
    """The files of precisions that passed, beside the fp32 graph; the others are removed."""
    published = {parity.precision for parity in passed}
    own = [graph for graph in graphs.values() if graph.file != GRAPH_FILE]
    for graph in own:
        if graph.precision not in published:
            (folder / graph.file).unlink()
    return [graph for graph in own if graph.precision in published]


def _train_ids(fold: int) -> set[str]:
    parts = fold_parts(read_table(FOLDS_FILE, FOLDS_SCHEMA), fold)
    return {essay_id for essay_id, part in parts.items() if part == "train"}


if __name__ == "__main__":
    run(main)
