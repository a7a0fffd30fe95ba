"""Activations per second out of the language model, in several ways that must give the same numbers."""

from __future__ import annotations

import data
from results import Ratio, Series, ratios
from session import Session

from sae_core.errors import SaeCoreError

ROUNDED = "ours, bf16"  # three digits instead of seven, by design; the others must agree with ours to 1e-4
WAYS = ("ours", "network", "body", "bridge", "bridge, one hook", "bridge, stopped", ROUNDED)


def measure(session: Session) -> tuple[dict, list[Series], list[Ratio]]:
    settings = {"contexts": 32, "chunks": session.size(quick=2, full=16)}
    ids = str(data.stored_ids(session.work, session.size(quick=64, full=4096)))

    with session.workers(dict.fromkeys(WAYS, ("harvest_ours", None))) as workers:

        def ask(way: str, round_: int) -> dict:
            answer = workers[way].ask("measure", way=way, ids=ids, first=round_ * settings["chunks"], **settings)
            if way != ROUNDED and answer["difference"] > 1e-4:
                raise SaeCoreError(f"harvest: {way} differs from ours by {answer['difference']:.2g}")
            return answer

        answers = session.part("harvest/ways", settings, lambda: session.take_turns(WAYS, ask))
    group = "harvest"
    series = [
        Series.of(group, way, "activations/s", [answer["activations"] / answer["seconds"] for answer in rounds])
        for way, rounds in answers.items()
    ]
    series += [
        Series.of("largest difference from ours", way, "", [answer["difference"] for answer in rounds])
        for way, rounds in answers.items()
    ]
    targets = {"bridge": 5.0, "network": 0.85}
    others = [way for way in WAYS if way not in ("ours", ROUNDED)]
    return settings, series, ratios(series, [(group, "ours", way, targets.get(way)) for way in others])
