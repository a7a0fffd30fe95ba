"""A whole run of ours: `sae-core train` without its command line."""

import time
from pathlib import Path

from protocol import serve
from transformers import GPT2LMHeadModel  # noqa: F401 - before the clock starts, as SAELens' imports are

from sae_core import activations
from sae_core.recipe import paper_scaled
from sae_core.runs import train_dictionary

forward_seconds = 0.0
harvest = activations.harvest


def timed_harvest(*arguments, **options):
    global forward_seconds
    started = time.perf_counter()
    result = harvest(*arguments, **options)
    forward_seconds += time.perf_counter() - started
    return result


def run(out: str, text: str, steps: int, batch_size: int, d_sae: int, lam: float, lr: float, buffer_rows: int) -> dict:
    """Seconds of a run, and how many of them were the language model's."""
    config = paper_scaled(steps, d_sae=d_sae, batch_size=batch_size, lam=lam, lr=lr, buffer_rows=buffer_rows)
    activations.harvest = timed_harvest
    started = time.perf_counter()
    metrics = train_dictionary("A", config, Path(out), text=text, repeat=True, tokens=8000, progress=False)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "forward_seconds": forward_seconds, "l0": metrics["l0_mean"]}


serve(run=run)
