"""The stages that `make up` runs, then one request, in a copy of the project: started by test_own_prompt.py."""

import json
import sys
from importlib import import_module
from pathlib import Path

from starlette.testclient import TestClient

from export.bundles import find_bundle
from pipelines.extracted import extracted
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.routes import create_app

STAGES = ["fetch", "prepare", "split", "synthesize", "train --model lexical --fold 0", "gate"]
STAGES += ["calibrate --model lexical", "ensemble", "evaluate", "robustness", "traits --model lexical", "traits_report"]
STAGES += ["export --model lexical", "package --model lexical", "package --model ensemble", "publish"]


def main() -> None:
    """Run every stage; print what the service answers about the essay and the prompt of the options."""
    prompt_id, essay = sys.argv[1:]
    for command in STAGES:
        stage, *options = command.split()
        sys.argv = [stage, *options]
        import_module(f"pipelines.{stage}").main()
    bundles = [find_bundle(name) for name in ("lexical", "ensemble")]
    folder = Path("served")
    desk = Desk(ServiceSettings(lanes=1, artifact_folder=folder / "artifacts", cache={"store": "off"}))
    desk.open(extracted(bundles, folder), lambda _: None)
    with TestClient(create_app(lambda: desk, folder)) as client:
        asked = {"essay": essay, "prompt_id": prompt_id, "model": "ensemble"}
        answers = {"score": client.post("/score", json=asked).json(), "prompts": client.get("/prompts").json()}
    desk.close()
    sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
