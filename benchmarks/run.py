"""`make bench`: measure sae_core beside SAELens, dictionary_learning and sparsify, and write `results/*.json`.

One file for each measurement: `step`, `harvest`, `end_to_end`, `memory`, `quality`. Each can be stopped, and continues
with what it had not finished. The book's page on benchmarks says what is measured and what came out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import environments
import results
import torch
from session import WORK, Session

from sae_core.cards import commit
from sae_core.corpus import open_corpus
from sae_core.errors import SaeCoreError

MEASUREMENTS = ("step", "harvest", "end_to_end", "memory", "quality")
NEEDS_PEERS = ("step", "end_to_end", "quality")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that everything runs")
    parser.add_argument("--ours-only", action="store_true", help="no peers, and no environments for them")
    parser.add_argument("--rounds", type=int, help="how often the contenders take turns (default: 5, quick: 2)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results, not if quick)")
    options = parser.parse_args(arguments)
    session = Session(
        quick=options.quick,
        ours_only=options.ours_only,
        rounds=options.rounds or (2 if options.quick else 5),
        threads=options.threads,
        work=WORK / "quick" if options.quick else WORK,
    )
    out = options.out or (session.work / "results" if session.quick else results.FOLDER)
    torch.set_num_threads(options.threads)
    try:
        for name in options.only:
            measure(name, session, out)
    except SaeCoreError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def measure(name: str, session: Session, out: Path) -> None:
    """Run one measurement and write its result."""
    peers = session.peers if name in NEEDS_PEERS else []
    for peer in peers:
        environments.install(peer)
    print(f"== {name}", flush=True)
    settings, series, ratios = importlib.import_module(name).measure(session)
    result = results.Result(
        measurement=name,
        quick=session.quick,
        date=results.now(),
        commit=commit(),
        machine=results.machine(session.threads),
        versions=environments.versions(peers),
        text=open_corpus().name,
        settings={"rounds": session.rounds, **settings},
        series=series,
        ratios=ratios,
    )
    path = results.write(result, out)
    session.forget_parts(name)
    for ratio in ratios:
        verdict = {True: "met", False: "MISSED", None: ""}[ratio.met]
        target = "" if ratio.target is None else f"{'≥' if ratio.at_least else '≤'} {ratio.target:g} {verdict}"
        print(f"   {ratio.group:22} {ratio.name:50} {ratio.median:8.3g}  {target}")
    print(f"   written to {os.path.relpath(path)}")


if __name__ == "__main__":
    sys.exit(main())
