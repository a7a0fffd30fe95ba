"""Feature splitting: a feature of a small dictionary returns in a larger one as several, which share out its tokens.

Two dictionaries of one model are compared by what they fire on (paper, section "Feature Splitting"). An edge joins a
feature of the smaller one, here the parent, to one of the larger, the child, if their masked cosine is large. The
result is a graph and not a tree: a child can have several parents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import SaeCoreError
from .evidence import Evidence

if TYPE_CHECKING:
    from scipy.sparse import csr_array

EDGE = 0.4  # masked cosine above which the paper draws an edge
LEAST = 10  # tokens that two features have to share: on a single one, every cosine is 1


@dataclass(frozen=True)
class Graph:
    """The edges between two dictionaries, sorted by parent and then by child; all arrays are [edges]."""

    parents: np.ndarray  # feature of the smaller dictionary
    children: np.ndarray  # feature of the larger one
    on_child: np.ndarray  # cosine over the tokens on which the child fires: large where the child lies in the parent
    on_parent: np.ndarray  # cosine over the tokens on which the parent fires: large where the parent lies in the child
    shared: np.ndarray  # tokens on which both fire

    @property
    def masked(self) -> np.ndarray:
        """The masked cosine, [edges]: the larger of the two."""
        return np.maximum(self.on_child, self.on_parent)

    def children_of(self, parent: int) -> np.ndarray:
        """The features of the larger dictionary that an edge joins to one of the smaller."""
        return self.children[self.parents == parent]

    def parents_of(self, child: int) -> np.ndarray:
        """The features of the smaller dictionary that an edge joins to one of the larger."""
        return self.parents[self.children == child]


def masked_cosine_graph(
    small: Evidence,
    large: Evidence,
    threshold: float = EDGE,
    least: int = LEAST,
    parents: Sequence[int] | np.ndarray | None = None,
    rows: int = 128,
) -> Graph:
    """All pairs of features of two dictionaries whose masked cosine is above a threshold.

    parents: features of the smaller dictionary to ask about, each once; by default all.

    The cosine of two features' activations is taken over the tokens on which one of the two fires, once for each, and
    the larger value counts (paper, section "Feature Splitting"). A small child lies within a large parent: over all
    tokens their cosine would be small, over the child's tokens it is not. Pairs that fire together on fewer than
    `least` tokens are left out, which includes what the paper leaves out, ultralow features: with them, most edges are
    chance (`universality.shuffled` shows how many). The sums are products of sparse matrices, made for `rows` parents
    at a time.

    Raises SaeCoreError unless both are evidence on the same tokens, or where threshold or least are not positive.
    """
    if not np.array_equal(small.contexts.ids, large.contexts.ids):
        raise SaeCoreError("masked_cosine_graph: the evidence is from different texts; take both on the same contexts")
    if threshold <= 0 or least < 1:
        raise SaeCoreError(f"masked_cosine_graph: threshold {threshold} and least {least} have to be positive")
    parent, child = _matrix(small), _matrix(large).T.tocsr()
    parent_squares, child_squares = parent.power(2), child.power(2)
    parent_fires, child_fires = parent.sign(), child.sign()
    parent_norm = np.sqrt(parent_squares.sum(1))
    child_norm = np.sqrt(child_squares.sum(0))
    asked = np.arange(small.n_features) if parents is None else np.unique(np.asarray(parents, int))
    found = [tuple(np.zeros(0, kind) for kind in (int, int, np.float32, np.float32, int))]
    for start in range(0, len(asked), rows):
        block = asked[start : start + rows]
        products = (parent[block] @ child).toarray()
        # What is left of a feature's length on the tokens where the other one fires.
        parent_left = np.sqrt((parent_squares[block] @ child_fires).toarray())
        child_left = np.sqrt((parent_fires[block] @ child_squares).toarray())
        on_child = _ratio(products, parent_left * child_norm)
        on_parent = _ratio(products, child_left * parent_norm[block, None])
        shared = (parent_fires[block] @ child_fires).toarray()
        edges = (np.maximum(on_child, on_parent) > threshold) & (shared >= least)
        row, column = edges.nonzero()
        found.append((block[row], column, on_child[edges], on_parent[edges], shared[edges].astype(int)))
    return Graph(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _matrix(evidence: Evidence) -> csr_array:
    """Activations as a sparse matrix [n_features, places]."""
    from scipy.sparse import csr_array

    shape = evidence.n_features, evidence.contexts.ids.size
    return csr_array((evidence.values, evidence.places, evidence.starts), shape=shape)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


@dataclass(frozen=True)
class Family:
    """A feature of a small dictionary and some of a larger one, on one text."""

    parent: int
    children: np.ndarray  # [k]
    values: np.ndarray  # [n], the parent's activations
    fires: np.ndarray  # bool [k, n], whether each child fires on each of the parent's tokens
    inside: np.ndarray  # [k], share of each child's activation on the parent's tokens

    @property
    def shares(self) -> np.ndarray:
        """Share of the parent's activation on tokens where each child fires, [k]."""
        return self.fires @ self.values / self.values.sum()

    @property
    def cover(self) -> float:
        """Share of the parent's activation on tokens where at least one child fires."""
        return float(self.values[self.fires.any(0)].sum() / self.values.sum())

    @cached_property
    def order(self) -> np.ndarray:
        """Rows of the children, each the one that covers most of what those before it have left uncovered, [k]."""
        fires, left, rows = self.fires.astype(np.float32), self.values.astype(np.float32), []
        waiting = np.ones(len(fires), bool)
        while waiting.any():
            best = int(np.where(waiting, fires @ left, -1).argmax())
            rows.append(best)
            waiting[best] = False
            left = left * (1 - fires[best])
        return np.array(rows, int)

    @property
    def union(self) -> np.ndarray:
        """The cover by the first child alone, the first two, and so on, in the family's `order`, [k]."""
        covered = np.logical_or.accumulate(self.fires[self.order], axis=0)
        return covered @ self.values / self.values.sum()

    def needed(self, cover: float = 0.9) -> int | None:
        """How many children, in order, it takes to reach a cover; None where all together do not."""
        reached = self.union >= cover
        return int(reached.argmax()) + 1 if reached.any() else None

    def among(self, rows: np.ndarray | Sequence[int]) -> Family:
        """The family with some of its children alone: their rows, or true and false for each."""
        rows = np.asarray(rows)
        return Family(self.parent, self.children[rows], self.values, self.fires[rows], self.inside[rows])


def family(small: Evidence, large: Evidence, parent: int, children: Sequence[int] | np.ndarray) -> Family:
    """Measure how children of a larger dictionary share out a parent of a smaller one.

    Choose them on one part of a text and measure on another: the best of many candidates look better where they were
    chosen. Raises SaeCoreError where the parent is silent, or the evidence is from different texts.
    """
    if small.contexts.ids.shape != large.contexts.ids.shape:
        raise SaeCoreError("family: the evidence is from different texts; take both on the same contexts")
    places, values = small.of(parent)
    if not len(places):
        raise SaeCoreError(f"family: feature {parent} never fires on this text, so nothing can share it out")
    index = np.full(small.contexts.ids.size, -1, np.int32)
    index[places] = np.arange(len(places))
    fires, inside = np.zeros((len(children), len(places)), bool), np.zeros(len(children))
    for row, child in enumerate(children):
        child_places, child_values = large.of(child)
        at = index[child_places]
        fires[row, at[at >= 0]] = True
        inside[row] = child_values[at >= 0].sum() / max(child_values.sum(), 1e-12)
    return Family(parent, np.asarray(children, int), values, fires, inside)


def top_tokens(evidence: Evidence, vocab_size: int, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """For each feature, the tokens with most of its activation, [n_features, n], and their shares of it.

    Sorted by share, most first; a share is 0 where a feature has fewer tokens, or never fires.
    """
    owner = np.repeat(np.arange(evidence.n_features), evidence.counts)
    tokens, shares = np.zeros((evidence.n_features, n), int), np.zeros((evidence.n_features, n))
    token = evidence.contexts.ids.ravel()[evidence.places].astype(np.int64)
    cells, cell = np.unique(owner * vocab_size + token, return_inverse=True)
    mass = np.bincount(cell, weights=evidence.values)
    feature = cells // vocab_size
    order = np.lexsort((cells, -mass, feature))
    starts = np.searchsorted(feature, np.arange(evidence.n_features + 1))
    total = np.bincount(feature, weights=mass, minlength=evidence.n_features)
    for row in range(evidence.n_features):
        best = order[starts[row] : starts[row + 1]][:n]
        tokens[row, : len(best)] = cells[best] % vocab_size
        shares[row, : len(best)] = mass[best] / total[row]
    return tokens, shares
