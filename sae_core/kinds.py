"""Kinds of features: by two numbers that can be computed for every unit, and by what comes after it.

Both numbers come from the tokens that a unit is active on. How much of its activation falls on one token? And on how
many of the occurrences of its tokens is it active at all? Together they sort units into four kinds:

                            on most of its tokens' occurrences      on few of them
    mostly one token        single token                            token in context
    many tokens             group of tokens                         context

A neuron can be sorted by the same rules as a feature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import SaeCoreError
from .evidence import Evidence

SINGLE_TOKEN, TOKEN_IN_CONTEXT, TOKEN_GROUP, CONTEXT = range(4)
KINDS = ("single token", "token in context", "group of tokens", "context")
RARE = -1  # the kind of a unit that fired too seldom to tell
LEAST = 20  # on fewer tokens than this


@dataclass(frozen=True)
class TokenProfile:
    """How the activation of every unit is spread over the vocabulary. A unit that is never active has zeros."""

    counts: np.ndarray  # [n_units] activations that were counted
    top_token: np.ndarray  # [n_units] the token with most of the unit's activation
    top_share: np.ndarray  # [n_units] the share of the activation that it has
    entropy: np.ndarray  # [n_units] of the spread, in bits: 2 ** entropy tokens, if all had equal parts
    coverage: np.ndarray  # [n_units] share of the other occurrences of its tokens on which the unit is active


def token_profile(evidence: Evidence, vocab_size: int, offset: int = 0) -> TokenProfile:
    """The profile of every unit over the tokens on which it is active, or, with an offset of 1, those that come next.

    Coverage asks, for an activation drawn in proportion to its strength: of the *other* occurrences of this token in
    the text, on what share is the unit active? Leaving out the occurrence itself matters, as otherwise each token that
    is there only once would look fully covered. A unit none of whose tokens is there twice has a coverage of 0.

    Raises SaeCoreError for an offset that no context has room for.
    """
    ids = evidence.contexts.ids
    n_ctx = ids.shape[1]
    if not 0 <= offset < n_ctx - 1:
        raise SaeCoreError(f"token_profile: offset = {offset} must be at least 0 and less than {n_ctx - 1}")
    occurrences = np.bincount(ids[:, 1 + offset :].ravel(), minlength=vocab_size)
    counts, top_token = np.zeros((2, evidence.n_features), np.int64)
    top_share, entropy, coverage = np.zeros((3, evidence.n_features))
    for unit in range(evidence.n_features):
        places, values = evidence.of(unit)
        inside = places % n_ctx + offset < n_ctx
        active_on = ids.ravel()[places[inside] + offset]
        if not len(active_on):
            continue
        hits = np.bincount(active_on, minlength=vocab_size)
        tokens = np.flatnonzero(hits)
        mass = np.bincount(active_on, weights=values[inside], minlength=vocab_size)[tokens]
        share = mass / mass.sum()
        counts[unit] = len(active_on)
        top_token[unit], top_share[unit] = tokens[share.argmax()], share.max()
        entropy[unit] = abs((share * np.log2(share)).sum())  # never a negative zero
        others = occurrences[tokens] - 1
        repeated = others > 0
        if repeated.any():
            coverage[unit] = np.average((hits[tokens] - 1)[repeated] / others[repeated], weights=mass[repeated])
    return TokenProfile(counts, top_token, top_share, entropy, coverage)


def kinds(profile: TokenProfile, concentrated: float = 0.5, covered: float = 0.5, least: int = LEAST) -> np.ndarray:
    """The kind of every unit [n_units]: an index into `KINDS`, or RARE where it is active on fewer than `least` tokens.

    concentrated: the least share of the activation on one token that counts as "mostly one token".
    covered: the least coverage that counts as "on most of its tokens' occurrences".
    """
    one, most = profile.top_share >= concentrated, profile.coverage >= covered
    kind = np.where(one, np.where(most, SINGLE_TOKEN, TOKEN_IN_CONTEXT), np.where(most, TOKEN_GROUP, CONTEXT))
    return np.where(profile.counts >= least, kind, RARE)


def logit_percentiles(evidence: Evidence, logit_weights: np.ndarray, offset: int = 1) -> np.ndarray:
    """How high a unit's logit weights rank the tokens that come after its activations, [n_units], from 0 to 1.

    logit_weights: [n_units, vocab_size], what each unit adds to the logits (`effects.logit_weights`). 1 means that the
    token that comes is always the one that the unit promotes most; 0.5 is chance. Activations count in proportion to
    their strength. With an offset of 0: the tokens themselves on which it is active. NaN where a unit is never active.
    """
    if len(logit_weights) != evidence.n_features:
        units = f"{len(logit_weights)} units' logit weights for the evidence of {evidence.n_features}"
        raise SaeCoreError(f"logit_percentiles: {units}; they must be of the same dictionary")
    ids = evidence.contexts.ids
    n_ctx = ids.shape[1]
    found = np.full(evidence.n_features, np.nan)
    rank = np.empty(logit_weights.shape[1])
    for unit in np.flatnonzero(evidence.counts):
        places, values = evidence.of(unit)
        inside = places % n_ctx + offset < n_ctx
        if inside.any():
            rank[np.argsort(logit_weights[unit])] = np.linspace(0, 1, len(rank))
            found[unit] = np.average(rank[ids.ravel()[places[inside] + offset]], weights=values[inside])
    return found


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share, hits of n, by Wilson's formula: (lower end, upper end).

    It stays within 0 and 1 and is right for shares near them, where "± two standard errors" is not.
    Raises SaeCoreError for n = 0 or hits that are not between 0 and n.
    """
    if not 0 <= hits <= n or n == 0:
        raise SaeCoreError(f"wilson_interval: {hits} hits of {n} are no share")
    share = hits / n
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, center - half), min(1.0, center + half)
