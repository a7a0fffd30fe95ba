"""Peak memory: of the shuffling buffer against its stated size, and of a run that is ten times as long as another."""

from __future__ import annotations

import shutil

import data
from results import Ratio, Series
from session import Session

BUFFER_LIMIT = 1.05  # peak over stated size
GROWTH_LIMIT = 0.05  # by which ten times as many activations may raise the peak


def measure(session: Session) -> tuple[dict, list[Series], list[Ratio]]:
    buffer = {"n_rows": session.size(quick=1 << 17, full=1 << 21), "d_in": 512, "batch_size": data.BATCH}
    with session.worker("memory_ours") as worker:
        filled = worker.ask("buffer", **buffer)

    # A small dictionary, so that the long run takes minutes: what could grow does not depend on its size.
    run = {"batch_size": data.BATCH, "d_sae": session.size(quick=32, full=256), "buffer_rows": 1 << 16}
    short = session.size(quick=20, full=4883)  # 20 million activations
    ids = str(data.stored_ids(session.work, session.size(quick=64, full=20_000)))
    peaks = {}
    for steps in (short, 10 * short):
        part = f"memory/{steps}-steps"
        peaks[steps] = session.part(part, {**run, "steps": steps}, lambda steps=steps: _train(session, ids, steps, run))

    series = [
        Series.of("buffer", "stated size", "bytes", [filled["stated"]]),
        Series.of("buffer", "peak", "bytes", [filled["bytes"]]),
    ]
    for steps, peak in peaks.items():
        series.append(Series.of("training", f"{steps * data.BATCH:,} activations", "bytes", [peak["bytes"]]))
    growth = peaks[10 * short]["bytes"] / peaks[short]["bytes"] - 1
    limits = [
        Ratio.of("buffer", "peak / stated size", [filled["bytes"] / filled["stated"]], BUFFER_LIMIT, at_least=False),
        Ratio.of("training", "growth with ten times the activations", [growth], GROWTH_LIMIT, at_least=False),
    ]
    settings = {"buffer": buffer, "training": run, "steps": [short, 10 * short]}
    return settings, series, limits


def _train(session: Session, ids: str, steps: int, run: dict) -> dict:
    out = session.work / "memory"
    shutil.rmtree(out, ignore_errors=True)
    with session.worker("memory_ours") as worker:
        return worker.ask("training", out=str(out), ids=ids, steps=steps, **run)
