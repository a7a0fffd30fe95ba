"""What a measurement leaves behind: series over rounds, ratios of them with their targets, and where it was made.

One JSON file for each measurement in `results/`. The book's page reads them with `load`, which refuses a file that
lacks a field.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path

from sae_core.cards import processor
from sae_core.errors import SaeCoreError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).parent / "results"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile; of a single value, that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


@dataclass(frozen=True)
class Series:
    """One quantity of one contender, once a round."""

    group: str  # what is compared: a size, a phase
    name: str  # the contender
    unit: str
    values: list[float]
    median: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, group: str, name: str, unit: str, values: Sequence[float]) -> Series:
        return cls(group, name, unit, list(values), statistics.median(values), quartiles(values))


@dataclass(frozen=True)
class Ratio:
    """Two series of a group, divided (or, for shares and losses, subtracted) round by round, against a target."""

    group: str
    name: str
    values: list[float]
    median: float
    quartiles: tuple[float, float]
    target: float | None  # None: no target was set before measuring
    at_least: bool  # the target is a lower bound; otherwise an upper one

    @classmethod
    def of(
        cls, group: str, name: str, values: Sequence[float], target: float | None = None, at_least: bool = True
    ) -> Ratio:
        return cls(group, name, list(values), statistics.median(values), quartiles(values), target, at_least)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None where there is no target."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target


@dataclass(frozen=True)
class Result:
    """One measurement."""

    measurement: str
    quick: bool  # a smoke run at toy sizes, no measurement to quote
    date: str
    commit: str
    machine: dict[str, str | int | float]  # cpu, cores, threads, memory_gb, system
    versions: dict[str, str]
    text: str
    settings: dict
    series: list[Series]
    ratios: list[Ratio] = field(default_factory=list)

    def ratio(self, group: str, name: str) -> Ratio:
        """The ratio of that group and name. Raises SaeCoreError that lists those there are."""
        for ratio in self.ratios:
            if (ratio.group, ratio.name) == (group, name):
                return ratio
        known = "; ".join(f"{ratio.group}: {ratio.name}" for ratio in self.ratios)
        raise SaeCoreError(f"{self.measurement}: no ratio {name!r} in {group!r}; there is {known}")


def ratios(series: Sequence[Series], wanted: Sequence[tuple[str, str, str, float | None]]) -> list[Ratio]:
    """Quotients of series. wanted: (group, numerator, denominator, target); left out where a contender is missing."""
    values = {(one.group, one.name): one.values for one in series}
    found = []
    for group, ours, theirs, target in wanted:
        if (group, ours) in values and (group, theirs) in values:
            pairs = zip(values[group, ours], values[group, theirs], strict=True)
            found.append(Ratio.of(group, f"{ours} / {theirs}", [a / b for a, b in pairs], target))
    return found


def write(result: Result, folder: Path = FOLDER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.measurement}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(result), indent=1) + "\n")
    os.replace(partial, path)
    return path


def load(measurement: str, folder: Path = FOLDER) -> Result:
    """Read one result. Raises SaeCoreError for a file that is missing, damaged, or lacks a field."""
    path = folder / f"{measurement}.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SaeCoreError(f"{path}: no result to read ({error}); make bench ONLY={measurement} writes it") from None
    for name, kind in (("series", Series), ("ratios", Ratio)):
        if name in record:
            record[name] = [_build(kind, entry, path) for entry in record[name]]
    result = _build(Result, record, path)
    for key in ("cpu", "cores", "threads", "memory_gb", "system"):
        if key not in result.machine:
            raise SaeCoreError(f"{path}: machine lacks the field {key!r}; make bench ONLY={measurement} writes it anew")
    if not result.series:
        raise SaeCoreError(f"{path}: holds no series; make bench ONLY={measurement} writes it anew")
    return result


def _build(kind: type, record: dict, path: Path):
    names = {one.name for one in fields(kind)}
    for problem, found in (("lacks", names - set(record)), ("has the unknown", set(record) - names)):
        if found:
            what = f"a {kind.__name__.lower()} {problem} field {min(found)!r}"
            raise SaeCoreError(f"{path}: {what}; make bench writes the file anew")
    return kind(**record)


def machine(threads: int) -> dict[str, str | int | float]:
    """Where a measurement is made, without its name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": processor(),
        "cores": cores,
        "threads": threads,
        "memory_gb": round(memory / 2**30, 1),
        "system": platform.system(),
    }


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
