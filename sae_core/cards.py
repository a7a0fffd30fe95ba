"""Cards: the README.md beside every trained model and dictionary, written from its own records, never by hand."""

# ruff: noqa: E501 - rows of Markdown tables

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from .objective import paper_lambda
from .tokens import Mixture

LICENCE = """\
Weights: MIT. The text behind them is openly licensed; the mini-pile's MANIFEST.json lists every source with its
licence, about half of it copyleft or by attribution. The text itself is not part of this repository."""


def provenance(device: str) -> dict[str, str | int]:
    """Where a run took place, as far as its result may depend on it."""
    return {
        "device": torch.cuda.get_device_name(device) if "cuda" in device else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write_model_card(folder: Path) -> None:
    """README.md of a language model, from its training.json."""
    run = json.loads((folder / "training.json").read_text())
    recipe, metrics = run["recipe"], run["metrics"]
    card = f"""\
---
license: mit
library_name: transformers
---
# Language model {folder.name}

A one-layer ReLU transformer (GPT-2 architecture, residual width 128, 512 neurons) after the one of *Towards
Monosemanticity*. It is small on purpose and knows little: it exists to be taken apart.

| | |
|---|---|
| text | {_mixture(recipe["text"])} |
| tokens | {run["tokens"]:,} in {run["steps"]:,} steps of {recipe["batch_tokens"]:,} ({recipe["passes"]:g} pass over the text) |
| vocabulary, context | {recipe["vocab_size"]:,} tokens of a byte-level BPE, {recipe["n_ctx"]} positions |
| optimiser | AdamW (0.9, 0.98), peak learning rate {recipe["lr"]:g}, cosine to zero, gradient norm at most 1, bf16 autocast |
| seed | {recipe["seed"]} |
| wall time | {run["seconds"] / 60:.0f} minutes |
{_provenance(run)}
## Metrics

Cross-entropy in nats per token on {metrics["validation_tokens"]:,} tokens of the validation split (5 % of the documents,
chosen by a hash of their text and never trained on).

{_table(metrics, ("validation_loss", "unigram_loss", "bigram_loss", "loss_without_mlp"))}
## Limits

Trained on a small text for a short time. Documents of one book can fall on both sides of the split, so the validation
loss says nothing about memorisation. Not for any use in which its text matters.

## Licence

{LICENCE}
"""
    (folder / "README.md").write_text(card)


def write_dictionary_card(folder: Path) -> None:
    """README.md of a dictionary, from its cfg.json."""
    config = json.loads((folder / "cfg.json").read_text())
    run = config["metadata"]
    recipe, metrics = run["recipe"], run["metrics"]
    lam = recipe["lam"]
    inputs = "inputs scaled to mean ‖x‖² = d_in" if recipe["normalize"] else "raw inputs"
    resampling = ", ".join(f"{step:,}" for step in recipe["resample_at"]) or "none"
    repeated = run["activations"] / run["distinct_activations"]
    card = f"""\
---
license: mit
library_name: saelens
---
# Dictionary {folder.parent.name}/{folder.name}

{config["d_sae"]:,} features for the {config["d_in"]} MLP neurons of language model {run["model"]}
(`{run["hook_name"]}`), in SAELens' layout. On raw activations

    f = relu((x - b_dec) W_enc + b_enc)        x̂ = f W_dec + b_dec

| | |
|---|---|
| activations | {run["activations"]:,} in {recipe["steps"]:,} steps of {recipe["batch_size"]:,}; each used {repeated:.2g} times |
| text | {_mixture(run["text"])} |
| λ | {lam:g} on the squared error summed over neurons, {inputs}; {paper_lambda(lam, config["d_in"]):.2g} where the error is averaged, as in the paper |
| λ warm-up | {recipe["lam_warmup"]:,} steps |
| optimiser | Adam (0.9, 0.999), learning rate {recipe["lr"]:g}, linear to zero over the last {recipe["lr_decay"]:,} steps |
| resampling | at steps {resampling}; dead after {recipe["dead_after"]:,} silent steps |
| seed | {recipe["seed"]} |
{_provenance(run)}
## Metrics

On {metrics["tokens"]:,} validation tokens, measured on the stored bf16 weights.

{_table(metrics, tuple(metrics))}
## Limits

Dead and ultralow features are counted on these tokens only: a feature rarer than one in {metrics["tokens"]:,} cannot be
told from a dead one. The L1 penalty shrinks activations (see norm_ratio).

## Licence

{LICENCE}
"""
    (folder / "README.md").write_text(card)


def _mixture(mixture: Mixture) -> str:
    parts = []
    for name, weights in mixture:
        shares = ", ".join(f"{slice_name} {share:g}" for slice_name, share in (weights or {}).items())
        parts.append(f"{name} ({shares})" if shares else name)
    return "; ".join(parts) + " (share of each slice's documents)"


def _provenance(run: dict) -> str:
    return "".join(f"| {name} | {value} |\n" for name, value in run.get("provenance", {}).items())


def _table(metrics: dict[str, float], names: tuple[str, ...]) -> str:
    formats = {float: ",.4f", int: ","}
    rows = [f"| {name} | {metrics[name]:{formats[type(metrics[name])]}} |" for name in names]
    return "\n".join(["| metric | value |", "|---|---|", *rows]) + "\n"
