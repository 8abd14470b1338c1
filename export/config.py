"""The numbers of the sections `export`, `package` and `publish` of params.yaml."""

from typing import Literal

from pydantic import Field

from essays.params import Section


class ExportConfig(Section):
    """How a checkpoint becomes a graph, and when the graph counts as the same model."""

    opset: int = Field(ge=17, le=20)
    """ONNX operator set; TensorRT's parser and ONNX Runtime both read 17 to 20."""
    num_parity_essays: int = Field(gt=0)
    """Dev and test essays that are scored by module and graph."""
    max_gap: float = Field(gt=0)
    """Largest accepted difference of raw unit scores between module and graph, and between alone and batched."""
    min_same_grades: float = Field(gt=0, le=1)
    """Smallest accepted share of essays with the same grade; a score on the edge between two may fall either way."""
    parity_batch_size: int = Field(gt=1)
    """Essays in a batch of the batched comparison."""
    precisions: tuple[Literal["bf16", "int8"], ...]
    """Below fp32, to be measured on every held-out essay and published where they pass the gate."""
    max_qwk_change: float = Field(ge=0)
    """Largest accepted change of QWK with people at a precision below fp32, mean of a corpus's prompts."""
    num_shift_essays: int = Field(gt=0)
    """Dev essays of each prompt, on which is measured what a precision moves alike for all."""
    num_calibration_essays: int = Field(gt=0)
    """Train essays whose activations set the ranges of int8."""


class PublishConfig(Section):
    """The promotion gate: how much worse than the champion a new version may be (`export.promotion`)."""

    max_qwk_loss: float = Field(ge=0)
    """By how much the mean over prompts of QWK's lower bound may lie below the champion's."""
    max_prompt_loss: float = Field(ge=0)
    """By how much the QWK of any one prompt may lie below the champion's."""
    max_growth: float = Field(ge=0)
    """By what share the bundle may be larger than the champion's."""
