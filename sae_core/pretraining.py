"""Train the one-layer language model: text in, a folder with the model out, restartable at any step."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from . import checkpoint, log
from .cards import provenance, write_model_card
from .corpus import VALIDATION_SHARE, open_corpus
from .errors import SaeCoreError
from .files import write_text_atomically
from .interruption import deferred, stopped
from .language_model import LanguageModel, build, load_model, save_model, to_tensor, token_losses
from .ngrams import ngram_losses
from .recipe import check_types, differing
from .tokens import Contexts, Mixture, load_contexts, load_tokenizer, mixture_documents, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass
class PretrainConfig:
    """What determines the model. Two models of one recipe differ in `seed` alone (paper, "Universality")."""

    text: Mixture = field(default_factory=lambda: [("pocket", None)])  # (corpus, share of each slice or null) pairs
    max_tokens: int | None = None  # read no more of the text; a stream, hf:owner/dataset, needs it
    vocab_size: int = 4096  # tokens of the byte-level BPE
    n_ctx: int = 256  # tokens per context
    passes: float = 1.0  # how often the text is read
    batch_tokens: int = 8192  # tokens per step
    lr: float = 3e-3  # peak of the cosine schedule
    warmup: float = 0.02  # share of the steps over which the learning rate rises
    weight_decay: float = 0.01  # on matrices
    seed: int = 0  # of the weights and of the order of the text

    def __post_init__(self):
        check_types(self, "pretrain")
        for name in ("vocab_size", "n_ctx", "passes", "batch_tokens", "lr", "max_tokens"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise SaeCoreError(f"pretrain: {name} = {getattr(self, name)} must be positive")
        for name in ("warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise SaeCoreError(f"pretrain: {name} = {getattr(self, name)} must not be negative")
        if self.n_ctx < 2:
            raise SaeCoreError("pretrain: n_ctx = 1 leaves no token to predict; it must be 2 or more")
        if self.batch_tokens < self.n_ctx:
            raise SaeCoreError(f"pretrain: batch_tokens = {self.batch_tokens} must hold a context of {self.n_ctx}")


def pretrain(
    config: PretrainConfig,
    out: Path,
    device: str = "cpu",
    checkpoint_every: int = 500,
    progress: bool = True,
) -> LanguageModel:
    """Train a model and save it to the folder `out`; run again with the same arguments to continue a stopped run.

    Training runs under bf16 autocast with fp32 weights, AdamW (0.9, 0.98), a cosine schedule to zero and gradient
    clipping at 1. Every `checkpoint_every` steps it writes a checkpoint and appends the losses to `log.jsonl`. Ctrl-C
    and SIGTERM let the step end, save it, and raise `interruption.Stopped`. The result does not depend on whether and
    where a run was stopped, bit for bit on a CPU with the same number of threads. Where `out` holds the finished model
    of this very recipe, that is returned and nothing is trained.
    Raises SaeCoreError for unusable text, a checkpoint of another configuration or text, the finished model of another
    recipe, a folder that another process trains into, a full disk, and a loss that is not a number, at the latest after
    20 steps and before anything is saved. The checkpoints written before are untouched.
    """
    with checkpoint.only_process(out):
        if not checkpoint.checkpoints(out) and _finished(out, config):
            write_model_card(out)  # it is written last: a killed run may have none
            return load_model(str(out), device)
        return _pretrain(config, out, device, checkpoint_every, progress)


def _pretrain(
    config: PretrainConfig, out: Path, device: str, checkpoint_every: int, progress: bool
) -> LanguageModel:
    from tqdm.auto import tqdm

    tokenizer = _tokenizer(config, out)
    train = load_contexts(config.text, "train", tokenizer, config.n_ctx, config.max_tokens)
    held_out = config.max_tokens and math.ceil(config.max_tokens * VALIDATION_SHARE)  # from the same stretch of text
    validation = load_contexts(config.text, "validation", tokenizer, config.n_ctx, held_out)
    sample = to_tensor(validation.ids[:128], device)

    torch.manual_seed(config.seed)
    network = build(config.vocab_size, config.n_ctx).to(device)
    optimizer = _optimizer(network, config)
    rows = config.batch_tokens // config.n_ctx
    n_steps = int(config.passes * len(train.ids)) // rows
    if n_steps == 0 or len(train.ids) < rows:
        raise SaeCoreError(f"pretrain: {len(train.ids)} contexts of text do not fill one batch of {rows}")

    identity = {"text": checkpoint.digest([train.ids])}
    step, seconds = 0, 0.0
    if found := checkpoint.latest(out, asdict(config), identity):
        tensors, state = found
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        checkpoint.restore_optimizer(optimizer, tensors)
        step, seconds = state["step"], state["seconds"]
    log.forget_after(out / "log.jsonl", step)

    started = time.monotonic() - seconds
    with (
        deferred() as signals,
        tqdm(total=n_steps, initial=step, desc="pretrain", unit="step", disable=not progress) as bar,
    ):
        while step < n_steps:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _schedule(step, n_steps, config.warmup)
            ids = to_tensor(train.ids[_rows_of_step(step, rows, len(train.ids), config.seed)], device)
            loss = _training_step(network, optimizer, ids)
            step += 1
            bar.update()
            seconds = time.monotonic() - started
            stopping = bool(signals)
            saving = step % checkpoint_every == 0 or step == n_steps
            if saving or stopping or step % 20 == 0:
                if not math.isfinite(loss.item()):
                    raise SaeCoreError(f"pretrain: the loss is not a number at step {step}; lower lr = {config.lr}")
                bar.set_postfix(loss=f"{loss.item():.3f}")
            if saving:
                record = {
                    "step": step,
                    "tokens": step * rows * config.n_ctx,
                    "loss": loss.item(),
                    "validation_loss": mean_loss(network, sample),
                    "seconds": round(seconds, 1),
                }
                log.append(out / "log.jsonl", record)
            if saving or stopping:
                tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
                tensors |= checkpoint.optimizer_tensors(optimizer)
                state = {"config": asdict(config), "identity": identity, "seconds": seconds}
                checkpoint.save(out, step, tensors, state)
            if stopping:
                raise stopped(signals, step, out)

    network.eval()
    model = LanguageModel(out.name, network, tokenizer, out)
    save_model(model, out)
    run = {
        "recipe": asdict(config),
        "steps": n_steps,
        "tokens": n_steps * rows * config.n_ctx,
        "seconds": round(seconds),
        "provenance": provenance(device),
        "metrics": evaluate(model, train, validation, device),
    }
    write_records(out, run)
    return model


def _finished(folder: Path, config: PretrainConfig) -> bool:
    """Whether a folder holds the finished model of this recipe; SaeCoreError where it holds another's."""
    record = folder / "training.json"
    if not ((folder / "model.safetensors").exists() and record.exists()):
        return False
    recipe = json.loads(record.read_text())["recipe"]
    if other := differing(recipe, config):
        (key, (there, here)), *_ = other.items()
        way_out = "choose another --out or delete it"
        raise SaeCoreError(f"{folder}: holds a finished model with {key} = {there}, asked is {here}; {way_out}")
    return True


def _tokenizer(config: PretrainConfig, out: Path) -> Tokenizer:
    """That of the run's checkpoints, or one trained on its text: what an earlier run may have left is not trusted."""
    path = out / "tokenizer.json"
    if not (checkpoint.checkpoints(out) and path.exists()):
        tokenizer = train_tokenizer(mixture_documents(config.text, "train", config.max_tokens), config.vocab_size)
        write_text_atomically(path, tokenizer.to_str())
    return load_tokenizer(path)


def write_records(folder: Path, run: dict) -> None:
    """Beside a model's weights: training.json with how it came about, the manifest of its text, and the card."""
    for name, _ in run["recipe"]["text"]:
        if manifest := open_corpus(name).manifest:
            write_text_atomically(folder / "MANIFEST.json", manifest.read_text())
    write_text_atomically(folder / "training.json", json.dumps(run, indent=1) + "\n")
    write_model_card(folder)


def _training_step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> torch.Tensor:
    """One step on contexts [n, n_ctx]; returns the loss."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        loss = token_losses(network, ids).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def seconds_per_step(config: PretrainConfig, device: str = "cpu") -> float:
    """How long a step takes here: the fastest of a few real ones on random tokens, for others may be at work, too."""
    network = build(config.vocab_size, config.n_ctx).to(device)
    optimizer = _optimizer(network, config)
    ids = torch.randint(config.vocab_size, (config.batch_tokens // config.n_ctx, config.n_ctx), device=device)
    seconds = []
    for _ in range(4):
        started = time.monotonic()
        _training_step(network, optimizer, ids).item()
        seconds.append(time.monotonic() - started)
    return min(seconds)


def evaluate(model: LanguageModel, train: Contexts, validation: Contexts, device: str = "cpu") -> dict[str, float]:
    """Held-out losses in nats per token: the model, the model without its MLP, and n-gram models of the same text."""
    ids = validation.ids[:6000]
    baselines = ngram_losses(train.ids, ids, model.network.config.vocab_size)
    tensor = to_tensor(ids, device)
    whole = mean_loss(model.network, tensor)
    mlp = model.network.transformer.h[0].mlp
    hook = mlp.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    try:
        without_mlp = mean_loss(model.network, tensor)
    finally:
        hook.remove()
    return {
        "validation_tokens": int(tensor[:, 1:].numel()),
        "validation_loss": whole,
        "unigram_loss": baselines["unigram"],
        "bigram_loss": baselines["bigram"],
        "loss_without_mlp": without_mlp,
    }


@torch.no_grad()
def mean_loss(network, ids: torch.Tensor, rows: int = 32) -> float:
    """Mean cross-entropy in nats per token over contexts [n, n_ctx], computed in fp32 in parts of `rows`."""
    losses = [token_losses(network, part).double().sum() for part in ids.split(rows)]
    return float(sum(losses) / ids[:, 1:].numel())


def _optimizer(network: torch.nn.Module, config: PretrainConfig) -> torch.optim.AdamW:
    matrices = [p for p in network.parameters() if p.ndim == 2]
    vectors = [p for p in network.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)


def _schedule(step: int, n_steps: int, warmup: float) -> float:
    """Linear rise, then half a cosine down to zero, as a share of the peak learning rate."""
    rise = max(1, int(warmup * n_steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, n_steps - rise)))


def _rows_of_step(step: int, rows: int, n_contexts: int, seed: int) -> np.ndarray:
    """Which contexts a step reads: a permutation of all of them per pass, so that a run can continue at any step."""
    per_pass = n_contexts // rows
    first = step % per_pass * rows
    return _order(n_contexts, seed, step // per_pass)[first : first + rows]


@lru_cache(maxsize=1)
def _order(n_contexts: int, seed: int, number_of_pass: int) -> np.ndarray:
    return np.random.default_rng([seed, number_of_pass]).permutation(n_contexts)
