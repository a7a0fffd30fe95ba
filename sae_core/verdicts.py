"""Verdicts of a case study: its results go into the claims table and against the claims' bars.

The bars stand in claims.yml, set before anything was measured. They are here as well, because a chapter that runs
outside of the repository has no such file; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import chapter


class Step(NamedTuple):
    """A claim that every case study tests."""

    title: str
    names: tuple[str, ...]  # of the numbers that are recorded: fields of the result
    shown: str  # how they are written in the table of verdicts
    bar: Callable[[Any, str], list[bool]]  # which clauses a result meets; the text is the context's name
    given: Callable[[Any], list[bool]] = lambda found: []  # which conditions of measuring well it meets


# Correlations with the proxy (claim A16), for contexts that are no script.
LEAST_CORRELATION = {"dna": 0.6, "base64": 0.3}


def _sensitive(found: Any, name: str) -> list[bool]:
    # For DNA the paper makes the proxy binary, so the correlation with its sign is the one that counts.
    correlations = [found.correlation_sign] if name == "dna" else [found.correlation, found.correlation_sign]
    return [min(correlations) >= LEAST_CORRELATION.get(name, 0.5)]


STEPS: dict[str, Step] = {
    "A15": Step(
        "1 specificity",
        (
            "mass_in_context", "lift", "active_in_context", "weakest_in_context", "strongest_in_context", "base_rate",
            "tokens",
        ),
        "{active_in_context:.0%} of active tokens, {mass_in_context:.0%} of the activation, lift {lift:.0f}",
        lambda found, _: [found.mass_in_context >= 0.8, found.lift >= 50],
    ),
    "A16": Step(
        "2 sensitivity",
        ("correlation", "correlation_sign", "recall", "tokens"),
        "correlation {correlation:.2f}, with the sign {correlation_sign:.2f}, recall {recall:.0%}",
        _sensitive,
    ),
    "A17": Step(
        "2 other features in the gaps",
        ("recall", "union_recall", "complements"),
        "recall from {recall:.0%} to {union_recall:.0%} with {complements} more",
        lambda found, _: [found.union_recall - found.recall >= 0.1],
    ),
    "A18": Step(
        "3 logit weights",
        ("logit_auc", "top20_in_context"),
        "AUC {logit_auc:.3f}, {top20_in_context} of the top 20",
        lambda found, _: [found.logit_auc >= 0.9, found.top20_in_context >= 15],
    ),
    "A19": Step(
        "3 removing it",
        ("effect", "effect_upper", "effect_elsewhere", "growing_bins"),
        "{effect:+.2f} nats in context, {effect_elsewhere:+.2f} elsewhere; {growing_bins} of 5 bins grow",
        lambda found, _: [found.effect_upper < min(0, found.effect_elsewhere), found.growing_bins >= 3],
    ),
    "A20": Step(
        "3 pinning it",
        ("samples", "pinned_share", "unpinned_share", "dose_correlation"),
        "{pinned_share:.0%} of the characters, {unpinned_share:.1%} without",
        lambda found, _: [found.pinned_share >= 0.5, found.dose_correlation > 0],
        lambda found: [found.samples >= 100, found.unpinned_share < 0.02],
    ),
    "A21": Step(
        "4 not a neuron",
        (
            "best_neuron_correlation", "auc", "best_neuron_auc", "neuron_examples", "large_coefficients",
            "negative_top3",
        ),
        "best correlation {best_neuron_correlation:.2f}, AUC {auc:.2f}, best neuron's {best_neuron_auc:.2f}",
        lambda found, _: [found.best_neuron_correlation <= 0.3, found.auc - found.best_neuron_auc >= 0.1],
    ),
    "A22": Step(
        "5 universality",
        ("twin_correlation", "twin_logit_correlation"),
        "correlation {twin_correlation:.2f}, of the logit weights {twin_logit_correlation:.2f}",
        lambda found, _: [found.twin_correlation >= 0.8],
    ),
}  # fmt: skip


def outcome(id: str, found: Any, name: str = "") -> str:
    """"replicated", "partly" or "contradicted": whether a result meets all, some or none of the clauses of a bar.

    Conditions of measuring well belong to "replicated", and are no finding by themselves.
    """
    holds = STEPS[id].bar(found, name)
    if all(holds) and all(STEPS[id].given(found)):
        return "replicated"
    return "partly" if any(holds) else "contradicted"


class Verdicts:
    """Collects the results of one case study, and records each as it comes.

    name: of the context, as claims.yml has it ("arabic"). page: of the chapter, below book/; "" records nothing.
    text: the name of the text measured on.
    """

    def __init__(self, name: str, text: str, page: str = ""):
        self.name, self.text, self.page = name, text, page
        self.found: dict[str, Any] = {}

    def record(self, id: str, result: Any, figure: str) -> None:
        """Keep a result, and put its numbers into the claims table, where they begin with the context's name.

        A number that does not exist (the effect before tokens that never came) is left out, and its clause fails.
        figure: label of the figure that shows it.
        """
        self.found[id] = result
        if self.page:
            numbers = {f"{self.name}_{name}": getattr(result, name) for name in STEPS[id].names}
            finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
            chapter.claim(id, where=f"{self.page}#{figure}", text=self.text, **finite)

    def rows(self, paper: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
        """(claim, what the paper found, what we found, outcome), for a table. paper: its findings by claim."""
        return [
            (
                step.title,
                paper.get(id, "–"),
                step.shown.format_map(_Fields(self.found[id])) if id in self.found else "–",
                outcome(id, self.found[id], self.name) if id in self.found else "not attempted",
            )
            for id, step in STEPS.items()
        ]


class _Fields(dict):
    """The attributes of an object as a mapping, for str.format_map."""

    def __init__(self, of: Any):
        self.of = of

    def __getitem__(self, name: str) -> Any:
        return getattr(self.of, name)
