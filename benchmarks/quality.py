"""Quality at equal work: L0 against loss recovered, after the same batches in the same order, at three values of λ.

All three libraries weigh the squared error summed over d_in against λ times the L1 norm of one example, and the stored
activations are normalised alike, so λ is the same number for all. All have the same learning rate, its linear decay
over the last fifth and the same warm-up of λ. What differs is what each library does besides: ours resamples and keeps
unit norms, SAELens clips gradients and leaves norms free, dictionary_learning keeps unit norms.
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

CONTENDERS = {  # script, environment, learning rate
    "sae_core": ("train_ours", None, 1e-3),
    "SAELens": ("train_saelens", "saelens", 1e-3),
    "dictionary_learning": ("train_dictionary_learning", "dictionary_learning", 1e-3),
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
        "lr": {name: lr for name, (_, _, lr) in CONTENDERS.items()},
        "lam": list(LAMBDAS),
        "held_out_text": text,
        "held_out_tokens": session.size(quick=2000, full=500_000),
    }
    contexts = head(contexts, settings["held_out_tokens"])
    fronts: dict[str, list[dict]] = {}
    for name, (script, peer, lr) in CONTENDERS.items():
        if peer is None or peer in session.peers:
            fronts[name] = []
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
                fronts[name].append(session.part(f"quality/{name.replace(' ', '')}-{lam:g}", part, one))

    series = [
        Series.of(f"λ = {lam:g}, {metric}", name, unit, [metrics[metric]])
        for name, front in fronts.items()
        for lam, metrics in zip(LAMBDAS, front, strict=True)
        for metric, unit in (("l0_mean", "features"), ("loss_recovered", ""), ("explained_variance", ""), ("dead", ""))
    ]
    compared = "loss recovered at the same L0, sae_core -"
    differences = [
        Ratio.of(f"λ = {lam:g}", f"{compared} {name}", [gain], 0.0)
        for name, front in fronts.items()
        for lam, gain in zip(LAMBDAS, gains(fronts["sae_core"], front), strict=True)
        if name != "sae_core" and gain is not None
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


def at_l0(front: list[dict], l0: float) -> float | None:
    """Loss recovered of a front at that L0, linear in log L0 between its points; None outside of them."""
    points = sorted((math.log(point["l0_mean"]), point["loss_recovered"]) for point in front if point["l0_mean"] > 0)
    if not points or l0 <= 0 or not points[0][0] <= math.log(l0) <= points[-1][0]:
        return None
    return float(np.interp(math.log(l0), *zip(*points, strict=True)))


def gains(ours: list[dict], theirs: list[dict]) -> list[float | None]:
    """By how much our loss recovered exceeds theirs at the same L0, for each λ.

    At our L0, on the line through their points; where ours lies beyond these, at their L0 on the line through ours.
    """
    found = []
    for our, their in zip(ours, theirs, strict=True):
        there, here = at_l0(theirs, our["l0_mean"]), at_l0(ours, their["l0_mean"])
        if there is not None:
            found.append(our["loss_recovered"] - there)
        else:
            found.append(None if here is None else here - their["loss_recovered"])
    return found
