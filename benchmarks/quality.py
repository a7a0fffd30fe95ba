"""Quality at equal work: L0 against loss recovered, after the same batches in the same order, at three values of λ.

All three libraries weigh the squared error summed over d_in against λ times the L1 norm of one example, and the stored
activations are normalised alike, so λ is the same number for all. All have the same linear decay of the learning
rate over the last fifth and the same warm-up of λ. What differs is what each library does besides: how it starts; ours
resamples, keeps unit norms and clips gradients, SAELens clips them too and leaves norms free, dictionary_learning keeps
unit norms. Of every library the best of two tries counts. Ours has two presets, the paper's and that of April 2024, at
one learning rate. SAELens has that rate and half of it. dictionary_learning loses its features even at half of it; it
has that, and about a third of that.
"""

from __future__ import annotations

import math
from pathlib import Path

import data
import numpy as np
import torch
from results import Ratio, Series
from safetensors.torch import load_file
from session import Session

from sae_core.autoencoder import NAMES, SparseAutoencoder
from sae_core.errors import SaeCoreError
from sae_core.runs import evaluate_dictionary, head, held_out

OURS = {"sae_core, paper_scaled": "paper_scaled", "sae_core, april_2024": "april_2024"}  # presets
CONTENDERS = {  # script, environment, learning rates
    **dict.fromkeys(OURS, ("train_ours", None, (2e-3,))),
    "SAELens": ("train_saelens", "saelens", (2e-3, 1e-3)),
    "dictionary_learning": ("train_dictionary_learning", "dictionary_learning", (1e-3, 3e-4)),
}
LAMBDAS = (2.0, 4.0, 8.0)
SAME = 1e-3  # relative difference of codes and reconstructions up to which a converted dictionary is the library's own


def measure(session: Session) -> tuple[dict, list[Series], list[Ratio]]:
    steps, batch_size = session.size(quick=12, full=300), session.size(quick=256, full=data.BATCH)
    source = data.activations(session.work, steps * batch_size)
    contexts, text = held_out(data.model())
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "d_sae": session.size(quick=256, full=4096),
        "distinct_activations": source.distinct,
        "lr": {name: list(rates) for name, (_, _, rates) in CONTENDERS.items()},
        "lam": list(LAMBDAS),
        "held_out_text": text,
        "held_out_tokens": session.size(quick=2000, full=200_000),
    }
    contexts = head(contexts, settings["held_out_tokens"])
    measured: dict[tuple[str, float], list[dict]] = {}  # of a library at a learning rate, for each λ
    for name, (script, peer, rates) in CONTENDERS.items():
        for lr in rates if peer is None or peer in session.peers else ():
            measured[name, lr] = []
            for lam in LAMBDAS:
                recipe = {
                    "d_in": 512,
                    "d_sae": settings["d_sae"],
                    "batch_size": batch_size,
                    "steps": steps,
                    "lam": lam,
                    "lam_warmup": steps // 20,
                    "lr": lr,
                    "lr_decay": steps // 5,
                    "bf16": peer is None,  # our default; theirs is fp32
                    "seed": 0,
                }
                if name in OURS:
                    recipe["preset"] = OURS[name]

                def one(script=script, peer=peer, recipe=recipe) -> dict:
                    out = session.work / "quality.safetensors"
                    with session.worker(script, peer) as worker:
                        worker.ask("train", recipe=recipe, activations=str(source.path), out=str(out))
                    sae = converted(out)
                    sae.fold_decoder_norm()
                    sae.fold_input_scale(source.scale)
                    return evaluate_dictionary(data.model(), sae, contexts)

                part = {"script": script, "recipe": recipe, "activations": source.path.name}
                part |= {"tokens": settings["held_out_tokens"]}
                key = f"quality/{name.replace(' ', '')}-{lam:g}-{lr:g}"
                measured[name, lr].append(session.part(key, part, one))

    series = [
        Series.of(f"λ = {lam:g}, {metric}", f"{name}, rate {lr:g}", unit, [metrics[metric]])
        for (name, lr), points in measured.items()
        for lam, metrics in zip(LAMBDAS, points, strict=True)
        for metric, unit in (("l0_mean", "features"), ("loss_recovered", ""), ("explained_variance", ""), ("dead", ""))
    ]
    curves: dict[str, list[list[dict]]] = {}  # of a library, one for each try
    for (name, _), points in measured.items():
        curves.setdefault("sae_core" if name in OURS else name, []).append(points)
    ours = curves.pop("sae_core")
    differences = [
        Ratio.of(f"L0 {l0:.0f}", f"loss recovered at the same L0, sae_core - {peer}", [gain], 0.0)
        for peer, theirs in curves.items()
        for l0, gain in gains(ours, theirs)
    ]
    return settings, series, differences


@torch.no_grad()
def converted(path: Path) -> SparseAutoencoder:
    """A library's dictionary as ours. Raises SaeCoreError where it gives other codes or reconstructions than theirs."""
    tensors = load_file(path)
    sae = SparseAutoencoder(*tensors["W_enc"].shape)
    sae.load_state_dict({name: tensors[name] for name in NAMES})
    reconstruction, codes = sae(tensors["check.x"])
    for name, ours in (("codes", codes), ("reconstruction", reconstruction)):
        theirs = tensors[f"check.{name}"]
        difference = ((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)).item()
        if difference > SAME:
            raise SaeCoreError(f"quality: {path} gives {name} that differ from the library's own by {difference:.2g}")
    return sae


def at_l0(points: list[dict], l0: float) -> float | None:
    """Loss recovered of a curve at that L0, linear in log L0 between its points; None outside of them."""
    known = sorted((math.log(point["l0_mean"]), point["loss_recovered"]) for point in points if point["l0_mean"] > 0)
    if not known or l0 <= 0 or not known[0][0] <= math.log(l0) <= known[-1][0]:
        return None
    return float(np.interp(math.log(l0), *zip(*known, strict=True)))


def best_at_l0(curves: list[list[dict]], l0: float) -> float | None:
    """The most that a library recovers with that L0 or a smaller one; None where all its dictionaries are larger."""
    sparser = (point["loss_recovered"] for curve in curves for point in curve if point["l0_mean"] <= l0)
    there = (value for curve in curves if (value := at_l0(curve, l0)) is not None)
    return max((*sparser, *there), default=None)


def gains(ours: list[list[dict]], theirs: list[list[dict]]) -> list[tuple[float, float]]:
    """(L0, by how much we recover more of the loss there) at each point of a peer that none of its others beats.

    Curves, one for each try, with a point for each λ. A point of theirs that is sparser than all of ours is replaced by
    their best at the L0 of our sparsest.
    """
    found = {}  # two points of theirs may be replaced by the same
    sparsest = min(point["l0_mean"] for curve in ours for point in curve)
    for point in (point for curve in theirs for point in curve):
        if best_at_l0(theirs, point["l0_mean"]) <= point["loss_recovered"]:
            l0 = max(point["l0_mean"], sparsest)
            found[l0] = best_at_l0(ours, l0) - best_at_l0(theirs, l0)
    return sorted(found.items())
