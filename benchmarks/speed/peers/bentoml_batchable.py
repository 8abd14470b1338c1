"""Plain BentoML with a batchable endpoint over ONNX Runtime fp32: what its documentation leads to."""

import bentoml
import onnxruntime
from pydantic import BaseModel

from benchmarks.speed.peers import model_files


class Essay(BaseModel):
    """One row of a batch."""

    text: str
    prompt_index: int


@bentoml.service(name="plain", traffic={"timeout": 120})
class Plain:
    """Batches as they come, padded to their longest essay."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(str(model_files.fp32_graph()), providers=["CPUExecutionProvider"])
        self.encoder = model_files.encoder()

    @bentoml.api(batchable=True, max_batch_size=32)
    def score(self, essays: list[Essay]) -> list[float]:
        """Raw unit scores."""
        encoded = [self.encoder.encode(essay.text, essay.prompt_index) for essay in essays]
        return model_files.run(self.session, self.encoder.collate(encoded))
