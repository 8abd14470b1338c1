"""The Lightning side of learning: one loop for every model that learns by gradients. Models do not know it.

What Lightning calls an epoch is a *leg* here: a fixed part of a real epoch. A run is checkpointed after each leg and
its batches follow from (seed, leg), so a killed run goes on in mid-epoch and ends as the unbroken one does.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig

from essays.console import human_time, say
from training.batches import Batch, Batches, batches_of_epoch
from training.config import LoopConfig
from training.history import EpochRow, has_stalled, new_best
from training.models.scorer import Scorer
from training.objective import matched_qwk, squared_standard_error
from training.optim import make_optimizer, rate_factor

PROGRESS_EVERY_S = 10.0


class Legs:
    """The train batches of a whole run, cut into epochs and each epoch into legs."""

    def __init__(self, batches: Batches, config: LoopConfig, seed: int) -> None:
        self.batches, self.config, self.seed = batches, config, seed
        self.steps_per_epoch = -(-len(batches.part) // config.batch_size)
        self.per_epoch = -(-self.steps_per_epoch // config.checkpoint_every_steps)
        self.total = self.per_epoch * config.max_epochs
        self.num_steps = self.steps_per_epoch * config.max_epochs

    def batches_of(self, leg: int) -> Batches:
        """The batches of a leg, counted over the whole run."""
        epoch, part = divmod(leg, self.per_epoch)
        lengths = self.batches.part.lengths
        order = batches_of_epoch(lengths, self.config.batch_size, self.seed, epoch)
        bounds = np.linspace(0, len(order), self.per_epoch + 1).round().astype(int)
        return Batches(self.batches.part, self.batches.collator, order[bounds[part] : bounds[part + 1]])


class Learning(pl.LightningModule):
    """A scorer, its loss, its optimizer, and the history of its epochs."""

    def __init__(
        self, scorer: Scorer, config: LoopConfig, legs: Legs, dev: Batches, on_epoch: Callable[[EpochRow], None]
    ) -> None:
        super().__init__()
        self.scorer, self.config, self.legs, self.dev, self.on_epoch = scorer, config, legs, dev, on_epoch
        self.history: list[EpochRow] = []
        self.loss_sum, self.num_seen = 0.0, 0
        self.dev_scores: list[torch.Tensor] = []
        self.clock = Clock()
        # Lightning would miss the weights that `on_save_checkpoint` takes out.
        self.strict_loading = not scorer.has_frozen_base

    def train_dataloader(self) -> Batches:
        """The batches of the leg that begins; asked for anew before each."""
        return self.legs.batches_of(self.trainer.current_epoch)

    def val_dataloader(self) -> Batches:
        """The dev essays."""
        return self.dev

    def on_train_epoch_start(self) -> None:
        """Dropout's draws follow from the leg too, whatever was drawn before it."""
        torch.manual_seed(int(np.random.default_rng([self.legs.seed, self.trainer.current_epoch]).integers(2**31)))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The batch's loss."""
        raw = self.scorer(**batch.inputs)
        loss = squared_standard_error(raw, batch.unit_scores, batch.inputs["prompt_index"], self.scorer.target)
        self.loss_sum += loss.item() * len(raw)
        self.num_seen += len(raw)
        self.clock.tick(len(raw))
        self._say_progress()
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's scores."""
        self.dev_scores = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the batch's scores."""
        self.dev_scores.append(self.scorer(**batch.inputs).float().cpu())

    def on_validation_epoch_end(self) -> None:
        """Close an epoch: measure it, tell it, and stop when nothing got better for long."""
        dev = self.dev.part
        raw = np.empty(len(dev))
        raw[np.concatenate(self.dev.places)] = torch.cat(self.dev_scores).numpy()
        qwk = matched_qwk(raw, dev.human_scores, dev.prompt_ids)
        row = EpochRow(
            epoch=len(self.history) + 1,
            loss=self.loss_sum / self.num_seen,
            dev_qwk=qwk,
            learning_rate=max(group["lr"] for group in self.trainer.optimizers[0].param_groups),
            essays_per_s=self.clock.rate(),
            duration_s=self.clock.elapsed(),
        )
        self.history.append(row)
        self.loss_sum, self.num_seen = 0.0, 0
        self.log("dev_qwk", qwk)
        self._say_epoch(row)
        self.clock = Clock()
        self.on_epoch(row)
        self.trainer.should_stop = has_stalled(self.history, self.config.patience)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and its schedule, stepped after every batch."""
        optimizer = make_optimizer(self.scorer, self.config)
        share, total = self.config.warmup_share, self.legs.num_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, total, share))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What a resumed run must know beside weights and optimizer; pretrained weights that stay as they came go."""
        for name in self.scorer.left_out():
            del checkpoint["state_dict"][f"scorer.{name}"]
        checkpoint["history"] = [row.model_dump() for row in self.history]
        checkpoint["unfinished_epoch"] = {"loss_sum": self.loss_sum, "num_seen": self.num_seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up where the checkpoint left."""
        self.history = [EpochRow.model_validate(row) for row in checkpoint["history"]]
        self.loss_sum = checkpoint["unfinished_epoch"]["loss_sum"]
        self.num_seen = checkpoint["unfinished_epoch"]["num_seen"]

    def _say_progress(self) -> None:
        if not self.clock.is_due():
            return
        epoch, step = len(self.history) + 1, self.trainer.global_step + 1
        say(
            f"epoch {epoch}/{self.config.max_epochs}  step {step}/{self.legs.num_steps}"
            f"  loss {self.loss_sum / self.num_seen:.4f}  {self.clock.rate():.1f} essays/s  eta {self._time_left()}"
        )

    def _say_epoch(self, row: EpochRow) -> None:
        best = max(other.dev_qwk for other in self.history)
        mark = "  kept" if new_best(self.history) else ""
        say(
            f"epoch {row.epoch}/{self.config.max_epochs}  loss {row.loss:.4f}  qwk {row.dev_qwk:.3f} (best {best:.3f})"
            f"  {row.essays_per_s:.1f} essays/s  eta {self._time_left()}{mark}"
        )

    def _time_left(self) -> str:
        essays = len(self.legs.batches.part) * (self.config.max_epochs - len(self.history)) - self.num_seen
        return human_time(essays / max(self.clock.rate(), 1e-9))


class Clock:
    """Counts essays and seconds of an epoch, as far as this process saw it."""

    def __init__(self) -> None:
        self.started = self.said = time.monotonic()
        self.num_essays = 0

    def tick(self, num_essays: int) -> None:
        """These essays are done."""
        self.num_essays += num_essays

    def rate(self) -> float:
        """Essays per second."""
        return self.num_essays / max(self.elapsed(), 1e-9)

    def elapsed(self) -> float:
        """Seconds since the epoch, or the process, began."""
        return time.monotonic() - self.started

    def is_due(self) -> bool:
        """Whether a line of progress is due; asking resets it."""
        if time.monotonic() - self.said < PROGRESS_EVERY_S:
            return False
        self.said = time.monotonic()
        return True
