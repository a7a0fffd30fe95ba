"""Verdicts: the bars that chapters show are those of claims.yml, and records have the names that it explains."""

import random
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from sae_core import chapter
from sae_core.verdicts import STEPS, Verdicts, outcome

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
claims, clauses = import_module("claims"), import_module("clauses")

ROWS = {row.id: row for row in claims.load(ROOT / "claims.yml")}
CONTEXTS = ("arabic", "hebrew", "dna", "base64")
VALUES = (
    -1, -0.2, -0.01, 0, 0.01, 0.05, 0.2, 0.29, 0.3, 0.31, 0.5, 0.55,
    0.6, 0.79, 0.8, 0.9, 1, 2, 3, 14, 15, 49, 50, 99, 100,
)  # fmt: skip


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("id", STEPS)
def test_bars_are_those_of_the_claims_table(id, name):
    prefix = f"{name}_"
    bar = [clause for clause in ROWS[id].bar if all(used.startswith(prefix) for used in clauses.names(clause))]
    if not bar:
        assert (id, name) == ("A17", "dna")  # the paper describes no complement for DNA
        return
    draw = random.Random(id + name)
    seen = set()
    for _ in range(2000):
        numbers = {name: draw.choice(VALUES) for name in STEPS[id].names}
        expected = clauses.decide(bar, {prefix + name: value for name, value in numbers.items()})
        assert outcome(id, SimpleNamespace(**numbers), name) == expected
        seen.add(expected)
    assert {"replicated", "contradicted"} <= seen


@pytest.mark.parametrize("id", STEPS)
def test_recorded_names_are_those_that_the_table_explains(id):
    assert {f"hebrew_{name}" for name in STEPS[id].names} == {n for n in ROWS[id].names if n.startswith("hebrew_")}


def test_a_result_is_recorded_under_the_name_of_its_context(monkeypatch):
    recorded = []
    monkeypatch.setattr(chapter, "claim", lambda id, **record: recorded.append((id, record)))
    found = SimpleNamespace(twin_correlation=0.9, twin_logit_correlation=float("nan"))
    verdicts = Verdicts("dna", "pocket", page="features/dna")
    verdicts.record("A22", found, "fig-dna-twin")
    assert recorded == [("A22", {"where": "features/dna#fig-dna-twin", "text": "pocket", "dna_twin_correlation": 0.9})]
    rows = verdicts.rows({"A22": "0.92"})
    assert len(rows) == len(STEPS)
    assert rows[-1] == ("5 universality", "0.92", "correlation 0.90, of the logit weights nan", "replicated")
    assert rows[0] == ("1 specificity", "–", "–", "not attempted")


def test_without_a_page_nothing_is_recorded(monkeypatch):
    monkeypatch.setattr(chapter, "claim", lambda *_, **__: pytest.fail("recorded"))
    Verdicts("anything", "pocket").record("A22", SimpleNamespace(twin_correlation=0.9), "fig")
