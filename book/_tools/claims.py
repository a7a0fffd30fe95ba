"""The claims table, claims.yml: read it, check it, and write a run's numbers into it.

    python book/_tools/claims.py check      is the table well formed, do all outcomes follow from their numbers?
    python book/_tools/claims.py collect    write what the last build recorded on mini-pile into the table

The chapters record numbers with `sae_core.chapter.claim`; claims_page.py makes the page that shows the table.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clauses
import yaml

TABLE = Path(__file__).resolve().parents[2] / "claims.yml"
KEYS = ["id", "claim", "source", "source_value", "bar", "measured", "text", "outcome", "where"]
OUTCOMES = ["replicated", "partly", "contradicted", "not attempted"]
COMMITTED_TEXTS = ["mini-pile", "synthetic"]  # a run on another text is shown on the page and never committed


class ClaimsError(ValueError):
    """One line about the row and the key that are wrong."""


@dataclass(frozen=True)
class Claim:
    """A row. `meanings` pairs the names in its comments, as written there, with what they mean."""

    id: str
    claim: str
    source: str
    source_value: str
    bar: list[str]
    measured: dict[str, float] | None
    text: str | None
    outcome: str
    where: list[str] | None
    meanings: list[tuple[str, str]]

    @property
    def names(self) -> list[str]:
        return [name for written, _ in self.meanings for name in expand(written)]


@dataclass(frozen=True)
class Run:
    """What the chapters of one run recorded for one row."""

    measured: dict[str, float]
    text: str
    mode: str
    where: list[str]


# --- the table ----------------------------------------------------------------------------------------------


def load(table: Path = TABLE) -> list[Claim]:
    """The rows; ClaimsError unless the table is well formed and every outcome follows from its numbers."""
    claims = parse(table.read_text(encoding="utf-8"))
    for claim in claims:
        outcome = clauses.decide(claim.bar, claim.measured or {})
        if claim.outcome != outcome:
            raise ClaimsError(f"row {claim.id}: outcome is {claim.outcome!r}, its numbers say {outcome!r}")
    return claims


def parse(source: str) -> list[Claim]:
    """The rows of a table's text, checked for form only."""
    try:
        rows = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise ClaimsError(f"the table is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(rows, list):
        raise ClaimsError("the table is not a list of rows")
    meanings = _meanings(source)
    claims = [_claim(number, row, meanings) for number, row in enumerate(rows, start=1)]
    ids = [claim.id for claim in claims]
    for id in ids:
        if ids.count(id) > 1:
            raise ClaimsError(f"row {id}: id is there more than once")
    return claims


def expand(written: str) -> list[str]:
    """The names that a comment's `{a,b}_x` stands for: a_x and b_x."""
    braces = re.fullmatch(r"(\w*)\{([\w,]+)\}(\w*)", written)
    if not braces:
        return [written]
    before, choices, after = braces.groups()
    return [before + choice + after for choice in choices.split(",")]


def _meanings(source: str) -> dict[str, list[tuple[str, str]]]:
    """Every row's comments `# name: meaning`; one that is indented further goes on with the one before."""
    meanings: dict[str, list[tuple[str, str]]] = {}
    row: list[tuple[str, str]] = []
    for line in source.splitlines():
        if start := re.fullmatch(r"- id: (\S+)", line):
            row = meanings.setdefault(start[1], [])
        elif comment := re.fullmatch(r"  # ([\w{},]+): (.+)", line):
            row.append((comment[1], comment[2]))
        elif (more := re.fullmatch(r"  #   +(.+)", line)) and row:
            name, meaning = row[-1]
            row[-1] = (name, f"{meaning} {more[1]}")
    return meanings


def _claim(number: int, row: Any, meanings: Mapping[str, list[tuple[str, str]]]) -> Claim:
    if not isinstance(row, dict) or not re.fullmatch(r"[A-Z][1-9][0-9]*", str(row.get("id"))):
        raise ClaimsError(f"row number {number}: id is missing or does not look like 'A12'")

    def require(condition: object, key: str, message: str) -> None:
        if not condition:
            raise ClaimsError(f"row {row['id']}: {key} {message}")

    for key in KEYS:
        require(key in row, key, "is missing")
    for key in row:
        require(key in KEYS, key, "is not a key of the table")
    require(list(row) == KEYS, "keys", f"are not in the order {', '.join(KEYS)}")
    for key in ("claim", "source", "source_value"):
        require(isinstance(row[key], str) and row[key].strip(), key, "is not a line of text")
    claim = Claim(**row, meanings=meanings.get(row["id"], []))
    require(len(claim.names) == len(set(claim.names)), "comments", "explain a name twice")

    require(isinstance(claim.bar, list) and claim.bar, "bar", "is not a list of clauses")
    for clause in claim.bar:
        require(isinstance(clause, str), "bar", f"has {clause!r}, which is not a clause")
        try:
            unexplained = [name for name in clauses.names(clause) if name not in claim.names]
        except clauses.ClauseError as error:
            raise ClaimsError(f"row {claim.id}: bar: {error}") from None
        require(not unexplained, "bar", f"uses {', '.join(unexplained)}, which no comment explains")

    require(claim.outcome in OUTCOMES, "outcome", f"is {claim.outcome!r}, not one of {', '.join(OUTCOMES)}")
    if claim.measured is None:
        require(claim.text is None, "text", "is given, but nothing is measured")
        require(claim.where is None, "where", "is given, but nothing is measured")
        return claim
    require(isinstance(claim.measured, dict) and claim.measured, "measured", "is not a mapping")
    for name, value in claim.measured.items():
        require(name in claim.names, "measured", f"has {name}, which no comment explains")
        number_like = type(value) in (int, float) and math.isfinite(value)
        require(number_like, "measured", f"has {value!r} for {name}, which is not a finite number")
    require(isinstance(claim.text, str) and claim.text, "text", "does not name the text measured on")
    require(isinstance(claim.where, list) and claim.where, "where", "is not a list of places")
    for place in claim.where:
        require(re.fullmatch(r"[\w/-]+#[\w-]+", str(place)), "where", f"has {place!r}, not page#label")
    return claim


# --- a run's numbers ----------------------------------------------------------------------------------------


def combine(records: Iterable[Mapping[str, Any]]) -> Run:
    """One row's records as one run: those of the latest text and mode, and the latest value of every name."""
    ordered = sorted(records, key=lambda record: record["time"])
    text, mode = ordered[-1]["text"], ordered[-1]["mode"]
    together = [record for record in ordered if (record["text"], record["mode"]) == (text, mode)]
    measured = {name: value for record in together for name, value in record["measured"].items()}
    return Run(measured, text, mode, where=sorted({record["where"] for record in together}))


def group(records: Iterable[Mapping[str, Any]], claims: Iterable[Claim]) -> dict[str, Run]:
    """Every recorded row's run; ClaimsError for a record of a row or a name that the table does not have."""
    names = {claim.id: claim.names for claim in claims}
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        id, where = record["id"], record["where"]
        if id not in names:
            raise ClaimsError(f"{where} records {id}, which is no row of claims.yml")
        unexplained = [name for name in record["measured"] if name not in names[id]]
        if unexplained:
            raise ClaimsError(f"{where} records {', '.join(unexplained)}, which row {id} does not explain")
        by_id.setdefault(id, []).append(record)
    return {id: combine(several) for id, several in by_id.items()}


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records in a folder of `<id>.json` files, as `sae_core.chapter.claim` writes them."""
    return [record for file in sorted(folder.glob("*.json")) for record in json.loads(file.read_bytes())]


def fill(source: str, runs: Mapping[str, Run]) -> str:
    """The table's text with the runs' numbers and every outcome decided; all else as it was."""
    claims = {claim.id: claim for claim in parse(source)}
    lines: list[str] = []
    claim: Claim | None = None
    in_results = False
    for line in source.splitlines():
        if start := re.fullmatch(r"- id: (\S+)", line):
            claim = claims[start[1]]
        if claim and line.startswith("  measured:"):  # a run writes this key and the rest of the row
            lines += _results(claim, runs.get(claim.id))
            in_results = True
        elif not line.startswith("  "):
            in_results = False
        if not in_results:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _results(claim: Claim, run: Run | None) -> list[str]:
    measured, text, where = claim.measured, claim.text, claim.where
    if run:
        measured = {name: run.measured[name] for name in claim.names if name in run.measured}
        text, where = run.text, run.where
    outcome = clauses.decide(claim.bar, measured or {})
    results = {"measured": measured, "text": text, "outcome": outcome, "where": where}
    return [f"  {line}" for line in yaml.safe_dump(results, sort_keys=False).splitlines()]


def collect(table: Path, folder: Path) -> dict[str, str]:
    """Write a folder's records into the table; returns the outcome of every row that was recorded.

    Raises ClaimsError, and writes nothing, if there is no record or one on a text that is not committed.
    """
    source = table.read_text(encoding="utf-8")
    runs = group(read_records(folder), parse(source))
    if not runs:
        raise ClaimsError(f"no records in {folder}; build the book first")
    others = [f"{id} on {run.text}" for id, run in runs.items() if run.text not in COMMITTED_TEXTS]
    if others:
        raise ClaimsError(f"only a run on mini-pile is committed, and this one measured {', '.join(others)}")
    filled = fill(source, runs)
    outcomes = {claim.id: claim.outcome for claim in parse(filled)}
    part = table.with_suffix(".part")
    part.write_text(filled, encoding="utf-8")
    os.replace(part, table)
    return {id: outcomes[id] for id in runs}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check the claims table, or fill it from the last build.")
    parser.add_argument("command", choices=["check", "collect"])
    command = parser.parse_args(arguments).command
    try:
        if command == "check":
            print(f"{len(load())} rows; every outcome follows from its numbers")
        else:
            from sae_core.chapter import claims_folder

            for id, outcome in collect(TABLE, claims_folder()).items():
                print(f"{id}: {outcome}")
    except ClaimsError as error:
        print(f"claims: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
