"""Universality: do two models have the same features? Each feature of one is compared with every one of the other.

Three things can be compared, each by Pearson's correlation: when two features are active, what they would do to the
logits, and both at once in their attributions (paper, section "Universality"). The partner of a feature is the one
that it correlates best with. Neurons can be put into the place of features, as their evidence has the same form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import SaeCoreError
from .evidence import Evidence
from .language_model import LanguageModel
from .metrics import ULTRALOW_DENSITY
from .tokens import Contexts, token_bytes

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def need_same_tokens(first: LanguageModel, second: LanguageModel) -> None:
    """Raise SaeCoreError unless the tokens of two models are the same, so that there is something to correlate."""
    if token_bytes(first.tokenizer) != token_bytes(second.tokenizer):
        names = f"{second.name} and {first.name}"
        raise SaeCoreError(f"{names} have different tokens: nothing to correlate; take models with one tokeniser")


def correlations(first: Evidence, second: Evidence, rows: int = 512) -> np.ndarray:
    """Pearson correlation of each feature of one evidence with each of another, float32 [n_first, n_second].

    Over all tokens but column 0, also those on which neither is active; 0 where a feature is constant. The sums of
    products are a product of sparse matrices, made for `rows` features at a time: its time goes with the pairs of
    features that are active on one token, its memory with the entries.

    Raises SaeCoreError unless both are about the same tokens.
    """
    if not np.array_equal(first.contexts.ids, second.contexts.ids):
        raise SaeCoreError("correlations: the evidence is from different texts; take both on the same contexts")
    n = first.n_tokens
    one, other = _matrix(first), _matrix(second)
    (sums, spread), (other_sums, other_spread) = _moments(one, n), _moments(other, n)
    other = other.T.tocsr()  # [places, n_second], once for all blocks
    found = np.zeros((first.n_features, second.n_features), np.float32)
    for start in range(0, first.n_features, rows):
        block = slice(start, start + rows)
        covariance = (one[block] @ other).toarray() - np.outer(sums[block] / n, other_sums)
        scale = np.outer(spread[block], other_spread)
        np.divide(covariance, scale, out=found[block], where=scale > 0, casting="same_kind")
    return found


def _matrix(evidence: Evidence) -> csr_array:
    """Activations as a sparse matrix [n_features, places], in float64, as sums over a million tokens need it."""
    from scipy.sparse import csr_array

    starts = evidence.starts.astype(np.int32 if len(evidence.values) < 2**31 else np.int64)
    shape = evidence.n_features, evidence.contexts.ids.size
    return csr_array((evidence.values.astype(np.float64), evidence.places, starts), shape=shape)


def _moments(matrix: csr_array, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each row: the sum, and the square root of the sum of squared deviations over n tokens."""
    sums = matrix.sum(1)
    squares = matrix.power(2).sum(1)
    deviation = squares - sums**2 / n
    return sums, np.sqrt(np.where(deviation > 1e-9 * squares, deviation, 0))  # the rest is rounding of a constant


def logit_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation, over the vocabulary, of logit weights [n_first, vocab] and [n_second, vocab].

    Float32 [n_first, n_second]; 0 where a row is constant. Leave out rare tokens beforehand (`effects.not_rare`).
    """
    return _standardised(first) @ _standardised(second).T


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1; a constant one becomes 0."""
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def attributions(evidence: Evidence, weights: np.ndarray) -> Evidence:
    """What each activation does for the token that came next: f_i(t) · v_i(next token), in the form of evidence.

    weights: logit weights [n_features, vocab]. The values may be negative, and the last column is gone, as nothing
    comes after it. Attributions tell features apart by what they read and by what they write, and weigh each token of
    the vocabulary by how often it is at stake (paper, "attribution similarity").
    """
    ids = evidence.contexts.ids
    n_ctx = ids.shape[1]
    owner = np.repeat(np.arange(evidence.n_features), evidence.counts)
    kept = evidence.places % n_ctx < n_ctx - 1
    places, owner = evidence.places[kept], owner[kept]
    values = evidence.values[kept] * weights[owner, ids.ravel()[places + 1]]
    contexts = Contexts(ids[:, :-1], evidence.contexts.slices[:, :-1], evidence.contexts.slice_names)
    starts = np.append(0, np.bincount(owner, minlength=evidence.n_features).cumsum())
    return Evidence(contexts, starts, places - places // n_ctx, values)


def shuffled(evidence: Evidence, seed: int = 0) -> Evidence:
    """The same activations on other tokens: all features move together, in a random order of the text's tokens.

    How often a feature is active, how strongly, and with which others stays. What it is active on is chance.
    """
    n_contexts, n_ctx = evidence.contexts.ids.shape
    moved = np.arange(n_contexts * n_ctx, dtype=evidence.places.dtype).reshape(n_contexts, n_ctx)
    moved[:, 1:] = np.random.default_rng(seed).permutation(moved[:, 1:].ravel()).reshape(n_contexts, -1)
    matrix = _matrix(evidence)
    matrix.indices = moved.ravel()[matrix.indices]
    matrix.has_sorted_indices = False
    matrix.sort_indices()
    return Evidence(evidence.contexts, evidence.starts, matrix.indices, matrix.data.astype(np.float32))


def alive(evidence: Evidence) -> np.ndarray:
    """Which features are neither dead nor ultralow on a text, bool [n_features]."""
    return evidence.density >= ULTRALOW_DENSITY


class Partners(NamedTuple):
    """Of each feature that was asked about, the best partner in the other model."""

    features: np.ndarray  # [k], of the first model
    partners: np.ndarray  # [k], of the second
    values: np.ndarray  # [k], their correlations

    @property
    def median(self) -> float:
        return float(np.median(self.values))


def best_partners(correlation: np.ndarray, first: np.ndarray, second: np.ndarray) -> Partners:
    """For each feature of one model, the feature of the other that it correlates best with.

    correlation: [n_first, n_second]. first, second: bool, the features that take part (see `alive`).
    Raises SaeCoreError if a side has none.
    """
    if not (first.any() and second.any()):
        raise SaeCoreError("best_partners: one of the two sides has no feature that fires; use more text")
    features, candidates = np.flatnonzero(first), np.flatnonzero(second)
    among = correlation[np.ix_(features, candidates)]
    best = among.argmax(1)
    return Partners(features, candidates[best], among[np.arange(len(features)), best])
