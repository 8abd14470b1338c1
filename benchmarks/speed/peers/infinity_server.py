"""infinity-emb with PyTorch: the checkpoint laid out as a folder of `transformers`, served by its own command."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.peers import model_files, torch_model

# It takes a model with fewer than two labels for a reranker; both labels hold the same score.
LABELS = {"0": "score", "1": "same"}
CODE = ("torch_model.py", "infinity_tokenizer.py")


def write_folder(folder: Path) -> None:
    """Weights, tokenizer, code, and the two configurations that lead `transformers` to them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = model_files.weights_folder()
    spec = json.loads((source / "model.json").read_text("utf-8"))
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(source / name, folder / name)
    for name in CODE:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    config = torch_model.config_of(spec).to_dict() | {
        "architectures": ["FairmarkForSequenceClassification"],
        "auto_map": {
            "AutoConfig": "torch_model.FairmarkConfig",
            "AutoModelForSequenceClassification": "torch_model.FairmarkForSequenceClassification",
        },
        "id2label": LABELS,
        "label2id": {label: int(index) for index, label in LABELS.items()},
        # The pipeline then leaves the logits as they are.
        "problem_type": "regression",
    }
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", _tokenizer_config(spec["encoding"]))


def _tokenizer_config(encoding: dict[str, Any]) -> dict[str, Any]:
    tokenizer = json.loads((model_files.weights_folder() / "tokenizer.json").read_text("utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    (pad, *_) = [token for token, index in vocabulary.items() if index == encoding["pad_id"]]
    return {
        "tokenizer_class": "FairmarkTokenizer",
        "auto_map": {"AutoTokenizer": [None, "infinity_tokenizer.FairmarkTokenizer"]},
        "head_tokens": encoding["head_tokens"],
        "tail_tokens": encoding["tail_tokens"],
        "model_max_length": encoding["head_tokens"] + encoding["tail_tokens"],
        "pad_token": pad,
    }


def _write(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=1), "utf-8")


def main() -> None:
    """Lay out the folder, then become the server."""
    port, folder = sys.argv[1], Path(sys.argv[2])
    write_folder(folder)
    command = [str(Path(sys.executable).with_name("infinity_emb")), "v2", "--model-id", str(folder)]
    command += ["--served-model-name", "fairmark", "--engine", "torch", "--device", "cpu", "--dtype", "float32"]
    # Its BetterTransformer is for other models. Compiling, its default, was no faster when tried (173 CPU ms per essay
    # against 168), needs a C++ compiler and makes it ready a minute later.
    command += ["--no-bettertransformer", "--no-compile", "--host", "127.0.0.1", "--port", port]
    os.execv(command[0], command)  # noqa: S606 - the server takes this process's place, and its number


if __name__ == "__main__":
    main()
