"""Who is measured: how each is started, asked and described. `peers/` holds the programs themselves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.speed.callers import HttpForm
from benchmarks.speed.chosen import ChosenEssay
from benchmarks.speed.environments import OWN, PEER_FOLDER, requirements_file
from benchmarks.speed.peers.model_files import MODEL_VARIABLE, WEIGHTS_VARIABLE
from benchmarks.speed.subject import Subject
from essays.errors import BadParams

ROOT = Path(__file__).parents[2]
_SERVICE = "serving.service:EssayScoring"
_KEPT = ("exact", "near")


@dataclass(frozen=True)
class Launch:
    """What a command needs to know."""

    python: Path
    port: int
    folder: Path
    """For whatever the program keeps; its own."""
    subject: Subject


@dataclass(frozen=True)
class Contestant:
    """One server, or one bare loop."""

    name: str
    what: str
    """In a few words, for tables."""
    environment: str
    """Its pinned list's name; `fairmark` is the project's own environment."""
    precision: str | None
    """None: it says so itself (`/models`)."""
    command: Callable[[Launch], list[str]]
    form: HttpForm | None = None
    """None for a loop."""
    variables: Mapping[str, str] = field(default_factory=dict)
    answers: Literal["raw", "calibrated"] = "raw"
    """Which of the reference's scores its answers are compared with."""
    packages: tuple[str, ...] = ()
    """Whose versions name the runtime; of its environment."""
    needs_weights: bool = False
    """Whether it runs the checkpoint."""
    serves: Literal["subject", "all"] = "subject"
    """Of Fairmark: the one model, or every model that is published."""

    beside: "Contestant | None" = None
    """The bare loop that scores the same essays in turn with it, which tells what the server itself costs."""

    @property
    def is_service(self) -> bool:
        """Whether this project's service answers."""
        return self.answers == "calibrated"

    @property
    def sources(self) -> list[Path]:
        """The files that decide what it does: when they change, its kept rows are no longer true."""
        if self.environment == OWN:
            code = [path for room in ("serving", "essays") for path in (ROOT / room).rglob("*.py")]
            return sorted([*code, *PEER_FOLDER.glob("*.py"), ROOT / "requirements.txt"])
        return [*sorted(PEER_FOLDER.glob("*.py")), requirements_file(self.environment)]

    def environment_for(self, launch: Launch, outer: Mapping[str, str]) -> dict[str, str]:
        """Its variables; the hub and all telemetry are off."""
        quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True", "TQDM_DISABLE": "1"}
        folders = {MODEL_VARIABLE: str(launch.subject.folder.absolute()), "PYTHONPATH": str(ROOT)}
        weights = {WEIGHTS_VARIABLE: str(launch.subject.weights.absolute())}
        kept = {
            "HF_HOME": str((launch.folder / "hf").absolute()),
            "BENTOML_HOME": str((launch.folder / "bento").absolute()),
        }
        path = {"PATH": f"{launch.python.parent}:{outer.get('PATH', '')}"}
        return {**outer, **quiet, **folders, **weights, **kept, **path, **self.variables}


def contestants(model: str) -> tuple[Contestant, ...]:
    """All, in the order of tables; the first is what ratios are of. `model` is the one that Fairmark is asked for."""
    fairmark = partial(
        Contestant,
        environment=OWN,
        precision=None,
        command=lambda launch: _bento(_SERVICE, launch),
        form=_fairmark_form(model),
        answers="calibrated",
    )
    own_loop = Contestant(
        name="raw-fairmark",
        what="the runtime that Fairmark chooses, in a bare loop",
        environment=OWN,
        precision=None,
        command=_program("raw_fairmark"),
    )
    return (
        fairmark(name="fairmark", what="this service, its own choice of runtime", beside=own_loop),
        fairmark(
            name="fairmark-onnxruntime",
            what="this service, told to use ONNX Runtime",
            variables={"FAIRMARK_SERVICE__RUNTIME": "onnxruntime"},
        ),
        fairmark(name="fairmark-all", what="this service with every published model in memory", serves="all"),
        own_loop,
        Contestant(
            name="raw-onnxruntime",
            what="ONNX Runtime in a bare loop, one thread",
            environment="onnxruntime",
            precision="fp32",
            command=_program("raw_onnxruntime"),
            packages=("onnxruntime",),
        ),
        Contestant(
            name="raw-pytorch",
            what="PyTorch eager in a bare loop, one thread, unpadded",
            environment="pytorch",
            precision="fp32",
            command=_program("raw_pytorch"),
            packages=("torch",),
            needs_weights=True,
        ),
        Contestant(
            name="bentoml-batchable",
            what="plain BentoML, batchable, ONNX Runtime",
            environment="bentoml",
            precision="fp32",
            command=lambda launch: _bento("benchmarks.speed.peers.bentoml_batchable:Plain", launch),
            form=HttpForm("/score", _as_batch, lambda answer: answer[0], "/readyz"),
            packages=("bentoml", "onnxruntime"),
        ),
        Contestant(
            name="litserve",
            what="LitServe, a worker for each core, ONNX Runtime",
            environment="litserve",
            precision="fp32",
            command=_program("litserve_onnxruntime"),
            form=HttpForm("/predict", _as_text, lambda answer: answer["score"], "/health"),
            packages=("litserve", "onnxruntime"),
        ),
        Contestant(
            name="infinity-emb",
            what="infinity-emb, PyTorch, batches sorted by length",
            environment="infinity",
            precision="fp32",
            command=_program("infinity_server", "infinity-model"),
            form=HttpForm("/classify", _as_infinity, lambda answer: answer["data"][0][0]["score"], "/health"),
            packages=("infinity-emb", "torch"),
            needs_weights=True,
        ),
        Contestant(
            name="fastapi-pytorch-512",
            what="FastAPI, PyTorch eager, padded to 512",
            environment="pytorch",
            precision="fp32",
            command=_program("fastapi_pytorch"),
            form=HttpForm("/score", _as_text, lambda answer: answer["score"], "/health"),
            packages=("fastapi", "torch"),
            needs_weights=True,
        ),
    )


def choose(names: Sequence[str], model: str) -> list[Contestant]:
    """Those named, in the order of tables; all when none is. Raises BadParams for a name that is none."""
    known = {each.name: each for each in contestants(model)}
    if unknown := [name for name in names if name not in known]:
        raise BadParams(f"--peers: no {', '.join(unknown)}; known: {', '.join(known)}")
    return [each for name, each in known.items() if not names or name in names]


def _program(module: str, *folders: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        own = [str((launch.folder / folder).absolute()) for folder in folders]
        return [str(launch.python), "-m", f"benchmarks.speed.peers.{module}", str(launch.port), *own]

    return command


def _bento(service: str, launch: Launch) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(launch.port)]
    return [str(launch.python), "-m", "bentoml", "serve", service, *address]


def _fairmark_form(model: str) -> HttpForm:
    # Asked for without its cache: the same essays come again in every loop, and a kept score takes no time.
    return HttpForm(
        "/score",
        lambda essay: {"essay": essay.text, "prompt_id": essay.prompt_id, "model": model, "advisory": True},
        _computed_score,
        "/readyz",
        {"Cache-Control": "no-store"},
    )


def _computed_score(answer: Any) -> float:
    if answer["cache"]["tier"] in _KEPT:
        raise ValueError("a score from the cache")
    return float(answer["unit_score"])


def _as_text(essay: ChosenEssay) -> Mapping[str, Any]:
    return {"text": essay.text, "prompt_index": essay.prompt_index}


def _as_batch(essay: ChosenEssay) -> Mapping[str, Any]:
    return {"essays": [_as_text(essay)]}


def _as_infinity(essay: ChosenEssay) -> Mapping[str, Any]:
    return {"model": "fairmark", "input": [f"{essay.prompt_index}\t{essay.text}"]}
