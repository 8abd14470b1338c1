"""`make served`: models of all nine prompts, refit on all essays, published in place of the default run's.

Runs the stages under the profile `served` in a checkout of its own, as `pipelines.crossval` does: nothing here changes
but the store and `reports/served/`, which says that the service gives the pipeline's grades, and what the gate for nine
prompts finds. Killed, it goes on where it was.
"""

import argparse
from pathlib import Path

from essays.console import run, say
from essays.params import read_params
from pipelines.crossval import REPORTED, REPORTS, bring, call, check_out, set_up, stage_environment
from pipelines.served_grades import REPORT_FILE

CHECKOUT = Path("out/served")
PROFILE = "served"


def main() -> None:
    """Check out, set the profile, train, package, compare with the service, publish."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.served", description=__doc__)
    parser.add_argument("--override", metavar="REASON", help="promote against the gate; the reason is recorded")
    parser.add_argument("--no-publish", dest="publish", action="store_false", help="end with the bundles, checked")
    options = parser.parse_args()
    run(lambda: served(options.override, options.publish))


def served(override: str | None, publish: bool) -> None:
    """Train and check the joint models, and publish them where that is asked for."""
    check_out(CHECKOUT)
    environment = stage_environment()
    set_up(CHECKOUT, environment, PROFILE, read_params("seed", int))
    # Before `evaluate` replaces the default run's report, which is a part of what was measured.
    call(CHECKOUT, environment, "python", "-m", "pipelines.measured")
    call(CHECKOUT, environment, "dvc", "repro", "package-ensemble")
    call(CHECKOUT, environment, "python", "-m", "pipelines.served_grades")
    for name in (REPORT_FILE.name, *REPORTED["gate"]):
        bring(CHECKOUT / REPORTS / name, REPORTS / PROFILE / name)
    if publish:
        reason = ["--override", override] if override else []
        call(CHECKOUT, environment, "python", "-m", "pipelines.publish", *reason)
        say("now: make serve")


if __name__ == "__main__":
    main()
