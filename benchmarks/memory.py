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

    # A small dictionary, so that the long runs take minutes: what could grow does not depend on its size. With the
    # language model at work in the same process, and without it ten times as far.
    run = {"batch_size": data.BATCH, "d_sae": session.size(quick=32, full=64), "buffer_rows": 1 << 16}
    ids = str(data.stored_ids(session.work, session.size(quick=64, full=20_000)))
    short = {"harvesting": session.size(quick=10, full=488), "stored activations": session.size(quick=20, full=4883)}
    # Peaks of equal runs differ by some 5 %, so each length runs several times, in turns. The longest take an hour.
    turns = {"harvesting": session.size(quick=1, full=3), "stored activations": session.size(quick=1, full=2)}
    peaks: dict[str, tuple[list[int], list[int]]] = {}
    for source, least in short.items():
        peaks[source] = ([], [])
        for turn in range(turns[source]):
            for steps, found in zip((least, 10 * least), peaks[source], strict=True):
                part = {**run, "steps": steps, "ids": ids if source == "harvesting" else None}
                name = f"memory/{source.split()[0]}-{steps}-{turn}"
                found.append(session.part(name, part, lambda part=part: _train(session, part))["bytes"])

    series = [
        Series.of("buffer", "stated size", "bytes", [filled["stated"]]),
        Series.of("buffer", "peak", "bytes", [filled["bytes"]]),
    ]
    limits = [
        Ratio.of("buffer", "peak / stated size", [filled["bytes"] / filled["stated"]], BUFFER_LIMIT, at_least=False)
    ]
    for source, (less, more) in peaks.items():
        n_rows = short[source] * data.BATCH
        series.append(Series.of(source, f"{n_rows:,} activations", "bytes", less))
        series.append(Series.of(source, f"{10 * n_rows:,} activations", "bytes", more))
        growth = f"growth from {n_rows:,} activations to ten times that"
        grown = [long / brief - 1 for brief, long in zip(less, more, strict=True)]
        limits.append(Ratio.of(source, growth, grown, GROWTH_LIMIT, at_least=False))
    settings = {"buffer": buffer, "training": run, "steps": short}
    return settings, series, limits


def _train(session: Session, run: dict) -> dict:
    out = session.work / "memory"
    shutil.rmtree(out, ignore_errors=True)
    with session.worker("memory_ours") as worker:
        return worker.ask("training", out=str(out), **run)
