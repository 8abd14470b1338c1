"""What a decoder's graph takes while it is loaded and run, from its configuration: for admission by memory.

Upper estimates in float32; `make long-essays` puts what was measured beside them (reports/long/summary.json).
"""

from pathlib import Path

from essays.manifest import RunMemory
from training.models.encoder import backbone_config
from training.models.spec import DecoderShape, ModelSpec

_FLOAT = 4
_COPIES_OF_WEIGHTS = 2
"""While loading: the file's pages, and the runtime's own layout of the same."""
_STATES, _WIDE_STATES = 8, 4
"""Vectors of a token alive at once: the residual stream, its norm, queries, keys, values and results; the MLP's."""
_MASKS = 2
"""A mask of all pairs of tokens, and the runtime's copy of it."""


def run_memory(spec: ModelSpec, graph: Path) -> RunMemory | None:
    """Of a decoder; other kinds read so few tokens that nobody need ask."""
    if not isinstance(spec.shape, DecoderShape):
        return None
    config = backbone_config(spec.shape.backbone)
    hidden = config.hidden_size
    wide = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    return RunMemory(
        load_bytes=_COPIES_OF_WEIGHTS * graph.stat().st_size,
        bytes_per_token=_FLOAT * (_STATES * hidden + _WIDE_STATES * wide),
        bytes_per_token_pair=_FLOAT * _MASKS,
        attention_bytes_per_token_pair=2 * _FLOAT * config.num_attention_heads,
    )
