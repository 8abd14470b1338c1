"""`export/measured.json` from the committed reports: what packages of models for serving say of their agreement."""

import argparse

from essays.console import run, wrote
from essays.params import write_section
from export.measured import MEASURED_FILE, collect


def main() -> None:
    """Collect and write."""
    argparse.ArgumentParser(prog="python -m pipelines.measured", description=__doc__).parse_args()
    measured = collect()
    write_section(measured, MEASURED_FILE)
    wrote(MEASURED_FILE, f"{sum(map(len, measured.models.values()))} figures")


if __name__ == "__main__":
    run(main)
