"""Two processes of Lightning's DDP, each with half of every batch, learn what one process learns.

The loop itself is the pipeline's. What two processes need beside it is the class below, which is all that training
would have to gain (docs/decisions/0019).
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# A program of its own, since it forks: a process that has run tests has threads that would not live on.
CHILD = '''
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from data.tables import ESSAYS_SCHEMA, FOLDS_SCHEMA, read_dataset, read_table
from essays.prompts import all_prompts
from training.batches import Batches, batches_by_length, encode_part, split_fold
from training.config import LstmConfig
from training.module import Learning, Legs
from training.objective import target_scale
from training.start import start_model


class SharedLearning(Learning):
    """Each process learns from its share of every batch; gradients are averaged over the processes."""

    seen = 0

    def train_dataloader(self):
        whole = self.legs.batches_of(self.trainer.current_epoch)
        self.sizes = [len(places) for places in whole.places]
        rank, count = self.trainer.global_rank, self.trainer.world_size
        return Batches(whole.part, whole.collator, [places[rank::count] for places in whole.places])

    def training_step(self, batch, batch_idx):
        self.seen += len(batch.unit_scores)
        # Shares of an odd batch differ in size, and the mean of their means is not the mean of all.
        weight = len(batch.unit_scores) * self.trainer.world_size / self.sizes[batch_idx]
        return super().training_step(batch, batch_idx) * weight

    def on_fit_end(self):
        weights = {name: value.detach().clone() for name, value in self.scorer.state_dict().items()}
        qwk = [row.dev_qwk for row in self.history]
        name = f"of-{self.trainer.world_size}-{self.trainer.global_rank}"
        torch.save({"weights": weights, "qwk": qwk, "seen": self.seen}, out / name)


def learn(processes):
    model = start_model(config, prompt_ids, sets["train"]["text"], 7)
    parts = {name: encode_part(part, model.encoder, prompt_ids, model.encoder_key) for name, part in sets.items()}
    train, dev = parts["train"], parts["dev"]
    model.scorer.target = target_scale(train.unit_scores, train.prompt_index(), len(prompt_ids))
    legs = Legs(Batches(train, model.encoder, ()), config, 7)
    learning = SharedLearning(
        model.scorer, config, legs, Batches(dev, model.encoder, batches_by_length(dev.lengths, 64)), lambda row: None
    )
    trainer = pl.Trainer(
        default_root_dir=str(out),
        max_epochs=legs.total,
        check_val_every_n_epoch=legs.per_epoch,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=config.clip_norm,
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(learning)


folder, config, out = Path(sys.argv[1]), LstmConfig.model_validate_json(sys.argv[2]), Path(sys.argv[3])
essays = read_dataset(folder / "essays.parquet", ESSAYS_SCHEMA, out / "cache")
sets = split_fold(essays, read_table(folder / "folds.parquet", FOLDS_SCHEMA), 0)
prompt_ids = [prompt_id for prompt_id in all_prompts() if prompt_id in set(sets["train"]["prompt_id"])]
# Forked before this process computes a gradient, whose threads would not live on; forked at all, since importing torch
# takes seconds.
for processes in (2, 1):
    learn(processes)
'''


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(configs, corpus, root: Path, tmp_path: Path) -> None:
    # Dropout's draws depend on a batch's shape, so without it; batches of seven, so that shares are of different sizes.
    config = configs["lstm"].model_copy(update={"dropout": 0.0, "batch_size": 7, "rater_share": 0.0})
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    done = subprocess.run(
        [sys.executable, str(script), str(corpus.folder), config.model_dump_json(), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (torch.load(tmp_path / name) for name in ("of-1-0", "of-2-0", "of-2-1"))
    started = first["weights"].keys()
    assert started == one["weights"].keys()
    apart = {name: float((one["weights"][name] - first["weights"][name]).abs().max()) for name in started}
    # Added to every logit of a softmax, it changes nothing: its gradient is rounding, which AdamW makes steps of.
    del apart["attention.2.bias"]
    assert max(apart.values()) < 1e-5, apart
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in started)
    assert first["qwk"] == second["qwk"] == pytest.approx(one["qwk"], abs=1e-6)
    assert first["seen"] + second["seen"] == one["seen"] > first["seen"] >= second["seen"]
    assert len(one["qwk"]) == config.max_epochs
    assert np.ptp(one["qwk"]) > 0
