"""Activations per second of one training step: in the steady state, and at the start.

Every contender starts from the same trained dictionary and takes the same batches, with λ at its full value and a
learning rate so small that the dictionary stays what it is. At the start each is freshly initialised, as it does that
by itself, and takes its first steps. `floor` is the one dense product that no ReLU dictionary's step can do without.
"""

from __future__ import annotations

from collections.abc import Mapping

import data
from environments import Worker
from results import Ratio, Series, ratios
from session import Session

CONTENDERS = {  # script, environment, bf16
    "sae_core fp32": ("train_ours", None, False),
    "sae_core bf16": ("train_ours", None, True),
    "SAELens fp32": ("train_saelens", "saelens", False),
    "SAELens bf16": ("train_saelens", "saelens", True),
    "dictionary_learning fp32": ("train_dictionary_learning", "dictionary_learning", False),
    "sparsify TopK fp32": ("train_sparsify", "sparsify", False),
    "floor fp32": ("train_floor", None, False),
    "floor bf16": ("train_floor", None, True),
}
TARGETS = {  # phase: (numerator, denominator, target)
    "steady": [
        ("sae_core fp32", "SAELens fp32", 3.0),
        ("sae_core fp32", "dictionary_learning fp32", 3.0),
        ("sae_core bf16", "SAELens fp32", 5.0),
        ("sae_core bf16", "dictionary_learning fp32", 5.0),
        ("sae_core bf16", "SAELens bf16", 4.0),
        ("sae_core fp32", "floor fp32", 0.5),
        ("sae_core bf16", "floor bf16", 0.5),
        ("sae_core bf16", "sparsify TopK fp32", None),
    ],
    "start": [
        ("sae_core fp32", "SAELens fp32", 1.2),
        ("sae_core fp32", "dictionary_learning fp32", 1.2),
        ("sae_core bf16", "SAELens bf16", 1.2),
    ],
}


def measure(session: Session) -> tuple[dict, list[Series], list[Ratio]]:
    batch_size = session.size(quick=256, full=data.BATCH)
    source = data.activations(session.work, session.size(quick=4096, full=1 << 19))
    settings = {"batch_size": batch_size, "lam": data.LAMBDA, "steady_lr": 1e-5, "start_lr": 1e-3, "dictionaries": {}}
    contenders = {name: (script, peer) for name, (script, peer, _) in CONTENDERS.items()}
    if session.ours_only:
        contenders = {name: where for name, where in contenders.items() if where[1] is None}
    series, wanted = [], []
    with session.workers(contenders) as workers:
        for d_sae, steps in session.size(quick={256: 4}, full={4096: 8, 16_384: 4}).items():
            dictionary, origin = data.dictionary(session.work, d_sae, session.size(quick=20, full=800), source)
            settings["dictionaries"][f"{d_sae:,}"] = origin
            for phase, targets in TARGETS.items():
                steady = phase == "steady"
                recipe = {
                    "d_in": 512,
                    "d_sae": d_sae,
                    "batch_size": batch_size,
                    "steps": 100_000,  # never reached
                    "lam": data.LAMBDA,
                    "lam_warmup": 0 if steady else 5000,
                    "lr": settings[f"{phase}_lr"],
                    "lr_decay": 0,
                    "seed": 0,
                    "dictionary": str(dictionary) if steady else None,
                }
                answers = _rounds(session, workers, f"step/{phase}-{d_sae}", recipe, steps, str(source.path))
                group = f"{phase}, {d_sae:,}"
                for name, rounds in answers.items():
                    rates = [steps * batch_size / answer["seconds"] for answer in rounds]
                    series.append(Series.of(group, name, "activations/s", rates))
                    if not name.startswith("floor"):
                        series.append(Series.of(f"{group}, L0", name, "features", [answer["l0"] for answer in rounds]))
                wanted += [(group, *target) for target in targets]
    return settings, series, ratios(series, wanted)


def _rounds(
    session: Session, workers: Mapping[str, Worker], part: str, recipe: dict, steps: int, activations: str
) -> dict[str, list[dict]]:
    """From a dictionary, a round continues the one before; without one, each round begins a new run."""
    steady = recipe["dictionary"] is not None

    def ask(name: str, round_: int) -> dict:
        own = {**recipe, "bf16": CONTENDERS[name][2]}
        first, fresh = (round_ * steps, round_ == 0) if steady else (0, True)
        return workers[name].ask("time", recipe=own, activations=activations, first=first, steps=steps, fresh=fresh)

    settings = {"recipe": recipe, "steps": steps, "contenders": list(workers)}
    return session.part(part, settings, lambda: session.take_turns(workers, ask))
