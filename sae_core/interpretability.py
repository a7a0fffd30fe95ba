"""Interpretability, measured: does an explanation written from some examples predict the activations on others?

The paper's protocol (appendix "Automated Interpretability") in four steps, for features and neurons alike:

1.  protocol   nine-token windows, some to write an explanation from and others, of other contexts, to score it on
2.  explain    an explanation: rules (`rule_explainer`) or the words of a language model (`language_explainer`)
3.  simulate   what the explanation expects on every token of the held-out windows
4.  score      Spearman's correlation of that with the true activations, in ten steps

This file has the first and the last, and the paper's second task: which tokens does a unit promote?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from .autoencoder import SparseAutoencoder
from .errors import SaeCoreError
from .evidence import Evidence
from .metrics import auc, rank_correlation

SIDE = 4  # tokens on either side of the one that a window was chosen for (paper: nine-token examples)
LEVELS = 10  # activations are quantised to 0 ... 9 (paper)
INTERVALS = 12  # equal intervals between 0 and the maximum (paper)
ENOUGH = 20  # firings in each half of the text; units with fewer are left out (paper: 20 examples)
KINDS = ("top", "interval", "random", "same token")
EXPLAIN = (10, 2, 5, 10)  # windows of each kind to explain from; those of "interval" are for each interval (paper)
SCORE = (6, 2, 10, 20)  # and to score on (paper)
SINGLE = 20  # strongest examples that share their token if a unit is about a single token
RARE = 5  # tokens with fewer occurrences are not asked about in the logit task
SHOWN, ASKED = 10, 50  # tokens with the largest logit weights that are shown, and the ranks behind them (paper)


# --- 1. which examples ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Snippets of nine tokens with the activations of one unit (a feature or a neuron)."""

    tokens: np.ndarray  # [n, 9] ids
    activations: np.ndarray  # [n, 9]
    levels: np.ndarray  # [n, 9], the activations quantised to 0 ... 9
    kinds: np.ndarray  # [n], index into KINDS: why the window was chosen
    places: np.ndarray  # [n], of the middle token: row × n_ctx + column

    def __len__(self) -> int:
        return len(self.places)

    def of_kind(self, *kinds: str) -> Windows:
        """Those that were chosen for one of some reasons, such as "top"."""
        keep = np.isin(self.kinds, [KINDS.index(kind) for kind in kinds])
        arrays = (self.tokens, self.activations, self.levels, self.kinds, self.places)
        return Windows(*(array[keep] for array in arrays))


@dataclass(frozen=True)
class Examples:
    """What the protocol shows of a unit: windows to explain it from, and windows to score the explanation on."""

    unit: int
    largest: float  # activation on the whole text
    explain: Windows  # 49 or fewer, from the first half of the contexts
    score: Windows  # 60 or fewer, from the second half


def usable(evidence: Evidence) -> np.ndarray:
    """The units that fire often enough in both halves of a text to be explained and scored: indices, rising."""
    counts = [
        min(np.diff([0, np.searchsorted(places, _half(evidence)), len(places)]))
        for places in (evidence.of(unit)[0] for unit in range(evidence.n_features))
    ]
    return np.flatnonzero(np.array(counts) >= ENOUGH)


def protocol(
    evidence: Evidence,
    unit: int,
    seed: int = 0,
    explain: tuple[int, int, int, int] = EXPLAIN,
    score: tuple[int, int, int, int] = SCORE,
) -> Examples:
    """Draw the windows to explain a unit from and those to score it on.

    Each set holds the strongest examples, at most one of a context; random ones from equal intervals of the activation;
    random windows of the text; and the tokens of the strongest examples in other places. The first half of the contexts
    serves to explain, the second to score. An interval in which the unit is rarely active yields fewer windows.

    explain, score: how many of each kind, in the order of KINDS; "interval" counts for each interval.
    Raises SaeCoreError where the unit fires too rarely in one of the halves.
    """
    places, values = evidence.of(unit)
    rng = np.random.default_rng([seed, unit])
    half, whole = _half(evidence), evidence.contexts.ids.size
    sets = []
    for first, last, numbers in ((0, half, explain), (half, whole, score)):
        there = slice(*np.searchsorted(places, [first, last]))
        if len(places[there]) < ENOUGH:
            raise SaeCoreError(f"unit {unit} fires on {len(places[there])} tokens of one half; {ENOUGH} are needed")
        sets.append(_draw(evidence, places[there], values[there], values.max(), (first, last), numbers, rng))
    return Examples(int(unit), float(values.max()), *sets)


def quantise(activations: np.ndarray, largest: float) -> np.ndarray:
    """Activations in ten steps, 0 ... 9, of the largest: 0 is silent or below a tenth. Same shape, int."""
    return np.clip(np.floor(LEVELS * activations / largest), 0, LEVELS - 1).astype(np.int64)


def score(predicted: np.ndarray, true: np.ndarray) -> float:
    """Spearman's correlation of predicted and true levels, of any one shape; 0 where either is constant (paper)."""
    return rank_correlation(np.ravel(predicted), np.ravel(true))


def _half(evidence: Evidence) -> int:
    """The place where the second half of the contexts begins."""
    n_contexts, n_ctx = evidence.contexts.ids.shape
    return n_contexts // 2 * n_ctx


def _draw(
    evidence: Evidence,
    places: np.ndarray,
    values: np.ndarray,
    largest: float,
    span: tuple[int, int],
    numbers: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> Windows:
    """Windows of each kind around places [first, last) of a text; places, values: where the unit is active there."""
    n_ctx, flat = evidence.contexts.ids.shape[1], np.ravel(evidence.contexts.ids)
    n_top, n_interval, n_random, n_same = numbers
    chosen: list[int] = []
    kinds: list[int] = []

    def fits(candidates: np.ndarray) -> np.ndarray:
        """Those of some places around which there is a whole window, without column 0."""
        column = candidates % n_ctx
        return candidates[(column > SIDE) & (column < n_ctx - SIDE)]

    def take(kind: int, candidates: np.ndarray, n: int) -> None:
        """Choose up to n of some places at random, none of them twice."""
        enough = min(len(candidates), 4 * n + len(chosen))  # a few more, for some do not fit or are taken
        some = fits(rng.choice(candidates, enough, replace=False)).tolist()
        picked = [place for place in some if place not in chosen][:n]
        chosen.extend(picked)
        kinds.extend([kind] * len(picked))

    @cache
    def occurrences(token: int) -> np.ndarray:
        return np.flatnonzero(flat[slice(*span)] == token) + span[0]

    strongest = fits(places[np.argsort(-values, kind="stable")])
    _, first_of_context = np.unique(strongest // n_ctx, return_index=True)
    strongest = strongest[np.sort(first_of_context)]
    take(0, strongest[:n_top], n_top)
    interval = np.minimum(np.ceil(INTERVALS * values / largest) - 1, INTERVALS - 1)
    for index in range(INTERVALS):
        take(1, places[interval == index], n_interval)
    take(2, np.unique(rng.integers(*span, size=20 * (n_random + 1))), n_random)
    for number in range(n_same if len(strongest) else 0):
        take(3, occurrences(flat[strongest[number % min(len(strongest), SHOWN)]]), 1)

    around = np.array(chosen, np.int64).reshape(-1, 1) + np.arange(-SIDE, SIDE + 1)
    entry = np.minimum(np.searchsorted(places, around), len(places) - 1)
    activations = np.where(places[entry] == around, values[entry], 0.0).astype(np.float32)
    levels = quantise(activations, largest)
    return Windows(flat[around].astype(np.int64), activations, levels, np.array(kinds), np.array(chosen, np.int64))


def neurons_as_features(d_mlp: int, neurons: Sequence[int]) -> SparseAutoencoder:
    """Some neurons as a dictionary whose directions are axes, so that whatever takes a feature takes a neuron."""
    sae = SparseAutoencoder(d_mlp, len(neurons))
    axes = torch.eye(d_mlp)[torch.as_tensor(np.asarray(neurons, np.int64))]
    with torch.no_grad():
        sae.W_enc.copy_(axes.T)
        sae.W_dec.copy_(axes)
    return sae.eval()


def is_single_token(evidence: Evidence, unit: int, n: int = SINGLE) -> bool:
    """Whether the `n` strongest examples of a unit, at most one of a context, are all of one token (paper)."""
    places, values = evidence.of(unit)
    best = places[np.argsort(-values, kind="stable")]
    _, first = np.unique(best // evidence.contexts.ids.shape[1], return_index=True)
    tokens = np.ravel(evidence.contexts.ids)[best[np.sort(first)[:n]]]
    return len(tokens) > 0 and bool((tokens == tokens[0]).all())


# --- scores ---------------------------------------------------------------------------------------------------------


def interval_scores(expected: np.ndarray, windows: Windows, largest: float, at_least: int = 3) -> np.ndarray:
    """How well expected levels [n, 9] tell each interval of activation from silence: AUCs [12], lowest interval first.

    An AUC says how often more is expected on a token from the interval than on a silent one; a tie counts half. The
    silent tokens are those of the random windows and of those with the same token elsewhere. NaN where an interval has
    fewer than `at_least` windows.
    """
    controls = np.isin(windows.kinds, [KINDS.index("random"), KINDS.index("same token")])
    silent = expected[controls][windows.activations[controls] == 0]
    middle = np.ceil(INTERVALS * windows.activations[:, SIDE] / largest).astype(int) - 1
    scores = np.full(INTERVALS, np.nan)
    for index in range(INTERVALS):
        inside = expected[(windows.kinds == KINDS.index("interval")) & (middle == index), SIDE]
        if len(inside) >= at_least and len(silent):
            labels = np.arange(len(inside) + len(silent)) < len(inside)
            scores[index] = auc(np.concatenate([inside, silent]), labels)
    return scores


@dataclass(frozen=True)
class LogitTask:
    """Which of a hundred tokens does a unit promote? Half are among its top logits, the others are random (paper)."""

    shown: np.ndarray  # ids of the ten tokens with the largest logit weights, which the explainer sees
    others: np.ndarray  # ids of a hundred random tokens for the explainer to compare them with
    asked: np.ndarray  # ids [100]
    promoted: np.ndarray  # bool [100]: whether each of these has one of the ranks 10 to 59


def logit_task(weights: np.ndarray, counts: np.ndarray, seed: int = 0) -> LogitTask:
    """The task for a unit with logit weights [vocab]. counts [vocab]: occurrences; rare tokens are left out."""
    kept = np.flatnonzero(counts >= RARE)
    if len(kept) < SHOWN + 4 * ASKED:
        raise SaeCoreError(f"{len(kept)} tokens occur {RARE} times or more; the logit task needs {SHOWN + 4 * ASKED}")
    ranked = kept[np.argsort(-weights[kept], kind="stable")]
    drawn = np.random.default_rng(seed).choice(ranked[SHOWN + ASKED :], 3 * ASKED, replace=False)
    asked = np.concatenate([ranked[SHOWN : SHOWN + ASKED], drawn[:ASKED]])
    return LogitTask(ranked[:SHOWN], drawn[ASKED:], asked, np.arange(2 * ASKED) < ASKED)


def bootstrap_medians(scores: np.ndarray, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Medians [draws] of resamples of scores [n]; quantiles of them, or of a difference of two, are intervals."""
    rng = np.random.default_rng(seed)
    return np.median(scores[rng.integers(len(scores), size=(draws, len(scores)))], axis=1)
