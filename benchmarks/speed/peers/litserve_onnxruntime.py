"""LitServe over ONNX Runtime fp32: a worker and a thread for each core, no batches, which is its best on a CPU."""

import os
import sys
from typing import Any

import litserve
import onnxruntime

from benchmarks.speed.peers import model_files


class ScoringAPI(litserve.LitAPI):
    """One essay a call."""

    def setup(self, device: str) -> None:
        """Load in each worker."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(model_files.fp32_graph())
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.encoder = model_files.encoder()

    def decode_request(self, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The graph's inputs."""
        return self.encoder.collate([self.encoder.encode(request["text"], request["prompt_index"])])

    def predict(self, x: dict[str, Any], **_: Any) -> float:
        """The raw unit score."""
        return model_files.run(self.session, x)[0]

    def encode_response(self, output: float, **_: Any) -> dict[str, float]:
        """As JSON."""
        return {"score": output}


if __name__ == "__main__":
    workers = len(os.sched_getaffinity(0))
    server = litserve.LitServer(ScoringAPI(), accelerator="cpu", workers_per_device=workers, timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
