"""A head for each trait that people scored, on the pooled states that the holistic head sees, in one pass with it."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from essays.errors import StageFailed
from training.models.scorer import TokenScorer

HEADS_FILE = "heads.safetensors"


class TraitHeads(nn.Module):
    """A linear head for each trait, from a pooled state to raw unit scores."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """`weight` is (traits, H) and `bias` (traits,), float32."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Raw unit scores, (B, traits), from pooled states (B, H)."""
        return pooled.float() @ self.weight.T + self.bias


class ScorerWithTraits(nn.Module):
    """A scorer and its traits' heads in one pass."""

    def __init__(self, scorer: TokenScorer, heads: TraitHeads) -> None:
        super().__init__()
        self.scorer = scorer
        self.heads = heads

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`raw_unit_score` (B,) and the traits' (B, traits), from a scorer's inputs."""
        pooled = self.scorer.pooled(input_ids, attention_mask, num_tokens, prompt_index)
        return self.scorer.scored(pooled, prompt_index), self.heads(pooled)


def save_heads(heads: TraitHeads, folder: Path) -> None:
    """Write the heads beside what is known of them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in heads.state_dict().items()}, str(folder / HEADS_FILE))


def load_heads(folder: Path) -> TraitHeads:
    """What `save_heads` wrote. Raises StageFailed when it is missing or something else."""
    path = folder / HEADS_FILE
    try:
        state = load_file(str(path))
        return TraitHeads(state["weight"], state["bias"])
    except (FileNotFoundError, KeyError, SafetensorError) as error:
        raise StageFailed(f"{path}: no traits' heads; fit them again (python -m pipelines.traits)") from error
