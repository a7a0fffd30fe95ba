"""Cards: the README.md beside every trained model and dictionary, written from its own records, never by hand."""

# ruff: noqa: E501 - rows of Markdown tables

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from .files import write_text_atomically
from .objective import convert_lambda
from .tokens import Mixture

LOSS_TOKENS = 500_000  # on which `runs.evaluate_dictionary` measures losses by default
MEANINGS = {  # of the metrics
    "validation_tokens": "tokens predicted",
    "validation_loss": "of this model",
    "unigram_loss": "of the frequencies of tokens",
    "bigram_loss": "of a smoothed count of pairs of tokens",
    "loss_without_mlp": "of this model with the output of its MLP set to zero",
    "explained_variance": "1 - Σ‖x - x̂‖² / Σ‖x - mean of x‖²",
    "explained_variance_rescaled": "the same, after x̂ is given the norm of x",
    "norm_ratio": "mean of ‖x̂‖ / ‖x‖",
    "tokens": "tokens measured on",
    "l0_mean": "active features per token, mean",
    "l0_median": "active features per token, median",
    "dead": "features that never fire",
    "ultralow": "features that fire on less than one token in a million",
    "above_1_percent": "features that fire on more than 1 % of the tokens",
    "above_10_percent": "features that fire on more than 10 % of the tokens",
    "loss_original": "the language model's loss, nats per token",
    "loss_reconstructed": "its loss with x̂ in place of x",
    "loss_zero_ablated": "its loss with zero in place of x",
    "loss_mean_ablated": "its loss with the mean of x in place of x",
    "loss_recovered": "(zero-ablated - reconstructed) / (zero-ablated - original)",
    "loss_recovered_from_mean": "(mean-ablated - reconstructed) / (mean-ablated - original)",
}


def provenance(device: str = "cpu") -> dict[str, str | int]:
    """Where a run took place, as far as its result or its speed may depend on it: nothing that names computer or user."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if "cuda" in device else processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "memory": f"{memory / 2**30:.0f} GiB" if memory else "unknown",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The model of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def commit(folder: Path = Path(__file__).parent) -> str:
    """The git commit of the package's code, with "+changes" where code or recipes differ from it; else "unknown"."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=10).strip()

    try:
        git("ls-files", "--error-unmatch", "cards.py")  # the package itself is in git, not just the folder around it
        changes = git("status", "--porcelain", "--", ":(glob)*.py", "recipes")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def write_model_card(folder: Path) -> None:
    """README.md of a language model, from its training.json."""
    run = json.loads((folder / "training.json").read_text())
    recipe, metrics = run["recipe"], run["metrics"]
    if "shuffled" in recipe:
        what = f"""\
The control for model {recipe["shuffled"]}: the same network with the entries of every weight matrix shuffled, as in *Towards
Monosemanticity*. Each matrix keeps the distribution of its weights and loses all structure; vectors stay. What a
dictionary finds here, it does not owe to training."""
        rows = {"text": f"that of model {recipe['shuffled']}, for measuring only: {_text(recipe['text'])}"}
        limits = "It predicts nothing."
    else:
        what = """\
A one-layer ReLU transformer (GPT-2 architecture, residual width 128, 512 neurons) after the one of *Towards
Monosemanticity*. It is small on purpose and knows little: it exists to be taken apart."""
        rows = {
            "text": _text(recipe["text"]),
            "tokens": f"{run['tokens']:,} in {run['steps']:,} steps of {recipe['batch_tokens']:,} ({recipe['passes']:g} × the text)",
            "vocabulary, context": f"{recipe['vocab_size']:,} tokens of a byte-level BPE, {recipe['n_ctx']} positions",
            "optimiser": f"AdamW (0.9, 0.98), peak learning rate {recipe['lr']:g}, weight decay {recipe['weight_decay']:g}, cosine to zero, gradient norm at most 1, bf16 autocast",
        }
        limits = """\
Trained on a small text for a short time. Documents of one book can fall on both sides of the split, so the validation
loss says nothing about memorisation. Not for any use in which its text matters."""
    rows |= {"seed": recipe["seed"]} | _machine(run)
    card = f"""\
---
license: mit
library_name: transformers
---
# Language model {folder.name}

{what}

```python
from sae_core import load_model
from transformers import AutoModelForCausalLM

model = load_model("path/to/{folder.name}")  # of a bundled model the name is enough
network = AutoModelForCausalLM.from_pretrained("path/to/{folder.name}")
```

{_table("training", rows)}
## Metrics

Cross-entropy in nats per token on {metrics["validation_tokens"]:,} tokens of the validation split (5 % of the documents,
chosen by a hash of their text and never trained on).

{_metrics(metrics)}
## Limits

{limits}{_origins(recipe["text"], run)}

## Licence

{_licence(folder, "MANIFEST.json", recipe["text"])}
"""
    write_text_atomically(folder / "README.md", card)


def write_dictionary_card(folder: Path) -> None:
    """README.md of a dictionary, from its cfg.json."""
    config = json.loads((folder / "cfg.json").read_text())
    run = config["metadata"]
    recipe, metrics = run["recipe"], run["metrics"]
    standard = config["architecture"] == "standard"
    repeated = run["activations"] / run["distinct_activations"]
    used = "once" if repeated == 1 else f"{repeated:.2g} times"
    # Text that was named for the run is measured on, too; a recipe's text is not (see `runs.train_dictionary`).
    of_text = "the language model's text" if run["text"] == recipe["text"] else "the text above"
    on_first = f"; losses on the first {LOSS_TOKENS:,}" if metrics["tokens"] > LOSS_TOKENS else ""
    limits = f"""\
Dead and ultralow features are counted on these tokens only: a feature rarer than one in {metrics["tokens"]:,} cannot be
told from a dead one."""
    if standard:
        limits += " The L1 penalty shrinks activations (see norm_ratio)."
    if not _recovers(metrics):
        limits += """\n
The language model's loss is no higher without these activations than with them (loss_zero_ablated, loss_original). So
there is no loss to recover from zero-ablation, and loss_recovered means nothing here."""
    lambdas = _lambdas(recipe["lam"], run["input_scale"], config["d_in"])
    x = "(x - b_dec)" if config["apply_b_dec_to_input"] else "x"
    formula = f"f = relu({x} W_enc + b_enc)        x̂ = f W_dec + b_dec"
    if not standard:
        formula = "x̂ = f W_dec + b_dec        with codes f as the class of that name in sae_core.variants"
    rows = {
        "text": _text(run["text"]),
        "activations": f"{run['activations']:,} in {recipe['steps']:,} steps of {recipe['batch_size']:,}; each used {used}",
        **(lambdas if standard else {"λ": f"{recipe['lam']:g}; k: {recipe['k']}; see sae_core.variants"}),
        "λ warm-up": f"{recipe['lam_warmup']:,} steps",
        "optimiser": f"Adam (0.9, 0.999), learning rate {recipe['lr']:g}, linear to zero over the last {recipe['lr_decay']:,} steps",
        "resampling": f"at steps {_steps(recipe['resample_at'])}; dead after {recipe['dead_after']:,} silent steps",
        "seed": recipe["seed"],
    }
    card = f"""\
---
license: mit
library_name: saelens
---
# Dictionary {folder.parent.name}/{folder.name}

{config["d_sae"]:,} features for the {config["d_in"]} MLP neurons of language model {run["model"]}
(`{run["hook_name"]}`), in SAELens' layout, architecture {config["architecture"]}. On raw activations

    {formula}

```python
from sae_core import load_dictionary
from sae_lens import SAE

dictionary = load_dictionary("path/to/{folder.parent.name}/{folder.name}")  # of a bundled one the name is enough
sae = SAE.load_from_disk("path/to/{folder.parent.name}/{folder.name}")
```

{_table("training", rows | _machine(run))}
The whole configuration is `metadata.recipe` in cfg.json.

## Metrics

On {metrics["tokens"]:,} validation tokens of {of_text}{on_first}.
Measured on the stored bf16 weights.

{_metrics(metrics)}
## Limits

{limits}{_origins(run["text"], run)}

## Licence

{_licence(folder, "../MANIFEST.json", run["text"])}
"""
    write_text_atomically(folder / "README.md", card)


def summary(folder: Path) -> str:
    """The records of a model's or a dictionary's folder in one line; says so where the run has not ended."""
    dictionary = (folder / "cfg.json").exists()
    path = folder / ("cfg.json" if dictionary else "training.json")
    run = json.loads(path.read_text()) if path.exists() else {}
    metrics = (run.get("metadata", {}) if dictionary else run).get("metrics")
    if not metrics:
        return "no metrics recorded"
    if dictionary:
        recovered = f"{metrics['loss_recovered']:.1%} of the loss recovered, " if _recovers(metrics) else ""
        return (
            f"{run['d_sae']:,} features, mean L0 {metrics['l0_mean']:.1f}, {recovered}"
            f"{metrics['dead'] + metrics['ultralow']:,} dead or ultralow"
        )
    return f"validation loss {metrics['validation_loss']:.3f} nats, bigram model {metrics['bigram_loss']:.3f}"


def _recovers(metrics: dict[str, float]) -> bool:
    """Whether there is a loss to recover: without the activations the language model is worse."""
    return metrics["loss_zero_ablated"] > metrics["loss_original"]


def _origins(text: Mixture, run: dict) -> str:
    """What cannot be had again in the same form: text that the installed packages brought, code of no commit."""
    limits = ""
    if _has_code(text):
        limits += """\n
The slice `code` is read from the installed packages, so with other versions of them the text is another."""
    if run["provenance"].get("commit", "").endswith(("+changes", "-dirty")):
        limits += """\n
The code of this run had changes that are in no commit, so its exact state cannot be checked out."""
    return limits


def _has_code(text: Mixture) -> bool:
    return any(name == "installed-code" for name, _ in text)


def _licence(folder: Path, manifest: str, text: Mixture) -> str:
    """manifest: where the list of the text's sources is, from `folder`, if it is there."""
    weights = "Weights: MIT. The text behind them is not part of this repository"
    if not (folder / manifest).exists():
        return f"{weights}."
    listed = f"[MANIFEST.json]({manifest}) lists every source with its licence"
    code = """, save those of the slice `code`: it is
the standard library and the packages that `sae_core/installed_code.py` names, each under its own licence"""
    return f"{weights}; about half of it is copyleft or by attribution.\n{listed}{code if _has_code(text) else ''}."


def _lambdas(lam: float, scale: float, d_in: int) -> dict[str, str]:
    """λ of a run on inputs multiplied by `scale`: in our convention, the same for raw inputs, and in the paper's."""
    raw = convert_lambda(lam, "sae_core", "sae_core", d_in, scale=1 / scale)
    paper = convert_lambda(raw, "sae_core", "paper", d_in)
    return {
        "λ": f"{lam:g} on the squared error summed over neurons, inputs multiplied by {scale:.4g}",
        "λ, raw inputs": f"{raw:.3g} on the squared error summed over neurons",
        "λ, as in the paper": f"{paper:.2g} on the squared error averaged over neurons, raw inputs",
    }


def _steps(steps: list[int]) -> str:
    return ", ".join(f"{step:,}" for step in steps) or "none"


def _text(mixture: Mixture) -> str:
    parts = []
    for name, weights in mixture:
        shares = ", ".join(f"{slice_name} {share:g}" for slice_name, share in (weights or {}).items())
        parts.append(f"{name} ({shares})" if shares else name)
    return "; ".join(parts) + " (share of each slice's documents)"


def _machine(run: dict) -> dict[str, str | int]:
    return {"wall time": f"{run['seconds'] / 60:.0f} minutes"} | run["provenance"]


def _table(title: str, rows: dict[str, str | int | float]) -> str:
    lines = [f"| {name} | {_value(value)} |" for name, value in rows.items()]
    return "\n".join([f"| {title} | |", "|---|---|", *lines]) + "\n"


def _metrics(metrics: dict[str, int | float]) -> str:
    lines = [f"| {name} | {_value(value)} | {MEANINGS.get(name, '')} |" for name, value in metrics.items()]
    return "\n".join(["| metric | | meaning |", "|---|---|---|", *lines]) + "\n"


def _value(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
