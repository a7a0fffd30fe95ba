"""Train a sparse autoencoder: the rules of the recipe, and the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from . import checkpoint
from .activations import ActivationBuffer
from .autoencoder import NAMES, SparseAutoencoder
from .errors import SaeCoreError
from .log import Log
from .objective import loss_step
from .recipe import TrainConfig
from .resampling import resample


@torch.no_grad()
def geometric_median(x: Tensor, iterations: int = 50) -> Tensor:
    """The point [d_in] with the least mean distance to the rows of x [n, d_in], by Weiszfeld's iteration.

    The paper starts b_dec there (appendix, "Advice for Training Sparse Autoencoders").
    """
    median = x.mean(0)
    for _ in range(iterations):
        weight = 1 / (x - median).norm(dim=1).clamp_min(1e-6)
        median = (weight[:, None] * x).sum(0) / weight.sum()
    return median


@torch.no_grad()
def remove_parallel_gradient(sae: SparseAutoencoder) -> None:
    """Remove from each decoder row's gradient its component along the row, before Adam sees it.

    A step along the row would only change its norm, which is reset anyway, and would disturb Adam's moments (paper,
    appendix "Advice for Training Sparse Autoencoders": better than resetting the norm alone).
    """
    gradient = sae.W_dec.grad
    gradient -= (gradient * sae.W_dec).sum(1, keepdim=True) * sae.W_dec


@torch.no_grad()
def normalize_decoder(sae: SparseAutoencoder) -> None:
    """Bring every decoder row back to unit norm, after Adam's step."""
    sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)  # an input of zeros may have become a row


class Progress(NamedTuple):
    """What `training_steps` yields after each step, and `log.jsonl` records now and then."""

    step: int  # steps done
    squared_error: Tensor  # [], per example, summed over d_in, in the units of the normalised inputs
    l1: Tensor  # [], per example
    loss: Tensor  # [], with the λ of this step
    l0: Tensor  # [], active features per example
    explained_variance: Tensor  # [], of this batch
    dead: Tensor  # bool [d_sae]: silent for dead_after steps
    resampled: int  # features re-initialised after this step


class Trainer:
    """The state of a run, and the loop. Everything that the next step depends on is in `tensors`."""

    def __init__(self, config: TrainConfig, buffer: ActivationBuffer):
        self.config, self.buffer = config, buffer
        self.generator = torch.Generator().manual_seed(config.seed)
        sample = torch.cat([buffer.next_batch(1024) for _ in range(8)])
        self.scale = math.sqrt(sample.shape[1] / sample.square().sum(1).mean().item()) if config.normalize else 1.0
        self.sae = self._initial(sample * self.scale).to(sample.device)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=config.lr, betas=(0.9, 0.999), fused=True)
        self.silent = torch.zeros(config.d_sae, dtype=torch.int64, device=sample.device)  # steps since a feature fired
        self.step = 0

    @torch.no_grad()
    def _initial(self, sample: Tensor) -> SparseAutoencoder:
        config = self.config
        sae = SparseAutoencoder(sample.shape[1], config.d_sae, config.tied_bias, self.generator)
        if config.tied_bias:
            sae.b_dec.copy_(geometric_median(sample))
        if not config.unit_norm:  # April 2024: encoder and decoder start as transposes of each other, at a small norm
            sae.W_dec *= 0.1
            sae.W_enc.copy_(sae.W_dec.T)
        return sae

    def run(self) -> Iterator[Progress]:
        """Train to the end, yielding after each step. The caller may stop, look or save at any point."""
        config, sae, optimizer = self.config, self.sae, self.optimizer
        while self.step < config.steps:
            x = self.buffer.next_batch(config.batch_size) * self.scale
            lam = config.lam * min(1.0, (self.step + 1) / max(1, config.lam_warmup))
            remaining = (config.steps - self.step) / max(1, config.lr_decay)
            optimizer.param_groups[0]["lr"] = config.lr * min(1.0, remaining)

            result = loss_step(sae, x, lam, by_decoder_norm=not config.unit_norm, bf16=config.bf16)
            for name in NAMES:
                getattr(sae, name).grad = result.gradients[name]
            if config.unit_norm:
                remove_parallel_gradient(sae)
            if config.clip:
                torch.nn.utils.clip_grad_norm_(sae.parameters(), config.clip)
            optimizer.step()
            if config.unit_norm:
                normalize_decoder(sae)

            self.silent.add_(1).masked_fill_(result.fired > 0, 0)
            self.step += 1
            dead = self.silent >= config.dead_after
            resampled = 0
            if self.step in config.resample_at:
                inputs = self.buffer.rows[: config.resample_inputs]  # the buffer is in no order: a random sample
                resampled = resample(sae, optimizer, dead, inputs, lam, self.generator, self.scale)
                self.silent.masked_fill_(dead, 0)
            variance = (x - x.mean(0)).square().sum(1).mean()
            yield Progress(
                self.step,
                result.squared_error,
                result.l1,
                result.squared_error + lam * result.l1,
                result.fired.sum() / len(x),
                1 - result.squared_error / variance,
                dead,
                resampled,
            )

    def result(self) -> SparseAutoencoder:
        """A copy of the dictionary that works on raw activations: input scale and decoder norms folded in."""
        sae = SparseAutoencoder(self.sae.d_in, self.sae.d_sae, self.sae.tied_bias)
        sae.load_state_dict(self.sae.state_dict())
        sae.fold_decoder_norm()
        sae.fold_input_scale(self.scale)
        return sae.eval()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as tensors, for a checkpoint."""
        return {
            **{f"sae.{name}": getattr(self.sae, name) for name in NAMES},
            **checkpoint.optimizer_tensors(self.optimizer),
            **self.buffer.tensors(),
            "silent": self.silent,
            "generator": self.generator.get_state(),
            "scale": torch.tensor(self.scale, dtype=torch.float64),
        }

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Undo `tensors`."""
        self.sae.load_state_dict({name: tensors[f"sae.{name}"] for name in NAMES})
        checkpoint.restore_optimizer(self.optimizer, tensors)
        self.buffer.restore(tensors)
        self.silent.copy_(tensors["silent"])
        self.generator.set_state(tensors["generator"])
        self.scale = tensors["scale"].item()
        self.step = step


def train(
    config: TrainConfig,
    buffer: ActivationBuffer,
    out: Path,
    log_every: int = 50,
    checkpoint_every: int = 1000,
    progress: bool = True,
    tensorboard: bool = False,
    wandb: bool = False,
) -> SparseAutoencoder:
    """Train to the end with a progress bar, a log and checkpoints in the folder `out`; return the finished dictionary.

    Run again with the same arguments to continue a stopped run: the result is the same, bit for bit on a CPU.
    `log.jsonl` receives a line every `log_every` steps; tensorboard and wandb receive the same numbers.
    Raises SaeCoreError at a loss or a weight that is not a number, with the checkpoints before it untouched.
    """
    from tqdm.auto import tqdm

    trainer = Trainer(config, buffer)
    seconds = 0.0
    if found := checkpoint.latest(out, asdict(config)):
        tensors, state = found
        trainer.restore(tensors, state["step"])
        seconds = state["seconds"]
        checkpoint.forget_log_after(out / "log.jsonl", trainer.step)
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out, asdict(config), tensorboard, wandb)
    started = time.monotonic() - seconds
    try:
        with tqdm(total=config.steps, initial=trainer.step, desc="train", unit="step", disable=not progress) as bar:
            for now in trainer.run():
                bar.update()
                if now.resampled or now.step % log_every == 0 or now.step == config.steps:
                    numbers = {
                        "loss": now.loss.item(),
                        "squared_error": now.squared_error.item(),
                        "l1": now.l1.item(),
                        "l0": now.l0.item(),
                        "explained_variance": now.explained_variance.item(),
                        "dead": int(now.dead.sum()),
                        "resampled": now.resampled,
                    }
                    if not math.isfinite(numbers["loss"]):
                        raise SaeCoreError(f"train: the loss is {numbers['loss']} at step {now.step}; use a smaller lr")
                    log.write(now.step, now.step * config.batch_size, time.monotonic() - started, numbers)
                    shown = ("loss", "l0", "explained_variance", "dead")
                    bar.set_postfix({name: f"{numbers[name]:.4g}" for name in shown}, refresh=False)
                if now.step % checkpoint_every == 0 or now.step == config.steps:
                    if not all(parameter.isfinite().all() for parameter in trainer.sae.parameters()):
                        raise SaeCoreError(f"train: a weight is not a number at step {now.step}; use a smaller lr")
                    state = {"config": asdict(config), "seconds": time.monotonic() - started}
                    checkpoint.save(out, now.step, trainer.tensors(), state)
    finally:
        log.close()
    return trainer.result()
