"""Stage `prepare`: raw files into checked tables, and what is in them into reports/data.json."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from data.corpora import RAW_FOLDER, CorpusName
from data.prepare import prepare_corpora
from data.report import describe_corpus, list_faults
from data.tables import AUDIT_FILE, ESSAYS_FILE, FAULTS_FILE, audit_table, essays_table, write_table
from essays import console
from essays.params import read_params

REPORT_FILE = Path("reports/data.json")


def main() -> None:
    """Prepare what `corpora` in params.yaml names."""
    argparse.ArgumentParser(
        prog="python -m pipelines.prepare",
        description=f"Read the raw files of every corpus in params.yaml's `corpora`, check every row, and write "
        f"{ESSAYS_FILE}, {AUDIT_FILE}, {FAULTS_FILE} and {REPORT_FILE}.",
    ).parse_args()
    corpora = prepare_corpora(read_params("corpora", tuple[CorpusName, ...]), RAW_FOLDER)
    for name, rows in corpora.items():
        console.say(f"{name}  {len(rows.essays)} essays of {rows.num_raw_rows} rows, {len(rows.faults)} with faults")
    write_table(essays_table(essay for rows in corpora.values() for essay in rows.essays), ESSAYS_FILE)
    write_table(audit_table(writer for rows in corpora.values() for writer in rows.writers), AUDIT_FILE)
    listed = {name: list_faults(rows) for name, rows in corpora.items()}
    _write_json(listed, FAULTS_FILE)
    _write_json({name: describe_corpus(name, rows, listed[name]) for name, rows in corpora.items()}, REPORT_FILE)
    for path in (ESSAYS_FILE, AUDIT_FILE, FAULTS_FILE, REPORT_FILE):
        console.wrote(path)


def _write_json(content: Mapping[CorpusName, dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    console.run(main)
