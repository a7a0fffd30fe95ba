"""One run of the benchmarks: its sizes, its workers, and the parts that are done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from environments import DISTRIBUTIONS, HERE, Worker

T = TypeVar("T")

WORK = HERE / ".work"


@dataclass(frozen=True)
class Session:
    quick: bool  # toy sizes, to see that everything runs
    ours_only: bool  # no peer and no environment of theirs
    rounds: int
    threads: int
    work: Path = WORK

    @property
    def peers(self) -> list[str]:
        return [] if self.ours_only else list(DISTRIBUTIONS)

    def size(self, *, quick: T, full: T) -> T:
        return quick if self.quick else full

    def worker(self, script: str, peer: str | None = None) -> Worker:
        return Worker(script, peer, self.threads)

    def part(self, name: str, settings: Mapping[str, Any], measure: Callable[[], Any]) -> Any:
        """The result of one part of a measurement, which a run that was stopped does not repeat.

        What `measure` returns is kept as JSON until the whole measurement is written; other settings, other part.
        """
        settings = {"rounds": self.rounds, "threads": self.threads, **settings}
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        path = self.work / "parts" / f"{name}-{key}.json"
        if not path.exists():
            print(f"   {name.replace('/', ', ')}", flush=True)
            found = measure()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found))
        return json.loads(path.read_text())

    def forget_parts(self, measurement: str) -> None:
        shutil.rmtree(self.work / "parts" / measurement, ignore_errors=True)

    @contextmanager
    def workers(self, contenders: Mapping[str, tuple[str, str | None]]) -> Iterator[dict[str, Worker]]:
        """A worker for each contender's script and environment, by the contender's name; all end with the context."""
        with ExitStack() as alive:
            yield {name: alive.enter_context(self.worker(*where)) for name, where in contenders.items()}

    def take_turns(self, names: Iterable[str], ask: Callable[[str, int], dict]) -> dict[str, list[dict]]:
        """Answers of every contender, once a round: A B C, A B C, and so on.

        ask: has a contender, by its name, do its share of a round. Round 0 warms up and is not counted.
        """
        answers = {name: [] for name in names}
        for round_ in range(self.rounds + 1):
            for name, counted in answers.items():
                answer = ask(name, round_)
                if round_ > 0:
                    counted.append(answer)
        return answers
