"""`make crossval`: runs the stages under a profile in a checkout of its own, and brings the results back.

Nothing here changes meanwhile: params.yaml, dvc.lock and the outputs of the default run stay. The checkout holds what
is committed. A run that was killed goes on where it was; a run with another seed has a checkout of its own. What each
model scored is kept below `reports/`, so a new clone trains only what has changed since.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from data.corpora import RAW_FOLDER
from data.fetch import MIRROR_VARIABLE, mirror_folder
from essays.console import run, say, wrote
from essays.errors import StageFailed
from essays.params import PARAMS_FILE, read_params
from training.fold_scores import CALIBRATION_FOLDER, SCORES_FOLDER, model_folder
from training.out_of_fold import OUT_OF_FOLD_FOLDER, merge_rows
from training.tracking import TRACKING_VARIABLE, tracking_address

CHECKOUTS = Path("out/crossval")
REPORTS = Path("reports")
DEFAULT_PROFILE = "asap-5-folds"
RECORDED = (Path("dvc.lock"), SCORES_FOLDER, CALIBRATION_FOLDER)
"""What of a run is small enough to keep, and enough to tell that it need not be run again."""
REPORTED = {
    "evaluate": ("evaluation.md", "metrics.json", "plots", "validity.html", "validity.json"),
    "gate": ("gate.json", "gate.md"),
    "robustness": ("robustness.html", "robustness.json"),
}
"""What is brought back from the default seed's run: by stage, what it leaves below `reports/`."""


def main() -> None:
    """Check out, set the profile, run the stages up to the reports, bring back what they found."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.crossval", description="Run a profile apart.")
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help="a file of profiles/ (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="another seed than params.yaml's")
    parser.add_argument("--into", default="asap", help="folder of reports/ for the results (default: %(default)s)")
    options = parser.parse_args()
    run(lambda: crossval(options.profile, options.seed, REPORTS / options.into))


def crossval(profile: str, seed: int | None, reports: Path) -> None:
    """Run `profile` with `seed` and write its results below `reports`."""
    default_seed = read_params("seed", int)
    own_seed = seed if seed is not None else default_seed
    checkout = CHECKOUTS / f"{profile}-seed-{own_seed}"
    check_out(checkout)
    environment = stage_environment()
    set_up(checkout, environment, profile, own_seed)
    record = reports / f"seed-{own_seed}"
    take_up(checkout, record)
    # First what is in no cache (essays); then the models, whose weights may be missing where their scores are recorded.
    call(checkout, environment, "dvc", "repro", "synthesize")
    try:
        call(checkout, environment, "dvc", "repro", "--allow-missing", "ensemble")
        if own_seed == default_seed:
            report(checkout, environment, reports)
        else:
            call(checkout, environment, "dvc", "repro", "--single-item", "evaluate")
    finally:
        for path in RECORDED:
            bring(checkout / path, record / path.name)
    for path in sorted((checkout / OUT_OF_FOLD_FOLDER).glob("*.csv")):
        target = reports / "oof" / path.name
        merge_rows(path, target)
        wrote(target)
    say("now: make table")


def report(checkout: Path, environment: dict[str, str], reports: Path) -> None:
    """Run what measures the models, and bring its reports back to `reports`.

    Each stage finds its last report there, in place of the default run's, which the commit brought along: where nothing
    else has changed, it is not run again. `robustness` needs weights, which a new clone may lack.
    """
    stages = [*REPORTED]
    if missing := without_weights(checkout):
        say(f"robustness is not measured: no weights of {', '.join(missing)} are in {checkout}; its report stays")
        stages.remove("robustness")
    names = [name for stage in stages for name in REPORTED[stage]]
    for name in names:
        lay(reports / name, checkout / REPORTS / name)
    call(checkout, environment, "dvc", "repro", "--single-item", *stages)
    for name in names:
        bring(checkout / REPORTS / name, reports / name)


def without_weights(checkout: Path) -> list[str]:
    """The checkout's models whose first fold is not on this disk."""
    params = checkout / PARAMS_FILE
    models, folds = read_params("models", tuple[str, ...], params), read_params("folds", tuple[int, ...], params)
    return [model for model in models if not (checkout / model_folder(model, folds[0])).exists()]


def check_out(folder: Path) -> None:
    """The last commit in a folder of its own, with whatever earlier runs left there."""
    if dirty := _git(Path(), "status", "--porcelain").strip():
        say(f"not part of it: {len(dirty.splitlines())} changed files that are not committed")
    if not (folder / ".git").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git(Path(), "clone", "--quiet", "--no-checkout", ".", str(folder))
    _git(folder, "fetch", "--quiet", "origin", "HEAD")
    # dvc.lock is the run's own record of what is done already; the profile writes the two others anew.
    lock = folder / "dvc.lock"
    kept = lock.read_bytes() if lock.exists() else None
    _git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    if kept is not None:
        lock.write_bytes(kept)


def set_up(checkout: Path, environment: dict[str, str], profile: str, seed: int) -> None:
    """Set the profile in a checkout, and share this one's DVC cache with it."""
    call(checkout, environment, "python", "-m", "pipelines.profile", "--name", profile, "--seed", str(seed))
    if not (checkout / ".dvc" / "config.local").exists():
        call(checkout, environment, "dvc", "cache", "dir", "--local", str(Path(".dvc/cache").resolve()))


def take_up(checkout: Path, record: Path) -> None:
    """Where nothing has been trained yet, begin with what an earlier run recorded in the commit."""
    committed = checkout / record
    if not committed.is_dir() or (checkout / SCORES_FOLDER).exists():
        return
    say(f"goes on from {record}")
    for path in RECORDED:
        bring(committed / path.name, checkout / path)


def stage_environment() -> dict[str, str]:
    """This environment, with places that the stages shall share with this checkout."""
    mirror = mirror_folder() or (RAW_FOLDER if RAW_FOLDER.is_dir() else None)
    shared = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        TRACKING_VARIABLE: tracking_address(),
    }
    if mirror:
        shared[MIRROR_VARIABLE] = str(mirror.resolve())
    return {**os.environ, **shared}


def bring(source: Path, target: Path) -> None:
    """`lay`, and say what was written."""
    if source.exists():
        lay(source, target)
        wrote(target)


def lay(source: Path, target: Path) -> None:
    """Put a copy of a file or folder in the place of another; nothing where there is none."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def call(folder: Path, environment: dict[str, str], *command: str) -> None:
    """Run a command in a checkout, heard and seen as ours. Raises StageFailed with what to do next."""
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise StageFailed(
            f"{' '.join(command)} ended with code {done.returncode} in {folder}; what is done stays done:"
            " mend the cause and give the same command again"
        )


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"git {' '.join(arguments)} in {folder.resolve()}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
