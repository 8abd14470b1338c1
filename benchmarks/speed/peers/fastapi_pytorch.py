"""FastAPI and PyTorch eager, every essay padded to 512 tokens: what this project's predecessor did."""

import sys

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.speed.peers import model_files, torch_model

LENGTH = 512


class Essay(BaseModel):
    """A request."""

    text: str
    prompt_index: int


def create_app() -> FastAPI:
    """The app, with its model loaded."""
    model, encoder = torch_model.load(model_files.weights_folder()), model_files.encoder()
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/score")
    def score(essay: Essay) -> dict[str, float]:
        arrays = encoder.collate([encoder.encode(essay.text, essay.prompt_index)])
        for name in ("input_ids", "attention_mask"):
            arrays[name] = np.pad(arrays[name], ((0, 0), (0, LENGTH - arrays[name].shape[1])))
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            return {"score": float(model(**tensors).logits)}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
