"""The runs behind the chapter "How good is the dictionary?": a grid of sizes and λ, and a comparison for each rule.

    python book/_experiments/quality.py --plan      what there is to run, and how long it takes on this machine
    python book/_experiments/quality.py             runs what is missing; stop it and start it again as you like

Of a run only numbers are kept: a record in `sae_core/pretrained/quality.json`, inside the package, because a chapter
that runs from an installed package, on Colab, needs it there. This file stays outside: a comparison leaves a rule of
the recipe out or replaces it, which nobody else needs. So it replaces the function that the training loop calls (see
ARMS), and the package has no switch for it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from sae_core import bundle, training
from sae_core.activations import ActivationBuffer, Chunks, harvest
from sae_core.autoencoder import SparseAutoencoder
from sae_core.cards import provenance
from sae_core.errors import SaeCoreError
from sae_core.files import cache_folder, write_text_atomically
from sae_core.language_model import LanguageModel, load_model, to_tensor
from sae_core.metrics import dictionary_metrics, loss_recovered
from sae_core.recipe import TrainConfig, paper_scaled
from sae_core.runs import cache_activations, head, seconds_to_train, training_text
from sae_core.tokens import Contexts, load_contexts

RESULTS = bundle.PACKAGED / "quality.json"
STEPS = 1000  # of 4,096 activations, 4.1 million: a tenth of A/1's run
SIZES, LAMBDAS = (512, 1024, 4096), (1.5, 2.5, 4.0, 6.5)
COMPARED, SEEDS = 1024, (0, 1, 2)
TOKENS, LOSS_TOKENS = 400_000, 100_000  # of the validation split, for densities and for losses
RARE = 1e-5  # density below which a feature counts to the ultralow cluster; 4 of these tokens
BINS = torch.arange(-6, 0.01, 0.1, dtype=torch.float64)  # of the histogram: edges, log10 of the density
NORMALIZE_DECODER = training.normalize_decoder


@torch.no_grad()
def kaiming(sae, optimizer, dead, inputs, lam, generator, scale=1.0, by_decoder_norm=False) -> int:
    """In place of `resample`: dead features get fresh weights, as at the start, and a fresh optimiser state."""
    fresh = SparseAutoencoder(sae.d_in, sae.d_sae, sae.tied_bias, generator)
    for name, where in {"W_dec": (dead,), "W_enc": (slice(None), dead), "b_enc": (dead,)}.items():
        parameter = getattr(sae, name)
        parameter[where] = getattr(fresh, name)[where]
        for moment in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][moment][where] = 0.0
    return int(dead.sum())


@torch.no_grad()
def tie_gradients(sae) -> None:
    """In place of `remove_parallel_gradient`: encoder and decoder are one matrix, with the sum of their gradients."""
    shared = sae.W_dec.grad + sae.W_enc.grad.T
    shared -= (shared * sae.W_dec).sum(1, keepdim=True) * sae.W_dec
    sae.W_dec.grad, sae.W_enc.grad = shared, shared.T


@torch.no_grad()
def tie_weights(sae) -> None:
    """In place of `normalize_decoder`: the same, and the encoder is the decoder transposed."""
    NORMALIZE_DECODER(sae)
    sae.W_enc.copy_(sae.W_dec.T)


# The arms of the comparisons: what each changes in the recipe, and what stands in for functions of sae_core.training.
# Resampling needs dead features, and early: with Kaiming's start, three times the rate and without a warm-up one in
# twenty is silent after 300 steps. (With ten times the rate it is four in ten, a sharper test that is still to be run.)
DYING = {"encoder_start": None, "lam_warmup": 0, "lr": 3e-3}
ARMS: dict[str, tuple[dict, dict[str, Callable]]] = {
    "resampling": (DYING, {}),
    "no resampling": (DYING | {"resample_at": ()}, {}),
    "Kaiming": (DYING, {"resample": kaiming}),
    "recipe": ({}, {}),
    "Kaiming start": ({"encoder_start": None}, {}),
    "renormalise only": ({}, {"remove_parallel_gradient": lambda sae: None}),
    "no tied bias": ({"tied_bias": False}, {}),
    "tied decoder": ({}, {"remove_parallel_gradient": tie_gradients, "normalize_decoder": tie_weights}),
    "higher rate": ({"lr": 3e-3}, {}),
    "half as long": ({"steps": STEPS // 2}, {}),
    "higher rate, half as long": ({"lr": 3e-3, "steps": STEPS // 2}, {}),
}


@dataclass(frozen=True)
class Run:
    """One run; equal in what determines it, and hashed by what names it."""

    arm: str  # "grid", or a key of ARMS
    config: TrainConfig

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self.arm}, {self.config.d_sae:,} features, λ {self.config.lam:g}, seed {self.config.seed}"


def runs() -> list[Run]:
    """All runs, in the order in which the chapter can use them."""
    grid = [Run("grid", config(d_sae=size, lam=lam)) for size in SIZES for lam in LAMBDAS]
    return grid + [
        Run(arm, config(**{"d_sae": COMPARED, "seed": seed} | changes))
        for seed in SEEDS
        for arm, (changes, _) in ARMS.items()
    ]


def config(steps: int = STEPS, **changes) -> TrainConfig:
    """The bundled dictionaries' recipe, short. λ rises over a fifth of the run: a twentieth would be 50 steps only."""
    recipe = {"lam": 3.0, "lam_warmup": steps // 5, "buffer_rows": 1 << 19, "clip": None}
    return paper_scaled(steps, **recipe | changes)


def train(run: Run, chunks: Chunks) -> tuple[SparseAutoencoder, dict]:
    """The dictionary of a run, and what its record says about training."""
    _, functions = ARMS.get(run.arm, ({}, {}))
    losses, curve, resampled = [], [], []
    with mock.patch.multiple(training, **functions) if functions else nullcontext():
        trainer = training.Trainer(run.config, ActivationBuffer(chunks, run.config.buffer_rows, run.config.seed))
        if "normalize_decoder" in functions:
            training.normalize_decoder(trainer.sae)  # tied from the start
        for now in trainer.run():
            losses.append(now.loss.item())
            if now.resampled:
                resampled.append({"step": now.step, "features": now.resampled})
            if now.step % 10 == 0:
                curve.append([now.step, round(losses[-1], 2), round(now.l0.item(), 2), int(now.dead.sum())])
    for each in resampled:  # the loss at the step that resampled was taken before it
        around = slice(max(0, each["step"] - 5), each["step"]), slice(each["step"], each["step"] + 5)
        each["loss_before"], each["loss_after"] = (sum(losses[part]) / len(losses[part]) for part in around)
    last = losses[-max(1, len(losses) // 20) :]
    record = {
        "final_loss": sum(last) / len(last),  # training loss, mean of the last twentieth of the steps
        "resampled": resampled,
        "curve": {"columns": ["step", "loss", "l0", "dead"], "rows": curve},
    }
    return trainer.result(), record


def measure(model: LanguageModel, sae: SparseAutoencoder, validation: Contexts) -> dict:
    """Metrics on validation text, the histogram of densities, and the ultralow cluster's directions."""
    metrics, sparsity = dictionary_metrics(model, sae, head(validation, TOKENS).ids)
    metrics |= loss_recovered(model, sae, head(validation, LOSS_TOKENS).ids)
    fired = sparsity.density[sparsity.counts > 0].log10()
    rare = sparsity.density < RARE
    encoder, decoder = _unit(sae.W_enc.T[rare]), _unit(sae.W_dec[rare])
    return {
        "metrics": metrics,
        "density": {
            "log10_edges": [round(edge, 1) for edge in BINS.tolist()],
            "counts": torch.histogram(fired, BINS).hist.int().tolist(),  # of features that fired
        },
        "rare": {
            "density_below": RARE,
            "features": int(rare.sum()),
            "share_on_one_token": _most_at_once(model, sae, head(validation, TOKENS), rare) / max(1, int(rare.sum())),
            "encoder_cosine": _cosine_with_mean(encoder),
            "decoder_cosine": _cosine_with_mean(decoder),
            "encoder_mean": [round(value, 4) for value in _unit(encoder.sum(0)).tolist()],
        },
    }


@torch.no_grad()
def _most_at_once(model: LanguageModel, sae: SparseAutoencoder, contexts: Contexts, chosen: Tensor, rows=16) -> int:
    """The largest number of chosen features, bool [d_sae], that fire on one token."""
    most = 0
    for part in range(0, len(contexts.ids) if chosen.any() else 0, rows):
        x = harvest(model.network, to_tensor(contexts.ids[part : part + rows]))[:, 1:]
        most = max(most, int((sae.encode(x)[..., chosen] > 0).sum(-1).max()))
    return most


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.detach(), dim=-1)


def _cosine_with_mean(directions: Tensor) -> float | None:
    """Median cosine of unit vectors [n, d] with their mean; None where there are none."""
    return (directions @ _unit(directions.sum(0))).median().item() if len(directions) else None


def records(path: Path, model_sha256: str) -> dict[Run, dict]:
    """The records of those of `runs` that the results file has, on this model; records of other runs do not count."""
    found = json.loads(path.read_text())["runs"] if path.exists() else []
    kept = {}
    for run in runs():
        wanted = {"arm": run.arm, "config": json.loads(json.dumps(asdict(run.config))), "model_sha256": model_sha256}
        if matching := [record for record in found if record | wanted == record]:
            kept[run] = matching[0]
    return kept


def plan(missing: list[Run], model: LanguageModel) -> str:
    seconds = cache(lambda size: seconds_to_train(config(d_sae=size), model.network) / STEPS)
    lines = [(run, run.config.steps * seconds(run.config.d_sae) / 60 + 0.3) for run in missing]  # 0.3: measuring
    table = [f"{minutes:6.1f} minutes  {run}" for run, minutes in lines]
    return "\n".join([*table, f"{sum(minutes for _, minutes in lines):6.0f} minutes  together, {len(missing)} runs"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", action="store_true", help="print what is missing, and do nothing")
    parser.add_argument("--model", default="A", help="name or folder of the language model (default: A)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    options = parser.parse_args(arguments)

    model = load_model(options.model)
    sha256 = bundle.sha256(model.folder / "model.safetensors")
    done = records(options.out, sha256)
    missing = [run for run in runs() if run not in done]
    print(plan(missing, model), flush=True)
    if options.plan:
        return
    validation = load_contexts(training_text(model), "validation", model.tokenizer, model.n_ctx)
    # Harvested once, for all: runs of different seeds read the same text, in another order. 5 GB on the disk.
    tokens = max(run.config.steps * run.config.batch_size + run.config.buffer_rows for run in runs())
    chunks = cache_activations(options.model, cache_folder() / f"quality-{sha256[:16]}", tokens=tokens)
    for run in missing:
        started = time.monotonic()
        sae, trained = train(run, chunks)
        seconds = round(time.monotonic() - started, 2)
        record = {
            "arm": run.arm,
            "model": model.name,
            "model_sha256": sha256,
            "config": asdict(run.config),
            "activations": run.config.steps * run.config.batch_size,
            **trained,
            **measure(model, sae, validation),
            "seconds": seconds,
            "provenance": provenance(),
        }
        done[run] = record
        lines = ",\n".join(json.dumps(done[run]) for run in runs() if run in done)
        write_text_atomically(options.out, f'{{"runs": [\n{lines}\n]}}\n')
        l0, recovered = record["metrics"]["l0_mean"], record["metrics"]["loss_recovered"]
        print(f"{seconds / 60:6.1f} minutes  {run}: L0 {l0:.1f}, {recovered:.1%} recovered", flush=True)


if __name__ == "__main__":
    try:
        main()
    except SaeCoreError as error:
        sys.exit(f"quality.py: {error}")
