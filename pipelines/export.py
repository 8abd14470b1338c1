"""Stage export: a model's graph from its first fold's checkpoint, proved to be the same model."""

import argparse
import shutil

import pyarrow.parquet as pq

from data.tables import ESSAYS_FILE
from essays.calibration import read_calibration
from essays.console import run, say, wrote
from essays.encoding import TOKENIZER_FILE
from essays.manifest import GRAPH_FILE
from essays.params import read_params, write_section
from export.config import ExportConfig
from export.exported import COMPARED_FILE, PARITY_FILE, Exported, export_folder, write_exported
from export.parity import compare, require_parity, sample_essays
from export.to_onnx import export_graph
from training.fold_scores import SCORES_FILE, calibration_file, model_folder, read_fold_scores, scores_folder
from training.models import load_model


def main() -> None:
    """Export one model."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.export", description=__doc__)
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml")
    model: str = parser.parse_args().model
    config = read_params("export", ExportConfig)
    fold = read_params("folds", tuple[int, ...])[0]

    source, folder = model_folder(model, fold), export_folder(model)
    loaded = load_model(source)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    graph = export_graph(loaded, folder / GRAPH_FILE, config.opset)
    if (source / TOKENIZER_FILE).exists():
        shutil.copyfile(source / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    # Essays that the model did not learn from: on those an error of the graph would show.
    held_out = set(read_fold_scores(scores_folder(model, fold) / SCORES_FILE).essay_ids.tolist())
    essays = pq.read_table(ESSAYS_FILE, columns=["essay_id", "prompt_id", "text"]).to_pandas()
    sample = sample_essays(essays[essays.essay_id.isin(held_out)], loaded.spec.prompt_ids, config.num_parity_essays)
    compared = compare(loaded, folder / GRAPH_FILE, sample, config.parity_batch_size)
    parity = require_parity(model, compared, read_calibration(calibration_file(model, fold)), config)
    write_section(compared, folder / COMPARED_FILE)
    write_section(parity, folder / PARITY_FILE)
    write_exported(
        Exported(
            kind=loaded.spec.kind, prompt_ids=loaded.spec.prompt_ids, encoding=loaded.spec.encoding, graphs=(graph,)
        ),
        folder,
    )
    say(f"parity of {parity.num_essays} essays  largest gap {parity.max_gap:.1e}  batched {parity.max_gap_batched:.1e}")
    wrote(folder)


if __name__ == "__main__":
    run(main)
