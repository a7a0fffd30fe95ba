"""From tokens to a finished dictionary: `sae-core train` against SAELens' runner, on the same model and text.

Both start with the text as tokens, load the model, harvest, train and save. Each has the buffer that its documentation
recommends: ours mixes two million activations, which are harvested before the first step, SAELens' mixes 16,384.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import data
from results import Ratio, Series
from session import Session

from sae_core.autoencoder import bf16_is_fast
from sae_core.errors import SaeCoreError
from sae_core.recipe import TrainConfig

GROUP = "end to end"
TARGET = 3.0


def measure(session: Session) -> tuple[dict, list[Series], list[Ratio]]:
    batch_size, steps = session.size(quick=256, full=data.BATCH), session.size(quick=20, full=488)
    d_sae = session.size(quick=256, full=4096)
    common = {"steps": steps, "batch_size": batch_size, "d_sae": d_sae, "lam": data.LAMBDA, "lr": 1e-3}
    buffer_rows = session.size(quick=1 << 15, full=TrainConfig().buffer_rows)
    settings = {**common, "activations": steps * batch_size, "buffer_rows": buffer_rows, "their_buffer_rows": 64 * 256}
    for split in ("train", "validation"):
        data.contexts(split)  # tokens are there before anybody starts

    contenders: dict[str, Callable[[], dict]] = {"sae_core": lambda: _ours(session, common, buffer_rows)}
    if session.peers:
        ids = str(data.stored_ids(session.work, 2 * steps * batch_size // data.model().n_ctx + 64))
        settings["largest difference of activations"] = _check(session, ids)
        contenders["SAELens fp32"] = lambda: _saelens(session, common, ids, bf16=False)
        if bf16_is_fast():  # elsewhere autocast is slower than fp32, and nobody would ask for it
            contenders["SAELens bf16"] = lambda: _saelens(session, common, ids, bf16=True)

    answers = {name: [] for name in contenders}
    for round_ in range(session.rounds):
        for name, run in contenders.items():
            part = f"end_to_end/{name.replace(' ', '-')}-{round_}"
            answers[name].append(session.part(part, settings, run))

    series = []
    for name, rounds in answers.items():
        shares = [answer["forward_seconds"] / answer["seconds"] for answer in rounds]
        series.append(Series.of(GROUP, name, "seconds", [answer["seconds"] for answer in rounds]))
        series.append(Series.of("share of the model's forward passes", name, "", shares))
        series.append(Series.of("L0 at the end", name, "features", [answer["l0"] for answer in rounds]))
    speedups = [
        Ratio.of(
            GROUP,
            f"speed, sae_core / {name}",
            [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(answers["sae_core"], rounds, strict=True)],
            TARGET,
        )
        for name, rounds in answers.items()
        if name != "sae_core"
    ]
    return settings, series, speedups


def _ours(session: Session, common: dict, buffer_rows: int) -> dict:
    out = session.work / "end_to_end"
    shutil.rmtree(out, ignore_errors=True)  # a finished run would be continued, in no time
    with session.worker("runner_ours") as worker:
        return worker.ask("run", out=str(out), text=data.text_argument(), buffer_rows=buffer_rows, **common)


def _saelens(session: Session, common: dict, ids: str, bf16: bool) -> dict:
    out, model = str(session.work / "end_to_end_saelens"), str(data.model().folder)
    with session.worker("runner_saelens", "saelens") as worker:
        return worker.ask("run", model=model, ids=ids, out=out, bf16=bf16, **common)


def _check(session: Session, ids: str) -> float:
    """The largest difference between SAELens' activations and ours. Raises SaeCoreError where it exceeds 1e-4."""
    reference = str(data.reference_activations(session.work, ids, n_contexts=8))
    with session.worker("runner_saelens", "saelens") as worker:
        answer = worker.ask("check", model=str(data.model().folder), ids=ids, activations=reference)
    if answer["difference"] > 1e-4:
        raise SaeCoreError(f"end_to_end: SAELens' activations differ from ours by {answer['difference']:.2g}")
    return answer["difference"]
