"""Train a sparse autoencoder: the rules of the recipe, and the loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from . import checkpoint, parallel
from .activations import ActivationBuffer
from .autoencoder import SparseAutoencoder, bf16_is_fast
from .errors import SaeCoreError
from .gpu import GraphedStep
from .interruption import deferred, stopped
from .log import Log
from .recipe import TrainConfig
from .resampling import resample
from .step import Step, loss_step
from .variants import ARCHITECTURES, autograd_step


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
    for gradient, rows in zip(sae.W_dec.grad.split(1024), sae.W_dec.split(1024), strict=True):  # fits in cache
        gradient.addcmul_((gradient * rows).sum(1, keepdim=True), rows, value=-1)


@torch.no_grad()
def normalize_decoder(sae: SparseAutoencoder) -> None:
    """Bring every decoder row back to unit norm, after Adam's step."""
    sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)  # an input of zeros may have become a row


@torch.no_grad()
def flush_moments(optimizer: torch.optim.Optimizer) -> None:
    """Set Adam's moments below 1e-30 to zero: they move no weight by as much as its last digit.

    The moments of a feature that stays silent shrink at every step. After some 800 they would be denormal numbers,
    below 1e-38, with which a CPU computes ten times slower.
    """
    for state in optimizer.state.values():
        for moment in (state["exp_avg"], state["exp_avg_sq"]):
            moment.masked_fill_(moment.abs() < 1e-30, 0.0)


class Progress(NamedTuple):
    """What `Trainer.run` yields after each step. Its tensors are on the run's device and nothing waits for them."""

    step: int  # steps done
    squared_error: Tensor  # [], per example, summed over d_in, in the units of the normalised inputs
    l1: Tensor  # [], per example, what λ multiplies: of jumprelu the L0 norm, of topk 0
    loss: Tensor  # [], with the λ of this step
    l0: Tensor  # [], active features per example
    explained_variance: Tensor  # [], of this batch
    fired: Tensor  # [d_sae], on how many examples of the batch each feature was active; the step counts them anyway
    dead: Tensor  # bool [d_sae]: silent for dead_after steps
    resampled: int  # features re-initialised after this step
    lam: float  # λ of this step
    lr: float  # learning rate of this step

    def numbers(self) -> dict[str, float]:
        """What `log.jsonl` records. On a GPU this waits for the step."""
        means = ("loss", "squared_error", "l1", "l0", "explained_variance")
        numbers = {name: getattr(self, name).item() for name in means}
        return {**numbers, "dead": int(self.dead.sum()), "resampled": self.resampled, "lam": self.lam, "lr": self.lr}


class Trainer:
    """The state of a run, and the loop. Everything that the next step depends on is in `tensors`."""

    def __init__(self, config: TrainConfig, buffer: ActivationBuffer, tensors: Mapping[str, Tensor] | None = None):
        """tensors: of a checkpoint, to continue from there. A new run looks at the first activations for its start."""
        self.config, self.buffer = config, buffer
        self.own_batch = parallel.share(config.batch_size, "batch_size")
        self.generator = torch.Generator().manual_seed(config.seed)
        d_in, device = buffer.rows.shape[1], buffer.rows.device
        self.sae = self._initial(d_in).to(device)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=config.lr, betas=(0.9, 0.999), fused=True)
        self.silent = torch.zeros(config.d_sae, dtype=torch.int64, device=device)  # steps since a feature fired
        self.scale, self.step = 1.0, 0
        if tensors is None:
            self._fit_to(parallel.gathered(buffer.peek(8192 // parallel.world())))  # it will be trained on all the same
        else:
            self.restore(tensors)

    @torch.no_grad()
    def _initial(self, d_in: int) -> SparseAutoencoder:
        config = self.config
        options = {} if config.k is None else {"k": config.k}
        sae = ARCHITECTURES[config.architecture](d_in, config.d_sae, config.tied_bias, self.generator, **options)
        if not config.unit_norm:
            sae.W_dec *= 0.1  # April 2024: a small norm to start with
        if config.encoder_start is not None:
            sae.W_enc.copy_(config.encoder_start * sae.W_dec.T)
        return sae

    @torch.no_grad()
    def _fit_to(self, sample: Tensor) -> None:
        """Choose the scale of the inputs, and the paper's start of b_dec, by a sample of activations [n, d_in]."""
        size = sample.square().sum(1).mean().item()
        if self.config.normalize and not size > 0:
            raise SaeCoreError("train: all activations are zero, or one is not a number; look at their source")
        if self.config.normalize:
            self.scale = math.sqrt(sample.shape[1] / size)
        if self.config.tied_bias:
            self.sae.b_dec.copy_(geometric_median(sample * self.scale))

    def check_length(self) -> None:
        """Raise SaeCoreError, before hours of training rather than after them, where the text is too short for it."""
        chunks, asked = self.buffer.chunks, (self.config.steps - self.step) * self.own_batch
        left = len(chunks) * chunks.rows - self.buffer.used
        if asked > left and not self.buffer.repeat:
            steps = self.step + left // self.own_batch
            raise SaeCoreError(f"train: the text is used up after {steps:,} steps: use more text or fewer steps")

    def run(self) -> Iterator[Progress]:
        """Train to the end, yielding after each step. The caller may stop, look or save at any point."""
        config, sae, optimizer = self.config, self.sae, self.optimizer
        on_gpu = sae.W_dec.is_cuda and config.by_hand and parallel.world() == 1
        update = GraphedStep(sae, optimizer, config) if on_gpu else self._update
        while self.step < config.steps:
            needed = (config.steps - self.step) * self.own_batch
            x = self.buffer.next_batch(self.own_batch, needed) * self.scale
            lam = config.lam * min(1.0, (self.step + 1) / max(1, config.lam_warmup))
            remaining = (config.steps - self.step) / max(1, config.lr_decay)
            lr = config.lr * min(1.0, remaining)
            result, variance = update(x, lam, lr)

            self.silent.add_(1).masked_fill_(result.fired > 0, 0)
            self.step += 1
            dead = self.silent >= config.dead_after
            resampled = 0
            if self.step in config.resample_at and self.step < config.steps:  # the last step's would stay untrained
                n_inputs = config.resample_inputs // parallel.world()
                inputs = self.buffer.waiting(n_inputs)
                by_norm = not config.unit_norm
                resampled = resample(sae, optimizer, dead, inputs, lam, self.generator, self.scale, by_norm)
                self.silent.masked_fill_(dead, 0)
            yield Progress(
                self.step,
                result.squared_error,
                result.l1,
                result.squared_error + lam * result.l1 + result.auxiliary,
                result.fired.sum() / config.batch_size,
                1 - result.squared_error / variance,
                result.fired,
                dead,
                resampled,
                lam,
                lr,
            )

    def _update(self, x: Tensor, lam: float, lr: float) -> tuple[Step, Tensor]:
        """Train on a batch x [own_batch, d_in]. Returns its loss by parts, and its variance []."""
        config, sae = self.config, self.sae
        if config.by_hand:
            bf16 = config.bf16 and (x.is_cuda or bf16_is_fast())
            result = loss_step(sae, x, lam, by_decoder_norm=not config.unit_norm, bf16=bf16)
        else:
            result = autograd_step(sae, x, lam, dead=self.silent >= config.dead_after)
        center = x.mean(0)
        variance = torch.linalg.vector_norm(x - center).square() / len(x)
        result, variance = parallel.averaged(result, variance, center)
        for name, gradient in result.gradients.items():
            parameter = getattr(sae, name)
            if gradient.stride() != parameter.stride():  # fused Adam goes by places in memory (PyTorch 2.13)
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient
        if config.unit_norm:
            remove_parallel_gradient(sae)
        if config.clip:
            torch.nn.utils.clip_grad_norm_(sae.parameters(), config.clip)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        if self.step % 100 == 0 and not x.is_cuda:
            flush_moments(self.optimizer)
        if config.unit_norm:
            normalize_decoder(sae)
        sae.constrain()
        return result, variance

    def result(self) -> SparseAutoencoder:
        """A copy of the dictionary that works on raw activations: input scale and decoder norms folded in."""
        sae = copy.deepcopy(self.sae).cpu().eval()
        sae.fold_decoder_norm()
        sae.fold_input_scale(self.scale)
        return sae

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as tensors, for a checkpoint; after the last step without the buffer, most of its size."""
        return {
            **{f"sae.{name}": getattr(self.sae, name) for name in self.sae.names},
            **checkpoint.optimizer_tensors(self.optimizer),
            **(self.buffer.tensors() if self.step < self.config.steps else {}),
            "silent": self.silent,
            "generator": self.generator.get_state(),
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "step": torch.tensor(self.step),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `tensors`."""
        self.step = int(tensors["step"])
        self.sae.load_state_dict({name: tensors[f"sae.{name}"] for name in self.sae.names})
        checkpoint.restore_optimizer(self.optimizer, tensors)
        if self.step < self.config.steps:
            self.buffer.restore(tensors)
        self.silent.copy_(tensors["silent"])
        self.generator.set_state(tensors["generator"])
        self.scale = tensors["scale"].item()


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

    Run again with the same arguments to continue a stopped run: the result is the same. Looking at a run, by logging,
    by checkpoints or from the caller's side of `Trainer.run`, never changes it. Both hold bit for bit on a CPU with the
    same number of threads; on a GPU sums are added up in an order that differs from run to run.

    `log.jsonl` receives a line every `log_every` steps, at each resampling and after it; tensorboard and wandb receive
    the same numbers. Ctrl-C and SIGTERM let the step end, save it, and raise `interruption.Stopped`.
    Raises SaeCoreError at a loss that is not a number, at the latest after `log_every` steps and before anything is
    saved; where `out` holds a checkpoint of another configuration, text or model, or another process trains into it;
    and where the disk is full. The checkpoints written before are untouched.
    """
    from tqdm.auto import tqdm

    first = parallel.rank() == 0  # of several processes, the one that speaks for all
    with checkpoint.only_process(out) if first else nullcontext():
        # What the result depends on besides the configuration; chunks of one's own need not say where they are from.
        d_in = buffer.rows.shape[1]
        identity = {"d_in": d_in, "repeat": buffer.repeat, **getattr(buffer.chunks, "source", {})}
        if buffer.repeat:  # where the text starts over
            identity["chunks"] = len(buffer.chunks)
        tensors, state = parallel.latest(out, asdict(config), identity) or (None, {"seconds": 0.0})
        trainer = Trainer(config, buffer, tensors)
        del tensors  # as large as the buffer
        trainer.check_length()
        started = time.monotonic() - state["seconds"]
        with (
            deferred() as signals,
            Log(out, asdict(config), trainer.step, tensorboard, wandb) if first else nullcontext() as log,
            tqdm(total=config.steps, initial=trainer.step, desc="train", unit="step", disable=not (progress and first))
            as bar,
        ):
            for now in trainer.run():
                bar.update()
                ends = now.step == config.steps
                resampling = now.step in config.resample_at or now.step - 1 in config.resample_at
                if resampling or ends or now.step % log_every == 0:
                    numbers = now.numbers()
                    broken = not math.isfinite(numbers["loss"])
                    if broken or not trainer.sae.W_enc.isfinite().all():  # with which no code would be active
                        raise SaeCoreError(f"train: the loss is {numbers['loss']} at step {now.step}; use a smaller lr")
                    if log:
                        log.write(now.step, now.step * config.batch_size, time.monotonic() - started, numbers)
                    shown = ("loss", "l0", "explained_variance", "dead")
                    bar.set_postfix({name: f"{numbers[name]:.4g}" for name in shown}, refresh=False)
                stopping = parallel.somewhere(bool(signals))
                if stopping or ends or now.step % checkpoint_every == 0:
                    state = {"config": asdict(config), "identity": identity, "seconds": time.monotonic() - started}
                    parallel.save(out, now.step, trainer.tensors(), state)
                if stopping:
                    raise stopped(signals, now.step, out)
        return trainer.result()
