"""What every worker does: wait for a command, carry it out, answer.

A worker is a script that stays alive, so that libraries can take turns in one run without being started anew. A command
is one line of JSON on stdin, {"do": name, ...}; the answer is one line of JSON on stdout. What a library prints goes to
stderr, which is the worker's log. This file runs in the peers' environments, so it needs nothing but torch and numpy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # before a library is imported: some print while they are

SAMPLE = 131_072  # activations that a run may look at before its first step, and that ours resamples from


def serve(**commands: Callable[..., dict]) -> None:
    """Answer commands until stdin closes."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for line in sys.stdin:
        arguments = json.loads(line)
        answer = commands[arguments.pop("do")](**arguments)
        print(json.dumps(answer), file=ANSWERS, flush=True)


@dataclass(frozen=True)
class Recipe:
    """What all trainers are told alike. λ multiplies the L1 norm of one example's codes, against its squared error
    summed over d_in: the convention of SAELens and dictionary_learning as well, so no conversion is left to do."""

    d_in: int
    d_sae: int
    batch_size: int
    steps: int
    lam: float
    lam_warmup: int
    lr: float
    lr_decay: int
    bf16: bool
    seed: int
    dictionary: str | None = None  # safetensors file of W_enc, b_enc, W_dec, b_dec to start from
    preset: str = "paper_scaled"  # of ours


class Run(Protocol):
    """One training run of one library."""

    def step(self, x: Tensor) -> None:
        """One step on a batch [batch_size, d_in], as the library's own loop would do it."""

    def dictionary(self) -> dict[str, Tensor]:
        """W_enc [d_in, d_sae], b_enc, W_dec [d_sae, d_in], b_dec, for f = relu((x - b_dec) W_enc + b_enc)."""

    def codes(self, x: Tensor) -> Tensor:
        """The library's own codes [batch, d_sae] of x."""

    def reconstruction(self, x: Tensor) -> Tensor:
        """The library's own reconstruction [batch, d_in] of x."""


def serve_training(start: Callable[[Recipe, Tensor], Run]) -> None:
    """Answer `time` and `train` for a library whose runs begin with start(recipe, sample of activations [n, d_in])."""
    going: dict[str, Run] = {}

    def begin(recipe: Recipe, store: np.ndarray) -> Run:
        torch.manual_seed(recipe.seed)
        return start(recipe, torch.from_numpy(store[:SAMPLE].astype(np.float32)))

    def time_steps(recipe: dict, activations: str, first: int, steps: int, fresh: bool) -> dict:
        """Seconds for `steps` steps from batch `first` on: of a new run, or of the one that the last call began."""
        store, recipe = np.load(activations, mmap_mode="r"), Recipe(**recipe)
        batches = [batch(store, recipe.batch_size, first + step) for step in range(steps)]
        if fresh:
            going["run"] = begin(recipe, store)
        run = going["run"]
        started = time.perf_counter()
        for x in batches:
            run.step(x)
        seconds = time.perf_counter() - started
        with torch.no_grad():
            l0 = (run.codes(batches[-1]) > 0).sum(1).float().mean().item()
        return {"seconds": seconds, "l0": l0}

    def train(recipe: dict, activations: str, out: str) -> dict:
        """A whole run over the stored activations in their order. Writes the dictionary and a batch to check it by."""
        store, recipe = np.load(activations, mmap_mode="r"), Recipe(**recipe)
        run = begin(recipe, store)
        started = time.perf_counter()
        for step in range(recipe.steps):
            run.step(batch(store, recipe.batch_size, step))
        seconds = time.perf_counter() - started
        with torch.no_grad():
            x = batch(store, 256, 0)
            check = {"check.x": x, "check.codes": run.codes(x), "check.reconstruction": run.reconstruction(x)}
        tensors = {name: tensor.detach().contiguous().clone() for name, tensor in (run.dictionary() | check).items()}
        partial = Path(out).with_suffix(".partial")
        save_file(tensors, partial)
        os.replace(partial, out)
        return {"seconds": seconds}

    serve(time=time_steps, train=train)


def batch(store: np.ndarray, batch_size: int, index: int) -> Tensor:
    """Batch `index` of the stored activations [n, d_in] in fp32; after the last one, the first one again."""
    index %= len(store) // batch_size
    return torch.from_numpy(store[index * batch_size : (index + 1) * batch_size].astype(np.float32))
